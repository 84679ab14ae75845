"""Nested filters that stock kernels read: all levels in one file, decoded for them by TensorFlow Lite Micro.

Operators are stock ones. Right before each, a DECODE operator with tflnest's own encoding writes the filter of the level
that was chosen, and the bias where levels have different ones. What cannot follow a level are multipliers and
shifts: stock kernels compute them once, from the scales in the file. So all levels must have the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.exporting.decoders import DecoderWriter
from converters.exporting.level_export import LevelExport
from tflnest.container import Directory
from tflnest.errors import UnsupportedError
from tflnest.graph import Subgraph
from tflnest.materialization import materialize
from tflnest.model import Model, set_metadata
from tflnest.nested import NestedOperator, nested_operators
from tflnest.nesting import MASTER_BITS, Nesting
from tflnest.parts import Part
from tflnest.plane_decoding import METADATA_NAME, Places, PlaneEncoding, encode_pages

#: Where a buffer lies: its page, and the offset in the image of that page.
Place = tuple[int, int]


@dataclass(frozen=True)
class DecodedFilter:
    """What became of one nested operator.

    Attributes:
        operator: Index of the operator among those of the level.
        kind: Name of the stock operator.
        name: Name of its filter; may be empty.
        levels: Own levels, in bits.
        weights: Number of weights, as many bytes as are decoded.
        plane_bytes: Bytes of the planes of all levels.
        bias_bytes: Bytes of the biases of all levels; 0 where they are one, which is not decoded.
        decoded_bytes: What DECODE writes for it, filter and bias.
    """

    operator: int
    kind: str
    name: str
    levels: tuple[int, ...]
    weights: int
    plane_bytes: int
    bias_bytes: int
    decoded_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "levels": list(self.levels)}


@dataclass(frozen=True)
class PlaneExport(LevelExport[DecodedFilter]):
    """Levels of a model in a file for TensorFlow Lite Micro with `AddDecode()` and the type of tflnest.

    Attributes:
        levels: Of the model, increasing; the file is at the highest one unless an application chooses.
        nested_bytes: Size of the nested file.
    """

    levels: tuple[int, ...]
    nested_bytes: int

    @property
    def decoded_bytes(self) -> int:
        """The most that DECODE writes for one operator: what it adds to memory at a time."""
        return max((item.decoded_bytes for item in self.filters), default=0)

    def facts(self) -> dict[str, Any]:
        """Levels, and what DECODE expands."""
        return {
            "levels": list(self.levels),
            "nested_bytes": self.nested_bytes,
            "decoded_bytes": self.decoded_bytes,
        }


def export_planes(source: Model, level: int | None = None) -> PlaneExport:
    """A nested model with stock operators, for kernels that are not tflnest's.

    Args:
        source: A nested model.
        level: The highest level to write; None for the full-bit one. All levels below it are in the file.

    Returns:
        The model, whose outputs at every level are those of the nested model. A controller is left out.

    Raises:
        UsageError: The model is not nested, or has no such level.
        UnsupportedError: An operator has other scales at one of the levels, or reads its activation at fewer than 8
            bits there: kernels that are not tflnest's cannot follow.
    """
    stock = materialize(source, level)
    directory = source.directory
    assert directory is not None
    count = len(directory.levels) if level is None else directory.levels.index(level) + 1
    operators = nested_operators(source.graph)
    for subgraph, nested in operators:
        _require_one_set(subgraph, nested, directory.levels[:count])
    exporter = _Exporter(stock, directory, count)
    filters = tuple(exporter.add(subgraph, nested) for subgraph, nested in operators)
    exporter.finish()
    return PlaneExport(
        model=Model.from_bytes(stock.to_bytes()),
        level=directory.levels[count - 1],
        filters=filters,
        int8_bytes=len(materialize(source).to_bytes()),
        levels=directory.levels[:count],
        nested_bytes=len(source.to_bytes()),
    )


def _require_one_set(subgraph: Subgraph, nested: NestedOperator, levels: Sequence[int]) -> None:
    """Refuse levels that a stock kernel cannot switch to."""
    top = nested.model_levels[len(levels) - 1]

    def fixed(position: int) -> tuple[bytes, ...]:
        return tuple(_contents(subgraph, (nested.multipliers[position], nested.shifts[position])))

    hint = (
        f"--level {levels[0]} writes the lowest level alone; --for cmake --contents tflm switches all of them"
    )
    for position in range(top):
        own, highest = nested.nesting.levels[position], nested.nesting.levels[top]
        if fixed(position) != fixed(top):
            raise UnsupportedError(
                f"operator {nested.operator.label} ({nested.scope}) has other scales at {own} bits than at {highest}, "
                "and stock kernels read them once",
                hint,
            )
        if nested.activation_bits[position] != MASTER_BITS:
            raise UnsupportedError(
                f"operator {nested.operator.label} ({nested.scope}) reads its activation at "
                f"{nested.activation_bits[position]} bits at its level of {own}, which stock kernels do not",
                hint,
            )


class _Exporter:
    """Gives the operators of a materialized level their planes back.

    Args:
        stock: The highest level; its tree is edited.
        directory: Of the nested model.
        count: How many levels of it are written.
    """

    def __init__(self, stock: Model, directory: Directory, count: int) -> None:
        self._stock = stock
        self._directory = directory
        self._count = count
        self._places = _page_places(directory)
        self._writer = DecoderWriter(stock)
        self._encoded: dict[tuple[int, bytes], int] = {}
        self._decoders: dict[int, dict[int, Any]] = {}

    def add(self, subgraph: Subgraph, nested: NestedOperator) -> DecodedFilter:
        """Put a decoder before the stock operator that stands where a nested one stood."""
        model_levels = nested.model_levels[: self._count]
        levels = nested.nesting.levels[: model_levels[-1] + 1]
        planes = _contents(subgraph, nested.planes[: len(levels)])
        biases = _contents(subgraph, nested.biases[: len(levels)])
        decodes_bias = any(bias != biases[0] for bias in biases)
        place = (subgraph.index, nested.operator.index)
        if levels == (MASTER_BITS,):  # an int8 filter already
            return self._report(nested, levels, (), ())
        encoding = PlaneEncoding(
            Nesting(levels, nested.nesting.scheme),
            model_levels,
            tuple(
                self._page_places(subgraph, nested, position, decodes_bias) for position in range(len(levels))
            ),
        )
        ancillary = self._writer.constant(subgraph.index, _bytes([encoding.to_bytes()]))
        own = self._stock.graph.subgraphs[subgraph.index]
        _, filter_index, bias_index = own.operators[nested.operator.index].inputs
        inputs = [self._constant(subgraph.index, planes), ancillary]
        outputs = [self._writer.replace(*place, 1, own.tensors[filter_index])]
        if decodes_bias:
            inputs += [self._constant(subgraph.index, biases), ancillary]
            outputs.append(self._writer.replace(*place, 2, own.tensors[bias_index]))
        decoders = self._decoders.setdefault(subgraph.index, {})
        decoders[nested.operator.index] = self._writer.decoder(inputs, outputs)
        return self._report(nested, levels, planes, biases if decodes_bias else ())

    def finish(self) -> None:
        """Insert the decoders, and say what the pages of the nested file are."""
        for subgraph, decoders in self._decoders.items():
            self._writer.insert(subgraph, decoders)
        set_metadata(self._stock.tree, METADATA_NAME, encode_pages(self._directory, self._count))
        _share_zero_points(self._stock.tree)
        self._writer.finish()

    def _page_places(
        self, subgraph: Subgraph, nested: NestedOperator, position: int, decodes_bias: bool
    ) -> Places:
        def place(part: Part) -> Place:
            page, offset = self._places[subgraph.tensors[part.tensor].buffer]
            return page, offset + part.offset

        bias = place(nested.biases[position]) if decodes_bias else (0, 0)
        return Places(*place(nested.planes[position]), *bias)

    def _constant(self, subgraph: int, parts: Sequence[bytes]) -> int:
        """A constant of what may be there already."""
        key = (subgraph, b"".join(parts))
        if key not in self._encoded:
            self._encoded[key] = self._writer.constant(subgraph, _bytes(parts))
        return self._encoded[key]

    def _report(
        self,
        nested: NestedOperator,
        levels: tuple[int, ...],
        planes: Sequence[bytes],
        biases: Sequence[bytes],
    ) -> DecodedFilter:
        decoded = nested.weights if planes else 0
        return DecodedFilter(
            operator=nested.operator.index,
            kind=nested.stock,
            name=nested.scope,
            levels=levels,
            weights=nested.weights,
            plane_bytes=sum(map(len, planes)) if planes else nested.weights,
            bias_bytes=sum(map(len, biases)),
            decoded_bytes=decoded + (4 * nested.channels if biases else 0),
        )


def _share_zero_points(tree: Any) -> None:
    """Store one zero point where all channels have the same: TensorFlow Lite Micro takes it for all of them."""
    for subgraph in tree.subgraphs:
        for tensor in subgraph.tensors:
            points = None if tensor.quantization is None else tensor.quantization.zeroPoint
            if points is not None and np.unique(points).size == 1:
                tensor.quantization.zeroPoint = np.asarray(points[:1])


def _page_places(directory: Directory) -> Mapping[int, Place]:
    """Where each buffer of a nested file lies in the page images."""
    places: dict[int, Place] = {}
    for page in directory.pages:
        offset = 0
        for segment in page.segments:
            places[segment.buffer] = (page.index, offset)
            offset += segment.image_size
    return places


def _contents(subgraph: Subgraph, parts: Sequence[Part]) -> list[bytes]:
    return [part.values(np.asarray(subgraph.tensors[part.tensor].data), "u1").tobytes() for part in parts]


def _bytes(parts: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), np.uint8)
