"""Writes a nested file in the form that tests/fuzz/fuzz_tflm.cc reads: with the places of what TFLM points to."""

from __future__ import annotations

import struct
from pathlib import Path

from tflnest import container
from tflnest.model import Model
from tflnest.nested import PREFIX, STOCK_OPTIONS, is_nested
from tflnest.schema import enum_value, schema


def write_seed(model: Model, path: Path) -> None:
    """Write a nested model."""
    content = model.to_bytes()
    graph = Model.from_bytes(content).graph
    root = schema().Model.GetRootAs(content, 0)
    subgraph = root.Subgraphs(0)

    def place(table: object, field: int) -> int:
        """Where the elements of a vector in field `field` of a table begin."""
        return table._tab.Vector(table._tab.Offset(4 + 2 * field))  # type: ignore[attr-defined, no-any-return]

    tensors = []
    for tensor in graph.main.tensors:
        own = subgraph.Tensors(tensor.index)
        data = place(root.Buffers(own.Buffer()), 0) if tensor.is_constant else 0
        kind = enum_value("TensorType", tensor.type)
        tensors.append(struct.pack("<ifiII", kind, tensor.scale, tensor.zero_point, place(own, 0) - 4, data))
    nodes = []
    for operator in filter(is_nested, graph.main.operators):
        own = subgraph.Operators(operator.index)
        code = list(STOCK_OPTIONS).index(operator.name.removeprefix(PREFIX))
        row = (place(own, 1) - 4, operator.outputs[0], place(own, 5), own.CustomOptionsLength())
        nodes.append(struct.pack("<5I", code, *row))
    directory = graph.metadata[container.METADATA_NAME]
    head = (len(content), len(tensors), len(nodes), content.index(directory), len(directory))
    path.write_bytes(b"".join([struct.pack("<5I", *head), *tensors, *nodes, content]))
