"""What convolutions and fully connected layers share: quantization, checks, exact sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import Requantizer, Rounding, activation_range, quantize_multipliers
from tflnest.graph import Tensor
from tflnest.kernels.checks import (
    fused_activation,
    input_tensor,
    malformed,
    output_tensor,
    require_shape,
    require_type,
    scale_of,
    zero_point_of,
)
from tflnest.kernels.geometry import Window, dilations, image_size, strides
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node
from tflnest.kernels.workspace import BLOCK_ELEMENTS, scratch
from tflnest.requantization import effective_scales

INT8_MIN, INT8_MAX = -128, 127

#: Integers up to this magnitude are exact in float32; every partial sum of a float32 gemm must stay below.
EXACT_FLOAT32 = 1 << 24

#: Elements of the larger gemm operand per block; as float32 it shares the cache with the accumulators.
GEMM_BLOCK_ELEMENTS = 1 << 17


@dataclass(frozen=True)
class Requantization:
    """From int32 accumulators of (input - input_zero_point) * weight, plus bias, to int8 outputs.

    Attributes:
        multiplier: int32, shape (channels,); `tflnest.fixedpoint.quantize_multipliers`.
        shift: Integers, shape (channels,), positive = left.
        input_zero_point: -128 to 127.
        output_zero_point: -128 to 127.
        activation_min: Smallest output.
        activation_max: Largest output.
        rounding: Which fixed-point rounding.
    """

    multiplier: NDArray[np.int32]
    shift: NDArray[Any]
    input_zero_point: int
    output_zero_point: int
    activation_min: int = INT8_MIN
    activation_max: int = INT8_MAX
    rounding: Rounding = Rounding.DOUBLE

    def requantizer(
        self, weights: NDArray[Any], bias: NDArray[np.int32] | None, centred: bool = False
    ) -> Requantizer:
        """Prepare the requantization of sums of products.

        Args:
            weights: Integers, shape (products, channels): what each channel's sum is made of.
            bias: int32, shape (channels,), or None.
            centred: Whether the sums are of (input - input_zero_point) * weight; otherwise of input * weight
                with the zero point in the padding, and the difference is folded into the offset.
        """
        wide = weights.astype(np.int64)
        positive = np.maximum(wide, 0).sum(axis=0)
        negative = np.minimum(wide, 0).sum(axis=0)
        addend = np.zeros(wide.shape[1], np.int64) if bias is None else bias.astype(np.int64)
        smallest, largest = INT8_MIN - self.input_zero_point, INT8_MAX - self.input_zero_point
        return Requantizer(
            np.broadcast_to(self.multiplier, addend.shape),
            np.broadcast_to(self.shift, addend.shape),
            output_zero_point=self.output_zero_point,
            activation_min=self.activation_min,
            activation_max=self.activation_max,
            low=positive * smallest + negative * largest + addend,
            high=positive * largest + negative * smallest + addend,
            offset=addend if centred else addend - self.input_zero_point * (positive + negative),
            rounding=self.rounding,
        )


def exact_dtype(weights: NDArray[Any], largest_input: int = -INT8_MIN) -> type[np.float32] | type[np.float64]:
    """The smaller float type in which sums of products are exact in any order.

    Args:
        weights: Integers, shape (products, channels).
        largest_input: Bound of |input|.
    """
    sums = np.abs(weights.astype(np.int64)).sum(axis=0)
    return np.float32 if int(sums.max(initial=0)) * largest_input < EXACT_FLOAT32 else np.float64


class SumsOfProducts:
    """Matrix product and requantization in one step, exact in floating point.

    Args:
        weights: Integers, shape (products, channels), or (groups, products, channels / groups).
        bias: int32, shape (channels,), or None.
        requantization: From accumulators to outputs.

    Attributes:
        dtype: In which the left operand is expected.
        channels: Of the output.
    """

    def __init__(
        self, weights: NDArray[Any], bias: NDArray[np.int32] | None, requantization: Requantization
    ) -> None:
        flat = weights if weights.ndim == 2 else weights.transpose(1, 0, 2).reshape(weights.shape[1], -1)
        self.dtype = exact_dtype(flat)
        self.channels = flat.shape[1]
        self._weights = np.ascontiguousarray(weights, dtype=self.dtype)
        self._requantizer = requantization.requantizer(flat, bias)

    def __call__(self, left: NDArray[Any], out: NDArray[np.int8]) -> None:
        """Multiply and requantize one block.

        Args:
            left: Input values, shape (rows, products), or (groups, rows, products); the caller's to reuse.
            out: Filled, C-contiguous, shape (rows, channels).
        """
        rows = left.shape[-2]
        if left.ndim == 2:
            sums = scratch("sums", (rows, self.channels), self.dtype)
            np.matmul(left, self._weights, out=sums)
        else:
            grouped = scratch("grouped sums", (left.shape[0], rows, self._weights.shape[2]), self.dtype)
            np.matmul(left, self._weights, out=grouped)
            sums = scratch("sums", (rows, left.shape[0], self._weights.shape[2]), self.dtype)
            np.copyto(sums, grouped.transpose(1, 0, 2))
            sums = sums.reshape(rows, self.channels)
        requantize(self._requantizer, sums, out)

    def of_rows(self, source: NDArray[np.int8]) -> NDArray[np.int8]:
        """Multiply and requantize any number of rows, in blocks.

        Args:
            source: int8, shape (rows, products); one group only.

        Returns:
            int8, shape (rows, channels).
        """
        rows, products = source.shape
        out = np.empty((rows, self.channels), np.int8)
        step = max(GEMM_BLOCK_ELEMENTS // max(products, self.channels), 8)
        for start in range(0, rows, step):
            part = source[start : start + step]
            left = scratch("columns", part.shape, self.dtype)
            np.copyto(left, part)
            self(left, out[start : start + step])
        return out


def requantize(requantizer: Requantizer, sums: NDArray[Any], out: NDArray[np.int8]) -> None:
    """Requantize a block with this thread's scratch memory."""
    elements = min(sums.size, BLOCK_ELEMENTS + sums.shape[1])
    requantizer(sums, out, scratch("requantize", (elements,), np.float64))


