"""Forward passes of float TFLite operators in `keras.ops`, differentiable on every backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from tflnest.errors import UnsupportedError
from tflnest.graph import Operator, Tensor

#: Computes one output from the values of all inputs; constants come as arrays, absent inputs as None.
Forward = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Node:
    """A float operator and its tensors.

    Attributes:
        operator: The operator with its options.
        inputs: Its inputs; None where absent.
        output: Its only output.
    """

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    output: Tensor

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the operator."""
        return self.operator.options


def forward(node: Node) -> Forward:
    """The forward pass of an operator, its fused activation included.

    Raises:
        UnsupportedError: The operator can't be trained.
    """
    make = _OPERATORS.get(node.operator.name)
    if make is None:
        raise UnsupportedError(
            f"operator {node.operator.label} can't be trained",
            f"operators that can: {', '.join(sorted(_OPERATORS))}",
        )
    compute = make(node)
    fused = node.options.get("fused_activation_function", "NONE")
    activate = _ACTIVATIONS.get(fused or "NONE")
    if activate is None:
        raise UnsupportedError(f"operator {node.operator.label} has the fused activation {fused}")
    return lambda values: activate(compute(values))


# --------------------------------------------------------------------------------------------- filters


def _padding(node: Node) -> str:
    return str(node.options.get("padding", "SAME")).lower()


def _strides(node: Node) -> tuple[int, int]:
    return node.options.get("stride_h", 1), node.options.get("stride_w", 1)


def _dilations(node: Node) -> tuple[int, int]:
    return node.options.get("dilation_h_factor", 1), node.options.get("dilation_w_factor", 1)


def _add_bias(sums: Any, values: Sequence[Any]) -> Any:
    return sums if len(values) < 3 or values[2] is None else sums + values[2]


def _convolution(node: Node) -> Forward:
    strides, padding, dilations = _strides(node), _padding(node), _dilations(node)

    def compute(values: Sequence[Any]) -> Any:
        kernel = ops.transpose(values[1], (1, 2, 3, 0))
        sums = ops.conv(values[0], kernel, strides, padding, "channels_last", dilations)
        return _add_bias(sums, values)

    return compute


def _depthwise(node: Node) -> Forward:
    strides, padding, dilations = _strides(node), _padding(node), _dilations(node)
    source, kernel_tensor = node.inputs[0], node.inputs[1]
    assert source is not None and kernel_tensor is not None
    _, height, width, channels = kernel_tensor.shape
    shape = (height, width, source.shape[3], channels // source.shape[3])

    def compute(values: Sequence[Any]) -> Any:
        kernel = ops.reshape(values[1], shape)
        sums = ops.depthwise_conv(values[0], kernel, strides, padding, "channels_last", dilations)
        return _add_bias(sums, values)

    return compute


def _transposed_convolution(node: Node) -> Forward:
    """Inputs: shape of the output, filter, activation, bias."""
    kernel_tensor, source = node.inputs[1], node.inputs[2]
    assert kernel_tensor is not None and source is not None
    strides, padding = _strides(node), _padding(node)
    grown = tuple(
        size * stride + (max(width - stride, 0) if padding == "valid" else 0)
        for size, stride, width in zip(source.shape[1:3], strides, kernel_tensor.shape[1:3], strict=True)
    )
    if grown != node.output.shape[1:3]:
        raise UnsupportedError(
            f"operator {node.operator.label} has an output of {list(node.output.shape[1:3])}, and "
            f"{list(grown)} can be trained",
            "leave out the layer's output_padding",
        )

    def compute(values: Sequence[Any]) -> Any:
        kernel = ops.transpose(values[1], (1, 2, 0, 3))
        sums = ops.conv_transpose(values[2], kernel, strides, padding, None, "channels_last")
        return sums if len(values) < 4 or values[3] is None else sums + values[3]

    return compute


def _fully_connected(node: Node) -> Forward:
    kernel_tensor = node.inputs[1]
    assert kernel_tensor is not None
    inputs = kernel_tensor.shape[1]
    shape = (-1, *node.output.shape[1:])

    def compute(values: Sequence[Any]) -> Any:
        rows = ops.reshape(values[0], (-1, inputs))
        sums = _add_bias(ops.matmul(rows, ops.transpose(values[1])), values)
        return ops.reshape(sums, shape)

    return compute


# ------------------------------------------------------------------------------------------- the others


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Node], Forward]:
    return lambda node: lambda values: function(values[0], values[1])


