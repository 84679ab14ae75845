"""Which widths operators ran with, input by input, and what that cost.

An operator with a filter has two widths in an inference: the bits of its weights, an own level, and the bits at
which it reads its activation. Its cost is counted in bit operations: multiply-accumulates times one times the other.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tflnest.files import write_file
from tflnest.graph import Operator, Subgraph
from tflnest.nested import is_nested, parse
from tflnest.nesting import MASTER_BITS

#: Multiply-accumulates of a pair of dequantization and requantization, which a shift stands in for.
REQUANTIZATION_MACS = 2

#: Input that is the filter of each stock operator that has one, and the input that its output positions come from.
_FILTERS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}


@dataclass(frozen=True)
class WeightedOperator:
    """An operator with a filter.

    Attributes:
        index: Position in the main subgraph; operators of a controller count behind all of its own.
        label: How messages call it: scope, or name where it has none.
        macs: Multiply-accumulates of an inference.
        weights: Elements of its filter.
        activations: Elements that it reads.
        stored_bits: Bits of its weights at its highest level.
    """

    index: int
    label: str
    macs: int
    weights: int
    activations: int
    stored_bits: int = MASTER_BITS


@dataclass(frozen=True)
class OperatorWidths:
    """How often an operator ran with which widths.

    Attributes:
        index: Of the operator; those of a controller count behind all others.
        label: Its scope.
        macs: Multiply-accumulates.
        shares: Share of the inferences by bits of weights and activation.
    """

    index: int
    label: str
    macs: int
    shares: Mapping[tuple[int, int], float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        widths = [
            {"weight_bits": weight, "activation_bits": activation, "share": share}
            for (weight, activation), share in self.shares.items()
        ]
        return {"index": self.index, "label": self.label, "macs": self.macs, "widths": widths}


@dataclass(frozen=True)
class Chosen:
    """What a controller chose, as far as it can run.

    Attributes:
        levels: Own bit-width of the weights, int8 (samples, controlled operators).
        activation_bits: int8 (samples, controlled operators).
        limited: Whether a higher level was chosen, bool (samples, controlled operators).
    """

    levels: NDArray[np.int8]
    activation_bits: NDArray[np.int8]
    limited: NDArray[np.bool_]


@dataclass(frozen=True)
class Widths:
    """Widths of a number of inferences: one row each, one column per operator with a filter.

    Attributes:
        operators: The columns.
        samples: The input that each row belongs to; a margin runs some inputs twice.
        weight_bits: int8 (rows, operators).
        activation_bits: int8 (rows, operators).
        limited: Whether a controller chose a higher level, which was not resident or not allowed; bool
            (rows, operators).
    """

    operators: tuple[WeightedOperator, ...]
    samples: NDArray[np.int64]
    weight_bits: NDArray[np.int8]
    activation_bits: NDArray[np.int8]
    limited: NDArray[np.bool_]

    @classmethod
    def constant(
        cls, operators: Sequence[WeightedOperator], samples: int, bits: Sequence[tuple[int, int]]
    ) -> Widths:
        """The same widths for every input.

        Args:
            operators: The columns.
            samples: Number of inputs.
            bits: Bits of weights and activation of each operator.
        """
        pairs = np.array(list(bits), np.int8).reshape(len(operators), 2)
        shape = samples, len(operators)
        return cls(
            tuple(operators),
            np.arange(samples),
            np.broadcast_to(pairs[:, 0], shape).copy(),
            np.broadcast_to(pairs[:, 1], shape).copy(),
            np.zeros(shape, np.bool_),
        )

    @classmethod
    def joined(cls, parts: Sequence[Widths]) -> Widths:
        """The rows of all parts, which have the same columns."""
        return cls(
            parts[0].operators,
            np.concatenate([part.samples for part in parts]),
            np.concatenate([part.weight_bits for part in parts]),
            np.concatenate([part.activation_bits for part in parts]),
            np.concatenate([part.limited for part in parts]),
        )

    def of_samples(self, samples: NDArray[np.int64]) -> Widths:
        """The same rows for other inputs.

        Args:
            samples: For each input of now the number that it gets.
        """
        return Widths(
            self.operators, samples[self.samples], self.weight_bits, self.activation_bits, self.limited
        )

    def bit_operations(self) -> NDArray[np.int64]:
        """Of every row: multiply-accumulates times weight bits times activation bits."""
        macs = np.array([operator.macs for operator in self.operators], np.int64)
        total: NDArray[np.int64] = bit_operations(macs, self.weight_bits, self.activation_bits).sum(axis=1)
        return total

    def narrowed_activations(self) -> NDArray[np.int64]:
        """Of every row: elements that are read at fewer bits than they have, by a shift each."""
        sizes = np.array([operator.activations for operator in self.operators], np.int64)
        total: NDArray[np.int64] = (self.activation_bits < MASTER_BITS).astype(np.int64) @ sizes
        return total

    def narrowed_weights(self) -> NDArray[np.int64]:
        """Of every row: weights that are used at fewer bits than are stored."""
        sizes = np.array([operator.weights for operator in self.operators], np.int64)
        stored = np.array([operator.stored_bits for operator in self.operators], np.int64)
        total: NDArray[np.int64] = (self.weight_bits < stored).astype(np.int64) @ sizes
        return total

    def save(self, path: str | Path, force: bool = False) -> None:
        """Write them as `.npz`: `operators` (labels), `indices`, `samples`, `weight_bits`, `activation_bits`, `limited`.

        Raises:
            UsageError: The file exists, and `force` is false.
        """
        stream = io.BytesIO()
        np.savez_compressed(
            stream,
            operators=np.array([operator.label for operator in self.operators]),
            indices=np.array([operator.index for operator in self.operators]),
            samples=self.samples,
            weight_bits=self.weight_bits,
            activation_bits=self.activation_bits,
            limited=self.limited,
        )
        write_file(path, stream.getvalue(), force)

    def distribution(self) -> list[dict[tuple[int, int], float]]:
        """For every operator the share of rows with each pair of bits, those of the weights first."""
        shares = []
        for column in range(len(self.operators)):
            pairs = np.stack([self.weight_bits[:, column], self.activation_bits[:, column]], axis=1)
            values, counts = np.unique(pairs, axis=0, return_counts=True)
            shares.append(
                {
                    (int(weight), int(activation)): float(count / len(pairs))
                    for (weight, activation), count in zip(values, counts, strict=True)
                }
            )
        return shares

    def of_operators(self) -> tuple[OperatorWidths, ...]:
        """How often each operator ran with which widths."""
        return tuple(
            OperatorWidths(item.index, item.label, item.macs, shares)
            for item, shares in zip(self.operators, self.distribution(), strict=True)
        )

    def pairs(self, row: int) -> tuple[tuple[int, int], ...]:
        """Bits of weights and activation of every operator in a row."""
        return tuple(zip(self.weight_bits[row].tolist(), self.activation_bits[row].tolist(), strict=True))


def bit_operations(macs: ArrayLike, weight_bits: ArrayLike, activation_bits: ArrayLike) -> NDArray[np.int64]:
    """Multiply-accumulates times the bits of both factors; the arguments are broadcast against each other."""
    widths = np.asarray(weight_bits, np.int64) * np.asarray(activation_bits, np.int64)
    product: NDArray[np.int64] = np.asarray(macs, np.int64) * widths
    return product


def multiply_accumulates(subgraph: Subgraph, operator: Operator) -> int:
    """Of an operator with a filter in one inference: every weight once per output position."""
    tensors = subgraph.tensors
    weights = _filter_size(subgraph, operator)
    if operator.name == "TRANSPOSE_CONV":
        return weights * math.prod(tensors[operator.inputs[2]].shape[:3])
    output = tensors[operator.outputs[0]].shape
    return weights * math.prod(output) // max(output[-1], 1) if output else weights


def weighted_operators(subgraph: Subgraph) -> tuple[WeightedOperator, ...]:
    """The operators of a subgraph that have filters, in order."""
    found = []
    for operator in subgraph.operators:
        nested = parse(operator, subgraph) if is_nested(operator) else None
        if nested is None and (operator.name not in _FILTERS or len(operator.inputs) < 2):
            continue
        source = 2 if operator.name == "TRANSPOSE_CONV" else 0
        found.append(
            WeightedOperator(
                index=operator.index,
                label=_label(subgraph, operator) if nested is None else nested.scope or operator.label,
                macs=multiply_accumulates(subgraph, operator),
                weights=_filter_size(subgraph, operator),
                activations=subgraph.tensors[operator.inputs[source]].size,
                stored_bits=MASTER_BITS if nested is None else nested.nesting.levels[-1],
            )
        )
    return tuple(found)


def _filter_size(subgraph: Subgraph, operator: Operator) -> int:
    if is_nested(operator):
        return parse(operator, subgraph).weights
    return subgraph.tensors[operator.inputs[_FILTERS[operator.name]]].size


def _label(subgraph: Subgraph, operator: Operator) -> str:
    name = subgraph.tensors[operator.inputs[_FILTERS[operator.name]]].name
    return name or operator.label


@dataclass(frozen=True)
class Record:
    """What an engine ran, before it is told operator by operator.

    Attributes:
        subgraph: What ran.
        bits: Static bits of weights and activation of every operator, by index.
        controlled: The operators that a controller chose for.
        chosen: What it chose, batch by batch.
        samples: How many samples ran.
    """

    subgraph: Subgraph
    bits: Mapping[int, tuple[int, int]]
    controlled: Sequence[int]
    chosen: Sequence[Chosen]
    samples: int

    def widths(self) -> Widths:
        """The widths of every sample."""
        operators = weighted_operators(self.subgraph)
        widths = Widths.constant(operators, self.samples, [self.bits[item.index] for item in operators])
        columns = [place for place, item in enumerate(operators) if item.index in self.controlled]
        if self.chosen and columns:
            widths.weight_bits[:, columns] = np.concatenate([part.levels for part in self.chosen])
            widths.activation_bits[:, columns] = np.concatenate(
                [part.activation_bits for part in self.chosen]
            )
            widths.limited[:, columns] = np.concatenate([part.limited for part in self.chosen])
        return widths
