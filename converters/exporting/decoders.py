"""Writes operators TFLM_DECODE into a stock model: what every export has in common whose constants are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.graph import Tensor
from tflnest.lookup_table import DECODE
from tflnest.model import Model, add_constant, opcode_index
from tflnest.pruning import prune
from tflnest.schema import schema


class DecoderWriter:
    """Replaces constants of a model by what DECODE operators write.

    TensorFlow Lite Micro may give what is decoded to the operator right behind alone, so each reader gets a decoder of its
    own.

    Args:
        model: Stock operators; its tree is edited.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tree = model.tree

    def constant(self, subgraph: int, values: NDArray[np.uint8]) -> int:
        """Add a constant of bytes; returns the index of its tensor."""
        return add_constant(self._tree, self._tree.subgraphs[subgraph], values, "UINT8")

    def replace(self, subgraph: int, operator: int, position: int, tensor: Tensor) -> int:
        """Let an operator read a tensor that is decoded instead of a constant; returns its index.

        Args:
            subgraph: Index.
            operator: Index in it.
            position: Of the constant among the operator's inputs.
            tensor: The constant.
        """
        target = self._tree.subgraphs[subgraph]
        source = target.tensors[tensor.index]
        decoded = schema().TensorT()
        for field in ("name", "shape", "type"):
            setattr(decoded, field, getattr(source, field))
        decoded.buffer = 0
        decoded.quantization = _quantization(tensor)
        target.tensors.append(decoded)
        inputs = [int(index) for index in target.operators[operator].inputs]
        inputs[position] = len(target.tensors) - 1
        target.operators[operator].inputs = inputs
        return inputs[position]

    def decoder(self, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        """A DECODE operator, not yet inserted.

        Args:
            inputs: For each output an encoded and an ancillary tensor.
            outputs: What it writes.
        """
        decoder = schema().OperatorT()
        decoder.opcodeIndex = opcode_index(self._tree, DECODE, custom=True)
        decoder.inputs = list(inputs)
        decoder.outputs = list(outputs)
        return decoder

    def insert(self, subgraph: int, decoders: Mapping[int, Any]) -> None:
        """Put decoders right before the operators that read them, by their indices."""
        target = self._tree.subgraphs[subgraph]
        operators = []
        for index, operator in enumerate(target.operators):
            operators += [decoders[index], operator] if index in decoders else [operator]
        target.operators = operators

    def finish(self) -> None:
        """Drop what nothing reads any more."""
        prune(self._tree)
        self._model.changed()


def _quantization(tensor: Tensor) -> Any:
    """Scales of a decoded tensor; the axis is 0 for one scale, since decoders refuse others then."""
    assert tensor.quantization is not None
    quantization = schema().QuantizationParametersT()
    quantization.scale = tensor.quantization.scale
    quantization.zeroPoint = tensor.quantization.zero_point
    quantization.quantizedDimension = tensor.quantization.axis if tensor.quantization.per_channel else 0
    return quantization