def _unary(function: Callable[[Any], Any]) -> Callable[[Node], Forward]:
    return lambda node: lambda values: function(values[0])


def _pooling(function: Callable[..., Any]) -> Callable[[Node], Forward]:
    def make(node: Node) -> Forward:
        size = node.options["filter_height"], node.options["filter_width"]
        strides, padding = _strides(node), _padding(node)
        return lambda values: function(values[0], size, strides, padding, "channels_last")

    return make


def _axes(node: Node) -> tuple[int, ...]:
    """The dimensions that the second input names."""
    axes = node.inputs[1]
    if axes is None or axes.data is None:
        raise UnsupportedError(f"operator {node.operator.label} computes its axes")
    return tuple(int(axis) for axis in axes.data.reshape(-1))


def _reduction(function: Callable[..., Any]) -> Callable[[Node], Forward]:
    def make(node: Node) -> Forward:
        axes, keep = _axes(node), bool(node.options.get("keep_dims", False))
        return lambda values: function(values[0], axes, keepdims=keep)

    return make


def _transpose(node: Node) -> Forward:
    order = _axes(node)
    if order[0] != 0:
        raise UnsupportedError(f"operator {node.operator.label} moves the dimension of the samples")
    return lambda values: ops.transpose(values[0], order)


def _parametric_relu(node: Node) -> Forward:
    return lambda values: ops.maximum(values[0], 0.0) + values[1] * ops.minimum(values[0], 0.0)


def _reshape(node: Node) -> Forward:
    source = node.inputs[0]
    if source is None or source.shape[:1] != (1,) or node.output.shape[:1] != (1,):
        raise UnsupportedError(f"operator {node.operator.label} reshapes the dimension of the samples")
    shape = (-1, *node.output.shape[1:])
    return lambda values: ops.reshape(values[0], shape)


def _pad(node: Node) -> Forward:
    widths = node.inputs[1]
    if widths is None or widths.data is None or widths.data[0].any():
        raise UnsupportedError(f"operator {node.operator.label} has no constant padding of samples' insides")
    pairs = tuple((int(before), int(after)) for before, after in widths.data)
    return lambda values: ops.pad(values[0], pairs)


def _concatenation(node: Node) -> Forward:
    axis = int(node.options.get("axis", -1))
    return lambda values: ops.concatenate(list(values), axis)


def _leaky_relu(node: Node) -> Forward:
    slope = float(node.options.get("alpha", 0.2))
    return lambda values: ops.leaky_relu(values[0], slope)


def _softmax(node: Node) -> Forward:
    beta = float(node.options.get("beta", 1.0))
    return lambda values: ops.softmax(values[0] * beta, -1)


_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda values: values,
    "RELU": ops.relu,
    "RELU6": ops.relu6,
    "RELU_N1_TO_1": lambda values: ops.clip(values, -1.0, 1.0),
}

_OPERATORS: dict[str, Callable[[Node], Forward]] = {
    "ADD": _binary(ops.add),
    "AVERAGE_POOL_2D": _pooling(ops.average_pool),
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "HARD_SWISH": _unary(ops.hard_silu),
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _unary(ops.sigmoid),
    "MAXIMUM": _binary(ops.maximum),
    "MAX_POOL_2D": _pooling(ops.max_pool),
    "MEAN": _reduction(ops.mean),
    "MINIMUM": _binary(ops.minimum),
    "MUL": _binary(ops.multiply),
    "PAD": _pad,
    "PRELU": _parametric_relu,
    "RELU": _unary(ops.relu),
    "RELU6": _unary(ops.relu6),
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "SQUEEZE": _reshape,
    "SUB": _binary(ops.subtract),
    "SUM": _reduction(ops.sum),
    "TANH": _unary(ops.tanh),
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transposed_convolution,
}