def activation(arrays: Arrays) -> NDArray[Any]:
    """The first input, which is always there."""
    values = arrays[0]
    assert values is not None
    return values


# ------------------------------------------------------------------------------------------------- checks


def check_rank(node: Node, tensor: Tensor, rank: int) -> None:
    """Raise FormatError unless a tensor has so many dimensions, none of them 0."""
    if len(tensor.shape) != rank or 0 in tensor.shape:
        raise malformed(
            node,
            f"tensor {tensor.label} has shape {list(tensor.shape)}; {rank} dimensions are expected, none of them 0",
        )


def check_activation(node: Node, tensor: Tensor) -> None:
    """Raise unless a tensor is int8 with one sane scale and zero point."""
    require_type(node, tensor, ("INT8",))
    scale_of(node, tensor)
    zero_point_of(node, tensor)


def check_images(node: Node, source: Tensor, weights: Tensor, output: Tensor) -> None:
    """Raise unless the tensors of a convolution have four dimensions and its activations are int8."""
    for tensor in (source, weights, output):
        check_rank(node, tensor, 4)
    check_activation(node, source)
    check_activation(node, output)


def check_bias(node: Node, bias: Tensor | None, channels: int) -> None:
    """Raise unless a bias is absent or has one int32 per channel."""
    if bias is not None:
        require_type(node, bias, ("INT32",))
        if bias.size != channels:
            raise malformed(
                node, f"its bias, tensor {bias.label}, has {bias.size} values for {channels} output channels"
            )


def filter_scales(node: Node, weights: Tensor, channels: int) -> NDArray[np.float32]:
    """Scales of a filter: one, or one per output channel.

    Raises:
        UnsupportedError: The filter is not int8.
        FormatError: It has no scale, not as many as channels, or one that is negative, infinite or NaN.
    """
    require_type(node, weights, ("INT8",))
    filter_name = f"its filter, tensor {weights.label},"
    if weights.quantization is None:
        raise malformed(node, f"{filter_name} has no scale")
    scales = weights.quantization.scale
    if scales.size not in (1, channels):
        raise malformed(node, f"{filter_name} has {scales.size} scales for {channels} output channels")
    if not np.all(np.isfinite(scales) & (scales >= 0.0)):
        raise malformed(node, f"{filter_name} has a scale that is negative, infinite or not a number")
    return scales


