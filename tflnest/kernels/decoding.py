"""TFLM_DECODE: TensorFlow Lite Micro's operator that expands constants."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tflnest.errors import FormatError, UnsupportedError
from tflnest.graph import Tensor
from tflnest.kernels.registry import Arrays, Kernel, Node, register
from tflnest.lookup_table import DECODE, decode


@register(DECODE)
def decode_tables(node: Node) -> Kernel:
    """Expand lookup tables: each output has two constant inputs, its indices and its header with tables."""
    operator = node.operator
    if not node.outputs or len(node.inputs) != 2 * len(node.outputs):
        raise FormatError(
            f"operator {operator.label} has {len(node.inputs)} inputs and {len(node.outputs)} outputs, and each output "
            "takes two inputs"
        )
    for tensor in node.inputs:
        if tensor is None or tensor.data is None or tensor.type != "UINT8":
            raise UnsupportedError(f"operator {operator.label} reads what is no constant of bytes")
    for tensor in node.outputs:
        if tensor.type != "INT8":
            raise UnsupportedError(f"operator {operator.label} decodes {tensor.type}, only INT8 is supported")
    channels = [_channels(tensor) for tensor in node.outputs]

    def evaluate(arrays: Arrays) -> tuple[NDArray[Any], ...]:
        results = []
        for number, tensor in enumerate(node.outputs):
            packed, ancillary = arrays[2 * number], arrays[2 * number + 1]
            assert packed is not None and ancillary is not None
            count, last = channels[number]
            values = decode(packed.reshape(-1), ancillary.reshape(-1), tensor.size, count, last)
            results.append(values.reshape(tensor.shape))
        return tuple(results)

    return Kernel(evaluate, batchable=False)


def _channels(tensor: Tensor) -> tuple[int, bool]:
    """Number of channels of a decoded tensor, and whether they are its last axis.

    Raises:
        UnsupportedError: They are neither the first axis nor the last; TFLM refuses that too.
    """
    quantization = tensor.quantization
    if quantization is None:
        return 1, False
    channels, axis = quantization.scale.size, quantization.axis
    if channels > 1 and axis == len(tensor.shape) - 1:
        return channels, True
    if axis != 0:
        raise UnsupportedError(
            f"tensor {tensor.label} is decoded along axis {axis}: first or last is supported"
        )
    return channels, False
