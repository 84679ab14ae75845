"""Reference integer kernels: numpy, bit-exact with TFLM's."""

from __future__ import annotations

from tflnest.kernels import (
    activation,
    conversion,
    convolution,
    decoding,
    depthwise,
    elementwise,
    fully_connected,
    joining,
    normalization,
    pooling,
    reduction,
    reshaping,
    resize,
    slicing,
    softmax,
    transpose_conv,
)
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, prepare, register, supported_operators

__all__ = [
    "Arrays",
    "Evaluate",
    "Kernel",
    "Node",
    "activation",
    "conversion",
    "convolution",
    "decoding",
    "depthwise",
    "elementwise",
    "fully_connected",
    "joining",
    "normalization",
    "pooling",
    "prepare",
    "reduction",
    "register",
    "reshaping",
    "resize",
    "slicing",
    "softmax",
    "supported_operators",
    "transpose_conv",
]
