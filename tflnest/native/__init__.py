"""The native engine: the device's C kernels, compiled for this machine and called through ctypes."""
