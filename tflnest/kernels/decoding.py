"""TFLM_DECODE: TensorFlow Lite Micro's operator that expands constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError, UnsupportedError
from tflnest.graph import Tensor
from tflnest.kernels.registry import Arrays, Kernel, Node, register
from tflnest.lookup_table import DECODE, decode
from tflnest.plane_decoding import TYPE, PlaneEncoding


@register(DECODE)
def decode_constants(node: Node) -> Kernel:
    """Expand constants: each output has two constant inputs, what is encoded and its ancillary data.

    Lookup tables give INT8; planes of all levels give the highest one, INT8 for weights and INT32 for biases.
    """
    operator = node.operator
    if not node.outputs or len(node.inputs) != 2 * len(node.outputs):
        raise FormatError(
            f"operator {operator.label} has {len(node.inputs)} inputs and {len(node.outputs)} outputs, and each output "
            "takes two inputs"
        )
    for tensor in node.inputs:
        if tensor is None or tensor.data is None or tensor.type != "UINT8":
            raise UnsupportedError(f"operator {operator.label} reads what is no constant of bytes")
    nested = [_is_nested(tensor) for tensor in node.inputs[1::2]]
    for tensor, is_nested in zip(node.outputs, nested, strict=True):
        if tensor.type != "INT8" and not (is_nested and tensor.type == "INT32"):
            raise UnsupportedError(f"operator {operator.label} decodes {tensor.type}, only INT8 is supported")
    channels = [
        (1, False) if is_nested else _channels(tensor)
        for tensor, is_nested in zip(node.outputs, nested, strict=True)
    ]

    def evaluate(arrays: Arrays) -> tuple[NDArray[Any], ...]:
        results = []
        for number, tensor in enumerate(node.outputs):
            encoded, ancillary = arrays[2 * number], arrays[2 * number + 1]
            assert encoded is not None and ancillary is not None
            encoded, ancillary = encoded.reshape(-1), ancillary.reshape(-1)
            if nested[number]:
                values = _decode_nested(tensor, encoded, ancillary)
            else:
                values = decode(encoded, ancillary, tensor.size, *channels[number])
            results.append(values.reshape(tensor.shape))
        return tuple(results)

    return Kernel(evaluate, batchable=False)


def _is_nested(ancillary: Tensor | None) -> bool:
    """Whether ancillary data is that of nested weights."""
    assert ancillary is not None and ancillary.data is not None
    return ancillary.data.size > 0 and int(ancillary.data.reshape(-1)[0]) == TYPE


def _decode_nested(tensor: Tensor, encoded: NDArray[np.uint8], ancillary: NDArray[np.uint8]) -> NDArray[Any]:
    encoding = PlaneEncoding.from_bytes(ancillary.tobytes())
    if tensor.type == "INT32":
        return encoding.decode_bias(encoded, tensor.size)
    return encoding.decode_weights(encoded, tensor.size)


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
