"""The checked read of a flatbuffer: what it lets through, what it refuses, and what it costs at most."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tests.models import nested, network, small_network
from tests.tflnest import attacks
from tflnest import flatbuffer
from tflnest.errors import FormatError
from tflnest.flatbuffer import FREE_BYTES, MODEL_BYTES_PER_FILE_BYTE
from tflnest.model import Model
from tflnest.schema import schema

FAMILIES = {
    "operators": lambda count: attacks.many_tables("Operator", count),
    "tensors": lambda count: attacks.many_tables("Tensor", count),
    "operator codes": lambda count: attacks.many_tables("OperatorCode", count),
    "signatures": lambda count: attacks.many_tables("SignatureDef", count),
    "buffers": lambda count: attacks.many_tables("Buffer", count),
    "full tensors": attacks.many_full_tensors,
    "full tensors of rank 2": lambda count: attacks.many_full_tensors(count, 2),
    "shapes": lambda count: attacks.many_shapes(count, 500),
    "option vectors": lambda count: attacks.many_option_vectors(count, 500),
    "names": lambda count: attacks.many_names(count, 2000),
    "metadata": lambda count: attacks.many_buffers(count, 5000),
}


def passes(content: bytes) -> bool:
    try:
        flatbuffer.check(content)
    except FormatError:
        return False
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_stays_below_the_stated_memory(family):
    """The worst file of each family that is let through at all."""
    size = 20_000
    content = attacks.padded_to_the_limit(FAMILIES[family], size, passes)
    tracemalloc.start()
    try:
        Model.from_bytes(content)
    except FormatError:
        pass  # refused later, by an index; what it cost until then counts
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= MODEL_BYTES_PER_FILE_BYTE * (size + FREE_BYTES)


@pytest.mark.parametrize(
    "content",
    [
        attacks.many_full_tensors(10_000),
        attacks.many_shapes(2_000, 20_000),
        attacks.many_option_vectors(2_000, 20_000),
        attacks.many_names(2_000, 50_000),
        attacks.many_buffers(2_000, 50_000),
    ],
    ids=["full tensors", "shapes", "options", "names", "buffers"],
)
def test_shared_content_is_refused_before_it_is_unpacked(content):
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"refers to more tables than the file can hold|shared so often"):
        flatbuffer.read_tree(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_little_sharing_is_allowed():
    """Writers that store equal tables once are within the format."""
    tree = flatbuffer.read_tree(attacks.many_full_tensors(50))
    assert len(tree.subgraphs[0].tensors) == 50


@pytest.mark.parametrize("count", [1 << 31, (1 << 32) - 1, 1 << 20])
def test_vectors_that_claim_too_much(count):
    content = small_network().to_bytes()
    root = schema().Model.GetRootAs(content, 0)
    subgraph = root.Subgraphs(0)
    tables = [
        (root._tab, 4 + 2 * 4),  # buffers
        (root._tab, 4 + 2 * 2),  # subgraphs
        (subgraph._tab, 4),  # tensors
        (subgraph._tab, 4 + 2 * 3),  # operators
        (subgraph.Tensors(0)._tab, 4),  # shape
        (root.Buffers(1)._tab, 4),  # data
        (subgraph.Tensors(0)._tab, 4 + 2 * 3),  # name
    ]
    for owner, slot in tables:
        field = owner.Offset(slot)
        assert field
        start = owner.Vector(field) - 4
        with pytest.raises(FormatError, match="corrupt flatbuffer"):
            flatbuffer.read_tree(attacks.claim(content, start, count))


@pytest.mark.parametrize("size", [0, 1, 4, 8, 11])
def test_short_files(size):
    with pytest.raises(FormatError, match=f"not a TensorFlow Lite file: it has {size} bytes"):
        flatbuffer.read_tree(bytes(size))


def test_other_files():
    with pytest.raises(FormatError, match=r"bytes 4 to 8 are b'\\x00\\x00\\x00\\x00', expected b'TFL3'"):
        flatbuffer.read_tree(bytes(100))
    png = b"\x89PNG\r\n\x1a\n" + bytes(100)
    with pytest.raises(FormatError, match="not a TensorFlow Lite file"):
        flatbuffer.read_tree(png)


@pytest.mark.parametrize("root", [0, 1, 8, 1 << 31, (1 << 32) - 1])
def test_roots_outside_the_file_or_on_themselves(root):
    content = small_network().to_bytes()
    with pytest.raises(FormatError, match="corrupt flatbuffer"):
        flatbuffer.read_tree(root.to_bytes(4, "little") + content[4:])


def test_unknown_union_types_name_the_cure():
    content = bytearray(small_network().to_bytes())
    operator = schema().Model.GetRootAs(content, 0).Subgraphs(0).Operators(0)
    field = operator._tab.Offset(10)
    content[operator._tab.Pos + field] = 250
    with pytest.raises(FormatError, match="BuiltinOptions has type 250") as caught:
        flatbuffer.read_tree(bytes(content))
    assert "update it" in str(caught.value.hint)


@pytest.mark.parametrize("make", [network, lambda: nested(network())], ids=["plain", "nested"])
def test_extents_are_where_the_data_lies(make):
    model = make()
    content = model.to_bytes()
    extents = flatbuffer.buffer_extents(content)
    assert len(extents) == len(model.tree.buffers)
    for (offset, size), buffer in zip(extents, model.tree.buffers, strict=True):
        data = b"" if buffer.data is None else np.asarray(buffer.data, np.uint8).tobytes()
        assert content[offset : offset + size] == data
