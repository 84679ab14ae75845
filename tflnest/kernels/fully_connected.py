"""FULLY_CONNECTED: int8, one scale or one per output (TFLM reference/integer_ops/fully_connected.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.graph import Tensor
from tflnest.kernels import quantized
from tflnest.kernels.checks import (
    input_tensor,
    malformed,
    output_tensor,
    require_arity,
    unsupported,
    zero_point_of,
)
from tflnest.kernels.quantized import Requantization, SumsOfProducts
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, register

#: Largest difference between bias scale and input scale * filter scale, in output scales, that TFLM takes.
BIAS_SCALE_TOLERANCE = 0.02


def fully_connected(
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    requantization: Requantization,
    output_shape: tuple[int, ...],
    filter_zero_point: int = 0,
) -> Evaluate:
    """Prepare a fully connected layer.

    Args:
        weights: Shape (outputs, inputs).
        bias: Shape (outputs,), or None.
        requantization: From accumulators to outputs.
        output_shape: Ends in `outputs`; the leading dimension follows from the input.
        filter_zero_point: Subtracted from the weights.

    Returns:
        A function of one int8 array of any shape whose size is a multiple of `inputs`, to one int8 array.
    """
    matrix = weights.T.astype(np.int16) - np.int16(filter_zero_point)
    sums = SumsOfProducts(matrix, bias, requantization)
    inputs = weights.shape[1]
    shape = (-1, *output_shape[1:])

    def evaluate(arrays: Arrays) -> tuple[NDArray[Any], ...]:
        rows = quantized.activation(arrays).reshape(-1, inputs)
        return (sums.of_rows(rows).reshape(shape),)

    return evaluate


def _check_bias_scale(node: Node, source: Tensor, weights: Tensor, output: Tensor) -> None:
    """With one filter scale TFLM refuses a bias whose scale is another one."""
    bias = quantized.optional_input(node, 2)
    if bias is None or (weights.quantization is not None and weights.quantization.per_channel):
        return
    product = source.scale * weights.scale
    if abs(product - bias.scale) / output.scale > BIAS_SCALE_TOLERANCE:
        raise unsupported(
            node,
            f"the scale of its bias is {bias.scale:.6g}, and that of the input times that of the filter "
            f"{product:.6g}; TFLM refuses such a layer",
        )


def _check_shapes(node: Node, source: Tensor, weights: Tensor, output: Tensor) -> None:
    outputs, inputs = weights.shape
    if not source.shape or source.size == 0 or source.size % inputs:
        raise malformed(
            node, f"its input has shape {list(source.shape)}, which {inputs} inputs per row do not divide"
        )
    rows = source.size // inputs
    if not output.shape or output.shape[-1] != outputs or output.size != rows * outputs:
        raise malformed(
            node, f"its output has shape {list(output.shape)}; {rows} rows of {outputs} are expected"
        )


@dataclass(frozen=True)
class CheckedFullyConnected:
    """A FULLY_CONNECTED that makes sense.

    Attributes:
        source: Its activation input.
        weights: Its filter, (outputs, inputs).
        bias: None where there is none.
        output: Its output.
        requantization: From accumulators to outputs.
        filter_zero_point: Subtracted from the weights.
        batchable: Whether the leading dimension counts samples.
    """

    source: Tensor
    weights: Tensor
    bias: Tensor | None
    output: Tensor
    requantization: Requantization
    filter_zero_point: int
    batchable: bool


def checked_fully_connected(node: Node) -> CheckedFullyConnected:
    """Check a FULLY_CONNECTED, with or without `keep_num_dims`.

    Raises:
        UnsupportedError: Not int8, shuffled weights, or scales that TFLM refuses.
        FormatError: The shapes contradict each other.
    """
    require_arity(node, range(2, 4))
    source, weights, output = input_tensor(node, 0), input_tensor(node, 1), output_tensor(node)
    quantized.check_rank(node, weights, 2)
    quantized.check_activation(node, source)
    quantized.check_activation(node, output)
    if node.operator.options.get("weights_format", 0):
        raise unsupported(node, "shuffled weights")
    scales = quantized.filter_scales(node, weights, weights.shape[0])
    _check_shapes(node, source, weights, output)
    bias = quantized.optional_input(node, 2)
    quantized.check_bias(node, bias, weights.shape[0])
    _check_bias_scale(node, source, weights, output)
    requantization = quantized.requantization(node, source, scales)
    filter_zero_point = 0 if scales.size > 1 else zero_point_of(node, weights)
    batchable = source.shape[0] == 1 and output.shape[0] == 1 and len(output.shape) > 1
    return CheckedFullyConnected(source, weights, bias, output, requantization, filter_zero_point, batchable)


@register("FULLY_CONNECTED")
def prepare_fully_connected(node: Node) -> Kernel:
    """FULLY_CONNECTED; see `checked_fully_connected`.

    Raises:
        UnsupportedError: Not int8, shuffled weights, or scales that TFLM refuses.
        FormatError: The shapes contradict each other.
    """
    checked = checked_fully_connected(node)

    def core(values: NDArray[Any], bias: NDArray[Any] | None) -> Evaluate:
        return fully_connected(
            weights=values,
            bias=bias,
            requantization=checked.requantization,
            output_shape=checked.output.shape,
            filter_zero_point=checked.filter_zero_point,
        )

    return quantized.kernel_with_weights(node, core, checked.batchable)
