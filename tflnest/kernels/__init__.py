"""Reference integer kernels: numpy, bit-exact with TFLM's."""

from __future__ import annotations

from tflnest.kernels import convolution, depthwise, fully_connected, transpose_conv
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, prepare, register, supported_operators

__all__ = [
    "Arrays",
    "Evaluate",
    "Kernel",
    "Node",
    "convolution",
    "depthwise",
    "fully_connected",
    "prepare",
    "register",
    "supported_operators",
    "transpose_conv",
]
