"""How many bytes the weights of a model take: per page, per level, and as separate models.

Two figures compare nesting with keeping a model for every level (the accounting of NestQuant, IEEE TMC
2025): a **switch** from one level to another moves the pages between them, where separate models swap one
model out and the other in; **storage** is the sum of all pages, where separate models are stored whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from tflnest.graph import Graph, Subgraph, Tensor
from tflnest.model import Model
from tflnest.nested import NestedOperator, nested_operators
from tflnest.parts import Part

#: Operators with a filter, and the position of the filter among their inputs.
_FILTERS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}


@dataclass(frozen=True)
class LevelSize:
    """What a level takes.

    Attributes:
        level: Nominal bits.
        page_bytes: Bytes of the page that lifts the model to this level.
        resident_bytes: Bytes of all pages that the level needs.
        separate_bytes: Bytes of the constants of a model of its own with weights of these widths.
        weights_bytes: Bytes of the nested weights alone, packed to these widths.
        page_weights_bytes: Bytes of the nested weights in the page alone.
        bits_per_weight: Resident bits per weight, flat filters included.
    """

    level: int
    page_bytes: int
    resident_bytes: int
    separate_bytes: int
    weights_bytes: int
    page_weights_bytes: int
    bits_per_weight: float


@dataclass(frozen=True)
class SwitchCost:
    """What it takes to go from a level to the next one, or back.

    Attributes:
        low: The lower level.
        high: The higher level.
        page_bytes: Bytes that are paged in or out.
        separate_bytes: Bytes that two separate models would move: one in, the other out.
        weights_page_bytes: As `page_bytes`, of the nested weights alone.
        weights_separate_bytes: As `separate_bytes`, of the nested weights alone.
    """

    low: int
    high: int
    page_bytes: int
    separate_bytes: int
    weights_page_bytes: int
    weights_separate_bytes: int

    @property
    def reduction(self) -> float:
        """Part of the moved bytes that nesting saves, 0 to 1."""
        return _saving(self.page_bytes, self.separate_bytes)

    @property
    def weights_reduction(self) -> float:
        """The same of the nested weights alone: 1 - (low bits) / (bits of both models)."""
        return _saving(self.weights_page_bytes, self.weights_separate_bytes)

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        rates = {"reduction": round(self.reduction, 6), "weights_reduction": round(self.weights_reduction, 6)}
        return {**asdict(self), **rates}


@dataclass(frozen=True)
class Storage:
    """Sizes of a model.

    Attributes:
        levels: One row per level, lowest first.
        flat_filters: Names of the filters that do not nest.
    """

    levels: tuple[LevelSize, ...]
    flat_filters: tuple[str, ...] = ()

    @property
    def nested_bytes(self) -> int:
        """Bytes of all pages."""
        return self.levels[-1].resident_bytes

    @property
    def separate_bytes(self) -> int:
        """Bytes of a separate model for every level."""
        return sum(level.separate_bytes for level in self.levels)

    @property
    def reduction(self) -> float:
        """Part of the stored bytes that nesting saves, 0 to 1."""
        return _saving(self.nested_bytes, self.separate_bytes)

    @property
    def switches(self) -> tuple[SwitchCost, ...]:
        """The cost between neighbouring levels."""
        return tuple(
            SwitchCost(
                low=low.level,
                high=high.level,
                page_bytes=high.page_bytes,
                separate_bytes=low.separate_bytes + high.separate_bytes,
                weights_page_bytes=high.page_weights_bytes,
                weights_separate_bytes=low.weights_bytes + high.weights_bytes,
            )
            for low, high in pairwise(self.levels)
        )

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {
            "nested_bytes": self.nested_bytes,
            "separate_bytes": self.separate_bytes,
            "reduction": round(self.reduction, 6),
            "switches": [switch.to_dict() for switch in self.switches],
        }


def measure_storage(model: Model) -> Storage:
    """Sizes of a model. One that is not nested has one level: the width of its widest filter, and one page.

    Raises:
        FormatError: A nested operator is not sound.
    """
    directory = model.directory
    flat = _flat_filters(model.graph)
    names = tuple(tensor.name or str(tensor.index) for tensor in flat)
    if directory is None:
        width = max((8 * tensor.bytes // max(tensor.size, 1) for tensor in flat), default=8)
        total = _constant_bytes(model.graph)
        bits = _mean_bits([(tensor.size, 8 * tensor.bytes / max(tensor.size, 1)) for tensor in flat])
        return Storage((LevelSize(width, total, total, total, 0, 0, bits),), names)
    nested = nested_operators(model.graph)
    filters = list({item.planes[0]: item for _, item in nested}.values())
    common = sum(segment.size for page in directory.pages for segment in page.segments) - _own_bytes(nested)
    rows: list[LevelSize] = []
    for position, page in enumerate(directory.pages):
        widths = [(item.weights, float(_resident_bits(item, position))) for item in filters]
        before = rows[-1].resident_bytes if rows else 0
        weights = sum(-(-item.weights * item.level_at(position) // 8) for item in filters)
        rows.append(
            LevelSize(
                level=page.level,
                page_bytes=page.size,
                resident_bytes=before + page.size,
                separate_bytes=common + weights + _level_constants(nested, position),
                weights_bytes=weights,
                page_weights_bytes=_page_weights(filters, position),
                bits_per_weight=_mean_bits([*widths, *((tensor.size, 8.0) for tensor in flat)]),
            )
        )
    return Storage(tuple(rows), names)


def _saving(ours: int, theirs: int) -> float:
    return 1.0 - ours / theirs if theirs else 0.0


def _constant_bytes(graph: Graph) -> int:
    """Bytes of all constants; a buffer that several tensors share counts once."""
    sizes = {
        tensor.buffer: tensor.data.nbytes
        for subgraph in graph.subgraphs
        for tensor in subgraph.tensors
        if tensor.data is not None
    }
    return sum(sizes.values())


def _flat_filters(graph: Graph) -> list[Tensor]:
    found: dict[tuple[int, int], Tensor] = {}
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            position = _FILTERS.get(operator.name, len(operator.inputs))
            index = operator.inputs[position] if position < len(operator.inputs) else -1
            if index >= 0 and subgraph.tensors[index].is_constant:
                found[subgraph.index, index] = subgraph.tensors[index]
    return list(found.values())


def _mean_bits(widths: Sequence[tuple[int, float]]) -> float:
    weights = sum(count for count, _ in widths)
    return sum(count * bits for count, bits in widths) / weights if weights else 0.0


def _resident_bits(item: NestedOperator, position: int) -> int:
    return item.nesting.stored_bits(item.level_at(position))


def _sizes(subgraph: Subgraph, parts: Sequence[Part]) -> dict[tuple[int, int], int]:
    """Bytes of parts, by what tells them apart: parts that share a buffer count once."""
    return {(subgraph.tensors[part.tensor].buffer, part.offset): part.size for part in parts}


def _own_bytes(nested: Sequence[tuple[Subgraph, NestedOperator]]) -> int:
    """Bytes of everything that nested operators bring: planes, biases, multipliers, shifts."""
    sizes: dict[tuple[int, int], int] = {}
    for subgraph, item in nested:
        sizes |= _sizes(subgraph, (*item.planes, *item.biases, *item.multipliers, *item.shifts))
    return sum(sizes.values())


def _level_constants(nested: Sequence[tuple[Subgraph, NestedOperator]], position: int) -> int:
    """Bytes of biases, multipliers and shifts that one level needs."""
    sizes: dict[tuple[int, int], int] = {}
    for subgraph, item in nested:
        own = item.model_levels[position]
        sizes |= _sizes(subgraph, (item.biases[own], item.multipliers[own], item.shifts[own]))
    return sum(sizes.values())


def _page_weights(filters: Sequence[NestedOperator], position: int) -> int:
    """Bytes of the planes that lie in a page."""
    return sum(
        plane.size
        for item in filters
        for own, plane in enumerate(item.planes)
        if item.page_of(own) == position
    )