# ---------------------------------------------------------------------------------------------- assembling


def optional_input(node: Node, position: int) -> Tensor | None:
    """An input that may be absent."""
    return node.inputs[position] if position < len(node.inputs) else None


def requantization(node: Node, source: Tensor, scales: NDArray[np.float32]) -> Requantization:
    """Requantization of a node from the scales of its tensors.

    Args:
        node: Its output gives the scale, the zero point and the activation range.
        source: Its activation input.
        scales: Of its filter, shape (1,) or (channels,).
    """
    output = output_tensor(node)
    multiplier, shift = quantize_multipliers(effective_scales(source.scale, scales, output.scale))
    low, high = activation_range(fused_activation(node), output.scale, output.zero_point)
    return Requantization(multiplier, shift, source.zero_point, output.zero_point, low, high, node.rounding)


@dataclass(frozen=True)
class CheckedConvolution:
    """A CONV_2D or DEPTHWISE_CONV_2D that makes sense.

    Attributes:
        source: Its activation input.
        weights: Its filter.
        bias: None where there is none.
        output: Its output.
        window: Placement of the filter.
        requantization: From accumulators to outputs.
        groups: Each reads its own share of the input channels.
    """

    source: Tensor
    weights: Tensor
    bias: Tensor | None
    output: Tensor
    window: Window
    requantization: Requantization
    groups: int


def checked_convolution(node: Node, taps: tuple[int, int], channels: int, groups: int) -> CheckedConvolution:
    """Check what CONV_2D and DEPTHWISE_CONV_2D have in common, once the filter goes with the input.

    Args:
        node: Inputs are image, filter and an optional bias.
        taps: Filter size (height, width).
        channels: Of the output.
        groups: Each reads its own share of the input channels.

    Raises:
        UnsupportedError: The filter is not int8.
        FormatError: Scales, bias or output contradict the filter.
    """
    source, weights, output = input_tensor(node, 0), input_tensor(node, 1), output_tensor(node)
    scales = filter_scales(node, weights, channels)
    bias = optional_input(node, 2)
    check_bias(node, bias, channels)
    window = convolution_window(node, source, output, taps, channels)
    return CheckedConvolution(
        source, weights, bias, output, window, requantization(node, source, scales), groups
    )


#: Makes the evaluating function from weights and bias.
Core = Callable[[NDArray[Any], NDArray[Any] | None], Evaluate]


def kernel_with_weights(
    node: Node, core: Core, batchable: bool, *, source: int = 0, weights: int = 1, bias: int = 2
) -> Kernel:
    """A kernel whose weights and bias are constants, or are computed by other operators.

    Args:
        node: The operator.
        core: Makes the evaluating function from the two arrays.
        batchable: Whether the activations have a sample dimension.
        source: Which input is the activation.
        weights: Which input is the filter.
        bias: Which input is the bias; it may be absent.
    """
    filter_tensor, bias_tensor = input_tensor(node, weights), optional_input(node, bias)
    addend = None if bias_tensor is None else bias_tensor.data
    if filter_tensor.data is not None and (bias_tensor is None or addend is not None):
        constant = core(filter_tensor.data, None if addend is None else addend.reshape(-1))
        return Kernel(constant if source == 0 else lambda arrays: constant((arrays[source],)), batchable)

    def evaluate(arrays: Arrays) -> tuple[NDArray[Any], ...]:
        values = arrays[weights]
        added = None if bias_tensor is None else arrays[bias]
        assert values is not None
        return core(values, None if added is None else added.reshape(-1))((arrays[source],))

    return Kernel(evaluate, False)


def convolution_window(
    node: Node, source: Tensor, output: Tensor, taps: tuple[int, int], channels: int
) -> Window:
    """How the filter of a convolution moves over its input; the output must have the shape that follows.

    Args:
        node: The operator; its options give padding, strides and dilations.
        source: (samples, height, width, channels).
        output: Checked.
        taps: Filter size (height, width).
        channels: Of the output.

    Raises:
        FormatError: The output has another shape, or the window does not fit.
    """
    options = node.operator.options
    window = Window.sliding(
        options.get("padding", ""), taps, strides(options), dilations(options), image_size(source.shape)
    )
    require_shape(node, output, (source.shape[0], *window.output, channels))
    return window
