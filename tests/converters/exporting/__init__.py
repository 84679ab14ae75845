"""Tests of the exporters for stock runtimes."""
