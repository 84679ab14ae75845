"""Filters as lookup tables that stock TensorFlow Lite Micro decodes: its operator TFLM_DECODE with type LUT.

A filter with at most 128 different values becomes indices of 1 to 7 bits and one table of int8 values. A DECODE
operator stands right before each operator that reads such a filter and writes the expanded filter for it, into the
tensor arena or into the memory given to `SetDecompressionMemory`. The numbers are the same as in the materialized
level, and so are the outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.exporting.decoders import DecoderWriter
from converters.exporting.level_export import LevelExport
from tflnest.errors import UnsupportedError
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.lookup_table import MAX_INDEX_BITS, encode, index_bits
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.nested import CHANNEL_AXIS

#: Bytes that a DECODE operator, its tensors and its header take in the file, besides indices and table.
OVERHEAD_BYTES = 192


@dataclass(frozen=True)
class ExportedFilter:
    """What became of one filter.

    Attributes:
        operator: Index of the operator that reads it, in the materialized level.
        kind: Name of that operator.
        name: Name of the filter; may be empty.
        weights: Number of weights, as many bytes as the int8 filter takes.
        values: Number of different values.
        index_bits: Bits of an index; None where the filter stayed int8.
        bytes: Bytes of indices and table, or of the int8 filter.
        reason: Why it stayed int8; empty where it did not.
    """

    operator: int
    kind: str
    name: str
    weights: int
    values: int
    index_bits: int | None
    bytes: int
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class LookupTableExport(LevelExport[ExportedFilter]):
    """A level of a model with its filters as lookup tables, a file for stock TensorFlow Lite Micro.

    Attributes:
        decoded_bytes: The largest filter that DECODE expands: what it adds to memory at a time.
    """

    decoded_bytes: int

    @property
    def flat(self) -> tuple[ExportedFilter, ...]:
        """Filters that stayed int8."""
        return tuple(item for item in self.filters if item.index_bits is None)

    def facts(self) -> dict[str, Any]:
        """What DECODE expands."""
        return {"decoded_bytes": self.decoded_bytes}


def export_lookup_tables(source: Model, level: int | None = None) -> LookupTableExport:
    """A level as a file that stock TensorFlow Lite Micro runs with `AddDecode()`.

    Args:
        source: A nested model, or a plain int8 one whose filters have few values.
        level: One of the nested model's levels; None for the full-bit one.

    Returns:
        The model, whose outputs are those of the level, and what became of every filter.

    Raises:
        UsageError: The model has no such level.
        UnsupportedError: No filter becomes smaller.
    """
    if source.directory is None and level is None:
        full = source
        model = source.copy()
    else:
        full = materialize(source)
        model = materialize(source, level)
        assert source.directory is not None
        level = source.directory.levels[-1] if level is None else level
    encoder = _Encoder(model)
    filters = tuple(encoder.filters())
    if all(item.index_bits is None for item in filters):
        reasons = Counter(item.reason for item in filters)
        told = "; ".join(f"{count} of {len(filters)}: {reason}" for reason, count in reasons.most_common(3))
        raise UnsupportedError(
            f"no filter can be stored as a lookup table ({told or 'the model has no int8 filters'})",
            "choose a lower level with --level, or write the int8 file with tflnest materialize",
        )
    encoder.finish()
    decoded = max(item.weights for item in filters if item.index_bits is not None)
    finished = Model.from_bytes(model.to_bytes())
    return LookupTableExport(finished, level, filters, len(full.to_bytes()), decoded)


class _Encoder:
    """Replaces the filters of a stock model's tree.

    Args:
        model: Stock operators, int8 filters; its tree is edited.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._writer = DecoderWriter(model)
        self._encoded: dict[tuple[int, int], tuple[int, int]] = {}

    def filters(self) -> Iterator[ExportedFilter]:
        """Replace every filter that gains by it; tells of each operator with a filter."""
        for subgraph in self._model.graph.subgraphs:
            readers = _readers(subgraph)
            decoders: dict[int, Any] = {}
            for operator in subgraph.operators:
                tensor = _filter_of(subgraph, operator)
                if tensor is None:
                    continue
                item = _judge(operator, tensor, readers[tensor.index])
                if item.index_bits is not None:
                    decoders[operator.index] = self._decoder(subgraph, operator, tensor)
                yield item
            self._writer.insert(subgraph.index, decoders)

    def finish(self) -> None:
        """Drop what nothing reads any more."""
        self._writer.finish()

    def _decoder(self, subgraph: Subgraph, operator: Operator, tensor: Tensor) -> Any:
        """A DECODE operator that writes a copy of a filter for one operator."""
        key = (subgraph.index, tensor.index)
        if key not in self._encoded:
            assert tensor.data is not None
            packed, ancillary = encode(tensor.data)
            self._encoded[key] = (
                self._writer.constant(subgraph.index, packed),
                self._writer.constant(subgraph.index, ancillary),
            )
        decoded = self._writer.replace(subgraph.index, operator.index, 1, tensor)
        return self._writer.decoder(self._encoded[key], [decoded])


def _readers(subgraph: Subgraph) -> Counter[int]:
    """How often each tensor is read by what is no filter of an operator: another input, or the caller."""
    counts = Counter({tensor.index: 0 for tensor in subgraph.tensors})
    counts.update(subgraph.outputs)
    for operator in subgraph.operators:
        for position, index in enumerate(operator.inputs):
            if position != 1 or operator.name not in CHANNEL_AXIS:
                counts[index] += 1
    return counts


def _filter_of(subgraph: Subgraph, operator: Operator) -> Tensor | None:
    """The int8 constant filter of an operator; None where it has none."""
    if operator.is_custom or operator.name not in CHANNEL_AXIS:
        return None
    tensor = subgraph.tensors[operator.inputs[1]]
    return tensor if tensor.type == "INT8" and tensor.data is not None and tensor.data.size else None


def _judge(operator: Operator, tensor: Tensor, other_readers: int) -> ExportedFilter:
    """What becomes of a filter."""
    assert tensor.data is not None
    values = int(np.unique(tensor.data).size)
    bits = index_bits(values)
    encoded = -(-tensor.size * bits // 8) + (1 << bits)

    def stays(reason: str) -> ExportedFilter:
        return ExportedFilter(
            operator.index, operator.name, tensor.name, tensor.size, values, None, tensor.size, reason
        )

    if bits > MAX_INDEX_BITS:
        return stays(f"{values} different values, a table holds {1 << MAX_INDEX_BITS}")
    if other_readers:
        return stays("something else reads it too")
    if encoded + OVERHEAD_BYTES >= tensor.size:
        return stays("too small to gain")
    return ExportedFilter(operator.index, operator.name, tensor.name, tensor.size, values, bits, encoded)
