"""QUANTIZE, DEQUANTIZE and CAST.

Sources: TFLM kernels/quantize_common.cc, dequantize_common.cc, cast.cc and the reference kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import (
    INT32_MAX,
    INT32_MIN,
    MAX_SHIFT,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
)
from tflnest.graph import Tensor
from tflnest.kernels import lookup
from tflnest.kernels.checks import (
    input_tensor,
    leads_with_samples,
    output_tensor,
    require_arity,
    require_shape,
    require_type,
    scale_of,
    unsupported,
    zero_point_of,
)
from tflnest.kernels.registry import Arrays, Kernel, Node, register
from tflnest.quantization import quantize

#: Output types of QUANTIZE by input type.
QUANTIZE_TYPES = {
    "FLOAT32": ("INT8", "INT16"),
    "INT8": ("INT8", "UINT8", "INT16", "INT32"),
    "UINT8": ("INT8",),
    "INT16": ("INT8", "INT16", "INT32"),
    "INT32": ("INT8", "INT16"),
}

CAST_TYPES = ("INT8", "UINT8", "INT16", "INT32", "UINT32", "INT64", "FLOAT32", "BOOL")


def _tensors(node: Node) -> tuple[Tensor, Tensor]:
    require_arity(node, 1)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_shape(node, output, tensor.shape)
    return tensor, output


def _elementwise(node: Node, function: Callable[[NDArray[Any]], NDArray[Any]]) -> Kernel:
    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        return (function(values),)

    return Kernel(evaluate, leads_with_samples(node))


def quantize_factor(node: Node, tensor: Tensor, output: Tensor) -> tuple[int, int]:
    """Multiplier and shift from one integer quantization to another.

    Raises:
        UnsupportedError: The scales are too far apart.
        FormatError: A scale or zero point makes no sense.
    """
    real = scale_of(node, tensor) / scale_of(node, output)
    multiplier, shift = quantize_multiplier(real)
    if shift > MAX_SHIFT:
        raise unsupported(node, f"its scales are too far apart: a factor of {real:g} overflows 32 bits")
    return multiplier, shift


def _requantize(node: Node, tensor: Tensor, output: Tensor) -> Callable[[NDArray[Any]], NDArray[Any]]:
    factor = quantize_factor(node, tensor, output)
    zero_in, zero_out = zero_point_of(node, tensor), zero_point_of(node, output)
    info = np.iinfo(output.dtype)

    def function(values: NDArray[Any]) -> NDArray[Any]:
        centred = np.clip(values.astype(np.int64) - zero_in, INT32_MIN, INT32_MAX)
        scaled = multiply_by_quantized_multiplier(centred, *factor, node.rounding)
        return np.clip(scaled + zero_out, info.min, info.max).astype(output.dtype)

    return function


@register("QUANTIZE")
def prepare_quantize(node: Node) -> Kernel:
    """QUANTIZE from real values, or from one integer quantization to another."""
    tensor, output = _tensors(node)
    require_type(node, tensor, QUANTIZE_TYPES)
    require_type(node, output, QUANTIZE_TYPES[tensor.type])
    if tensor.type == "FLOAT32":
        scale, zero_point, dtype = scale_of(node, output), zero_point_of(node, output), output.dtype
        return _elementwise(node, lambda values: quantize(values, scale, zero_point, dtype))
    function = _requantize(node, tensor, output)
    if tensor.type == output.type == "INT8":
        return Kernel(lookup.unary(lookup.table_of(function)), leads_with_samples(node))
    return _elementwise(node, function)


@register("DEQUANTIZE")
def prepare_dequantize(node: Node) -> Kernel:
    """DEQUANTIZE: INT8, UINT8 or INT16 to FLOAT32, multiplied in float64."""
    tensor, output = _tensors(node)
    require_type(node, tensor, ("INT8", "UINT8", "INT16"))
    require_type(node, output, ("FLOAT32",))
    info = np.iinfo(tensor.dtype)
    scale, zero_point = scale_of(node, tensor), zero_point_of(node, tensor)
    with np.errstate(all="ignore"):
        real = (scale * (np.arange(info.min, info.max + 1) - zero_point)).astype(np.float32)
    table = np.roll(real, info.min)  # indexed by the value's bits, negative ones last
    unsigned = np.dtype(f"u{tensor.dtype.itemsize}")
    return _elementwise(node, lambda values: table.take(values.view(unsigned)))


@register("CAST")
def prepare_cast(node: Node) -> Kernel:
    """CAST of the stored values as C does it; scales play no part."""
    tensor, output = _tensors(node)
    require_type(node, tensor, CAST_TYPES)
    require_type(node, output, CAST_TYPES)

    def function(values: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            return values.astype(output.dtype)

    return _elementwise(node, function)
