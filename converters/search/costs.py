"""What an assignment of widths costs: bytes, bit operations, energy and latency of a shift-add unit, cycles of a board.

Energy and latency are fitted to the figures that SigmaQuant publishes for its 8 x n-bit shift-add unit
(arXiv 2602.22136: A8W2, A8W4 and mixed ResNet-34 against an INT8 multiplier); they are no measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from converters.search.layers import Layer, Rest
from tflnest.model import Model
from tflnest.nesting import MASTER_BITS
from tflnest.packing import packed_bytes

#: Energy of the shift-add unit relative to an INT8 multiplier: intercept, and slope per mean weight bit.
_ENERGY = 0.638, 0.056

#: Latency relative to the same, per mean weight bit.
_LATENCY = 0.525

#: Estimates the cycles of every operator of a model's main subgraph at its lowest level, in file order.
OperatorCycles = Callable[[Model], Sequence[float]]


@dataclass(frozen=True)
class Costs:
    """Costs of an assignment, activations at 8 bits.

    Attributes:
        bytes: Of all filters in the file.
        bit_operations: Multiply-accumulates times weight bits times activation bits.
        energy: Relative to INT8, fitted.
        latency: Relative to INT8, fitted.
        cycles: Of an inference on a board, estimated; None where no board was named.
    """

    bytes: int
    bit_operations: int
    energy: float
    latency: float
    cycles: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "bytes": self.bytes,
            "bit_operations": self.bit_operations,
            "energy_fitted": self.energy,
            "latency_fitted": self.latency,
            **({} if self.cycles is None else {"cycles_estimated": self.cycles}),
        }


@dataclass(frozen=True)
class Cycles:
    """Estimated cycles of a board.

    Attributes:
        layers: For each searched layer its cycles by width.
        others: Cycles of all other operators.
    """

    layers: tuple[Mapping[int, float], ...]
    others: float


@dataclass(frozen=True)
class CostModel:
    """What assignments of a model cost.

    Attributes:
        layers: The layers that are searched.
        rest: What the filters cost that are not.
        cycles: What a board takes; None leaves it out.
    """

    layers: tuple[Layer, ...]
    rest: Rest = field(default_factory=Rest)
    cycles: Cycles | None = None

    def __call__(self, widths: Sequence[int]) -> Costs:
        """Costs of giving each layer a width."""
        pairs = list(zip(self.layers, widths, strict=True))
        work = self.rest.macs * MASTER_BITS + sum(layer.macs * width for layer, width in pairs)
        mean = work / max(self.rest.macs + sum(layer.macs for layer in self.layers), 1)
        cycles = None
        if self.cycles is not None:
            own = zip(self.cycles.layers, widths, strict=True)
            cycles = self.cycles.others + sum(by_width[width] for by_width, width in own)
        return Costs(
            bytes=self.rest.bytes + sum(layer_bytes(layer, width) for layer, width in pairs),
            bit_operations=work * MASTER_BITS,
            energy=_ENERGY[0] + _ENERGY[1] * mean,
            latency=_LATENCY * mean,
            cycles=cycles,
        )

    @property
    def full(self) -> Costs:
        """Costs at 8 bits throughout."""
        return self((MASTER_BITS,) * len(self.layers))


def layer_bytes(layer: Layer, width: int) -> int:
    """Bytes of a filter in the file: codes with their padding; at 8 bits the plain weights."""
    return layer.weights if width == MASTER_BITS else packed_bytes(layer.weights, width)
