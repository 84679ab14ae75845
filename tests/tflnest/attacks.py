"""Files made by hand to hurt a reader: content that is shared without end, claims that nothing backs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np

from tflnest.schema import enum_value, schema


def offsets(builder: Any, items: Sequence[int]) -> int:
    """A vector of tables."""
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())


def table(builder: Any, name: str, **fields: Any) -> int:
    """A table of the schema, fields by the names of its `Add` functions."""
    module = schema()
    getattr(module, f"{name}Start")(builder)
    for field, value in fields.items():
        getattr(module, f"{name}Add{field}")(builder, value)
    return int(getattr(module, f"{name}End")(builder))


def finish(builder: Any, **fields: Any) -> bytes:
    """A file from the fields of its `Model` table."""
    builder.Finish(table(builder, "Model", Version=3, **fields), b"TFL3")
    return bytes(builder.Output())


def many_tables(name: str, count: int) -> bytes:
    """One empty table of a kind, referred to `count` times."""
    builder = flatbuffers.Builder(1024)
    items = offsets(builder, [table(builder, name)] * count)
    if name in ("Operator", "Tensor"):
        subgraph = table(builder, "SubGraph", **{f"{name}s": items})
        return finish(builder, Subgraphs=offsets(builder, [subgraph]))
    fields = {"OperatorCode": "OperatorCodes", "SubGraph": "Subgraphs", "SignatureDef": "SignatureDefs"}
    return finish(builder, **{fields.get(name, f"{name}s" if name != "Metadata" else name): items})


def many_full_tensors(count: int, elements: int = 1) -> bytes:
    """One tensor with every vector it can have, referred to `count` times."""
    builder = flatbuffers.Builder(1024)
    numbers = builder.CreateNumpyVector(np.ones(elements, np.int64))
    scales = builder.CreateNumpyVector(np.ones(elements, np.float32))
    name = builder.CreateString("t")
    quantization = table(
        builder, "QuantizationParameters", Min=scales, Max=scales, Scale=scales, ZeroPoint=numbers
    )
    tensor = table(
        builder, "Tensor", Shape=scales, ShapeSignature=scales, Name=name, Quantization=quantization
    )
    subgraph = table(builder, "SubGraph", Tensors=offsets(builder, [tensor] * count))
    return finish(builder, Subgraphs=offsets(builder, [subgraph]))


def many_option_vectors(count: int, elements: int) -> bytes:
    """Operators that share one option vector."""
    builder = flatbuffers.Builder(1024)
    shape = builder.CreateNumpyVector(np.ones(elements, np.int32))
    options = table(builder, "ReshapeOptions", NewShape=shape)
    number = enum_value("BuiltinOptions", "ReshapeOptions")
    operators = [
        table(builder, "Operator", BuiltinOptionsType=number, BuiltinOptions=options) for _ in range(count)
    ]
    subgraph = table(builder, "SubGraph", Operators=offsets(builder, operators))
    code = table(builder, "OperatorCode", BuiltinCode=enum_value("BuiltinOperator", "RESHAPE"))
    return finish(builder, Subgraphs=offsets(builder, [subgraph]), OperatorCodes=offsets(builder, [code]))


def many_shapes(count: int, elements: int) -> bytes:
    """Tensors that share one long shape."""
    builder = flatbuffers.Builder(1024)
    shape = builder.CreateNumpyVector(np.ones(elements, np.int32))
    tensors = [table(builder, "Tensor", Shape=shape) for _ in range(count)]
    subgraph = table(builder, "SubGraph", Tensors=offsets(builder, tensors))
    return finish(builder, Subgraphs=offsets(builder, [subgraph]))


def many_buffers(count: int, size: int) -> bytes:
    """Buffers and metadata entries that share one block of data."""
    builder = flatbuffers.Builder(1024)
    data = builder.CreateByteVector(bytes([1]) * size)
    buffer = table(builder, "Buffer", Data=data)
    name = builder.CreateString("x")
    entries = [table(builder, "Metadata", Name=name, Buffer=index) for index in range(count)]
    return finish(
        builder,
        Subgraphs=offsets(builder, [table(builder, "SubGraph")]),
        Buffers=offsets(builder, [buffer] * count),
        Metadata=offsets(builder, entries),
    )


def many_names(count: int, size: int) -> bytes:
    """Tensors that share one long name."""
    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("n" * size)
    tensors = [table(builder, "Tensor", Name=name) for _ in range(count)]
    subgraph = table(builder, "SubGraph", Tensors=offsets(builder, tensors))
    return finish(builder, Subgraphs=offsets(builder, [subgraph]))


def large_data(count: int, size: int, offset: int = 16) -> bytes:
    """Buffers that claim data behind the flatbuffer, all the same."""
    builder = flatbuffers.Builder(1024)
    buffers = [table(builder, "Buffer", Offset=offset, Size=size) for _ in range(count)]
    return finish(
        builder,
        Subgraphs=offsets(builder, [table(builder, "SubGraph")]),
        Buffers=offsets(builder, buffers),
    )


def deep_shape(rank: int, dimension: int) -> bytes:
    """One tensor of a rank that no runtime has."""
    builder = flatbuffers.Builder(1024)
    shape = builder.CreateNumpyVector(np.full(rank, dimension, np.int32))
    subgraph = table(builder, "SubGraph", Tensors=offsets(builder, [table(builder, "Tensor", Shape=shape)]))
    return finish(builder, Subgraphs=offsets(builder, [subgraph]))


def claim(content: bytes, vector: int, count: int) -> bytes:
    """The file with another count at the start of a vector."""
    return content[:vector] + count.to_bytes(4, "little") + content[vector + 4 :]


def padded_to_the_limit(make: Callable[[int], bytes], size: int, check: Callable[[bytes], bool]) -> bytes:
    """The largest attack of a family, in a file of `size` bytes, that a check lets through."""
    low, high = 1, size
    while low < high:
        count = (low + high + 1) // 2
        content = make(count)
        if len(content) <= size and check(content.ljust(size, b"\0")):
            low = count
        else:
            high = count - 1
    return make(low).ljust(size, b"\0")
