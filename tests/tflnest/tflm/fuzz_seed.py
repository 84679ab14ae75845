"""Writes files in the form that the campaigns in tests/fuzz read: with the places of what TFLM points to."""

from __future__ import annotations

import struct
from pathlib import Path

from converters.exporting.planes import export_planes
from tflnest import container
from tflnest.lookup_table import DECODE
from tflnest.model import Model
from tflnest.nested import PREFIX, STOCK_OPTIONS, is_nested
from tflnest.plane_decoding import METADATA_NAME
from tflnest.schema import enum_value, schema


def place(table: object, field: int) -> int:
    """Where the elements of a vector in field `field` of a table begin."""
    return table._tab.Vector(table._tab.Offset(4 + 2 * field))  # type: ignore[attr-defined, no-any-return]


def write_seed(model: Model, path: Path) -> None:
    """Write a nested model for fuzz_tflm.cc."""
    content = model.to_bytes()
    graph = Model.from_bytes(content).graph
    root = schema().Model.GetRootAs(content, 0)
    subgraph = root.Subgraphs(0)
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


def write_decode_seed(model: Model, path: Path) -> None:
    """Write a nested model's export, and its page images, for fuzz_decode.cc."""
    content = export_planes(model).model.to_bytes()
    main = Model.from_bytes(content).graph.main
    root = schema().Model.GetRootAs(content, 0)

    def constant(index: int) -> tuple[int, int]:
        buffer = root.Buffers(root.Subgraphs(0).Tensors(index).Buffer())
        return place(buffer, 0), buffer.DataLength()

    rows = [
        struct.pack(
            "<6I",
            *constant(operator.inputs[2 * number]),
            *constant(operator.inputs[2 * number + 1]),
            enum_value("TensorType", main.tensors[output].type),
            main.tensors[output].bytes,
        )
        for operator in main.operators
        if operator.name == DECODE
        for number, output in enumerate(operator.outputs)
    ]
    assert model.directory is not None
    images = [container.page_image(model.to_bytes(), page) for page in model.directory.pages]
    pages = Model.from_bytes(content).graph.metadata[METADATA_NAME]
    head = (len(content), len(rows), len(images), content.index(pages), len(pages))
    sizes = struct.pack(f"<{len(images)}I", *map(len, images))
    path.write_bytes(b"".join([struct.pack("<5I", *head), *rows, sizes, *images, content]))
