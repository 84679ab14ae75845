"""The serial bridge: pages, levels and inferences over a serial line (PROTOCOL.md)."""
