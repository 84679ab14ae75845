"""What an assignment of widths costs: bytes, bit operations, and energy and latency of a shift-add unit.

Energy and latency are fitted to the figures that SigmaQuant publishes for its 8 x n-bit shift-add unit
(arXiv 2602.22136: A8W2, A8W4 and mixed ResNet-34 against an INT8 multiplier); they are no measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converters.search.layers import Layer
from tflnest.nesting import MASTER_BITS

#: Energy of the shift-add unit relative to an INT8 multiplier: intercept, and slope per mean weight bit.
_ENERGY = 0.638, 0.056

#: Latency relative to the same, per mean weight bit.
_LATENCY = 0.525


@dataclass(frozen=True)
class Costs:
    """Costs of an assignment, activations at 8 bits.

    Attributes:
        bytes: Of the weights alone.
        bit_operations: Multiply-accumulates times weight bits times activation bits.
        energy: Relative to INT8, fitted.
        latency: Relative to INT8, fitted.
    """

    bytes: int
    bit_operations: int
    energy: float
    latency: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "bytes": self.bytes,
            "bit_operations": self.bit_operations,
            "energy_fitted": self.energy,
            "latency_fitted": self.latency,
        }


def costs(layers: Sequence[Layer], widths: Sequence[int]) -> Costs:
    """Costs of giving each layer a width.

    Args:
        layers: All layers of the search.
        widths: One per layer.
    """
    bits = sum(layer.weights * width for layer, width in zip(layers, widths, strict=True))
    work = sum(layer.macs * width for layer, width in zip(layers, widths, strict=True))
    mean = work / max(sum(layer.macs for layer in layers), 1)
    return Costs(
        bytes=-(-bits // 8),
        bit_operations=work * MASTER_BITS,
        energy=_ENERGY[0] + _ENERGY[1] * mean,
        latency=_LATENCY * mean,
    )
