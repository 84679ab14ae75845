"""Check a TFL3 flatbuffer, then unpack it into the schema's object tree.

The flatbuffers package for Python has no verifier: a hostile file makes it read beyond vectors, cut strings
short, or unpack one table a million times through shared offsets. Here every table, vector and string is
visited with bounds and a budget before anything is unpacked: in a file of n bytes all tables together, counted
as often as something refers to them, may take `SHARED_TABLES` * n bytes, and all strings and vectors
`SHARED_CONTENT` * n (and `FREE_BYTES` more of each). That keeps a loaded model, object tree and graph together,
below `MODEL_BYTES_PER_FILE_BYTE` * (n + `FREE_BYTES`) bytes.

The walk learns the fields of a table from the accessors of the generated classes, so it knows every table
that the installed schema knows.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from functools import cache
from typing import Any, cast

import flatbuffers.table
from flatbuffers import number_types

from tflnest.errors import FormatError
from tflnest.schema import enum_names, schema

FILE_IDENTIFIER = b"TFL3"
MAX_DEPTH = 32
#: A reference to a table, and the least that a table itself takes.
REFERENCE_BYTES = 4
SHARED_TABLES = 2
SHARED_CONTENT = 4
MODEL_BYTES_PER_FILE_BYTE = 150
#: Small files may share more than large ones.
FREE_BYTES = 16 << 10

#: The enum that numbers the members of each union field.
UNION_ENUMS = {
    "BuiltinOptions": "BuiltinOptions",
    "BuiltinOptions2": "BuiltinOptions2",
    "Details": "QuantizationDetails",
    "ArraySegments": "SparseIndexVector",
    "ArrayIndices": "SparseIndexVector",
}


def read_tree(content: bytes) -> Any:
    """Unpack a checked flatbuffer into a `ModelT`.

    Raises:
        FormatError: The content is not a sound TFL3 flatbuffer.
    """
    check(content)
    module = schema()
    try:
        return module.ModelT.InitFromObj(module.Model.GetRootAs(content, 0))
    except (struct.error, ValueError, IndexError, TypeError, UnicodeDecodeError, OverflowError) as error:
        raise FormatError(f"corrupt flatbuffer: {error}") from error


def buffer_extents(content: bytes) -> list[tuple[int, int]]:
    """Offset in the file and size of the data of every buffer; (0, 0) for an empty one.

    Args:
        content: A flatbuffer that has been checked.
    """
    root = schema().Model.GetRootAs(content, 0)
    extents = []
    for index in range(root.BuffersLength()):
        table = root.Buffers(index)._tab
        field = table.Offset(4)
        extents.append((table.Vector(field), table.VectorLen(field)) if field else (0, 0))
    return extents


def check(content: bytes) -> None:
    """Visit everything once.

    Raises:
        FormatError: An offset, size or union type is out of bounds, or content is shared without measure.
    """
    if len(content) < 12:
        raise FormatError(f"not a TensorFlow Lite file: it has {len(content)} bytes")
    if content[4:8] != FILE_IDENTIFIER:
        raise FormatError(
            f"not a TensorFlow Lite file: bytes 4 to 8 are {content[4:8]!r}, expected {FILE_IDENTIFIER!r}",
            "a Keras model or SavedModel becomes one with tflnest convert",
        )
    try:
        _Walk(content).visit(schema().Model.GetRootAs(content, 0), 0)
    except (struct.error, ValueError, IndexError, TypeError, OverflowError) as error:
        raise FormatError(
            f"corrupt flatbuffer: {error}", "the file may have been cut short in a transfer"
        ) from error


class _CheckedTable(flatbuffers.table.Table):  # type: ignore[misc]
    """A flatbuffer table that refuses to read outside the file."""

    def __init__(self, content: bytes, position: int) -> None:
        super().__init__(content, position)
        size = len(content)
        if not 0 <= position <= size - 4:
            raise FormatError(f"corrupt flatbuffer: a table lies at {position:,} in a file of {size:,} bytes")
        vtable = position - self.Get(number_types.SOffsetTFlags, position)
        if not 0 <= vtable <= size - 4:
            raise FormatError(f"corrupt flatbuffer: a vtable lies at {vtable:,} in a file of {size:,} bytes")
        vtable_size, table_size = struct.unpack_from("<HH", content, vtable)
        if vtable_size < 4 or vtable_size % 2 or vtable + vtable_size > size or position + table_size > size:
            raise FormatError(
                f"corrupt flatbuffer: the vtable at {vtable:,} has impossible sizes {vtable_size} and {table_size}"
            )
        fields = struct.unpack_from(f"<{vtable_size // 2 - 2}H", content, vtable + 4)
        if any(field >= table_size or 0 < field < 4 for field in fields):
            raise FormatError(f"corrupt flatbuffer: a field of the table at {position:,} lies outside it")
        self.size = max(table_size, REFERENCE_BYTES)
        self._fields = fields

    def has(self, slot: int) -> bool:
        """Whether the field with this vtable offset is present."""
        number = slot // 2 - 2
        return number < len(self._fields) and self._fields[number] != 0

    def content_size(self, field: int, element_size: int) -> int:
        """Bytes of the string or vector of a field, checked against the file's end."""
        start, length = self.Vector(field), self.VectorLen(field)
        size = int(length) * element_size
        if start + size > len(self.Bytes):
            raise FormatError(
                f"corrupt flatbuffer: {length:,} elements at {start:,} go beyond the end of the file ({len(self.Bytes):,} bytes)"
            )
        return size


class _Probe:
    """Stands in for a table to learn which vtable slot an accessor reads (deprecated fields leave gaps)."""

    Pos = 0
    slot = 0

    def Offset(self, slot: int) -> int:
        """Note the slot and say that the field is absent."""
        self.slot = slot
        return 0


@cache
def _fields(table_class: type) -> tuple[tuple[str, str, int], ...]:
    """Accessors of a generated table class: name, kind and vtable offset.

    Kinds: "numbers" (vector of scalars), "items" (vector of tables or strings), "one" (table, union or string).
    Single numbers are left out: there is nothing behind them.
    """
    names = [name for name in vars(table_class) if not name.startswith(("_", "Init", "GetRootAs"))]
    accessors = [
        name
        for name in names
        if not name.endswith(("BufferHasIdentifier", "AsNumpy", "IsNone"))
        and not (name.endswith("Length") and f"{name[:-6]}IsNone" in names)
    ]
    kinds = []
    probe = _Probe()
    instance = table_class()
    instance._tab = probe
    for name in accessors:
        kind = "one"
        if f"{name}Length" in names:
            kind = "numbers" if f"{name}AsNumpy" in names else "items"
        absent = getattr(instance, name)(*(() if kind == "one" else (0,)))
        if kind != "one" or absent is None:
            kinds.append((name, kind, probe.slot))
    return tuple(kinds)


class _Walk:
    """One visit of everything in a file, as often as it is referred to."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.table_bytes_left = SHARED_TABLES * len(content) + FREE_BYTES
        self.bytes_left = SHARED_CONTENT * len(content) + FREE_BYTES

    def visit(self, table: Any, depth: int) -> None:
        """Check a table of a generated class, and all below it."""
        checked = _CheckedTable(self.content, table._tab.Pos)
        self.table_bytes_left -= checked.size + REFERENCE_BYTES
        if self.table_bytes_left < 0 or depth > MAX_DEPTH:
            raise FormatError("corrupt flatbuffer: it refers to more tables than the file can hold")
        table._tab = checked
        table_class = cast(Hashable, type(table))  # mypy does not take a class for hashable
        for name, kind, slot in _fields(table_class):
            if not checked.has(slot):
                continue
            if kind == "numbers":
                self._visit_numbers(table, name, slot)
            elif kind == "items":
                self._visit_items(table, name, slot, depth)
            else:
                self._visit_one(table, name, slot, depth)

    def _charge(self, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise FormatError(
                "corrupt flatbuffer: strings and vectors are shared so often that unpacking would not end"
            )

    def _visit_numbers(self, table: Any, name: str, slot: int) -> None:
        checked = table._tab
        count = checked.VectorLen(checked.Offset(slot))
        if count == 0:
            return
        checked.content_size(checked.Offset(slot), 1)
        # Raises where the vector leaves the file. Buffers are views of it; shared ones are written apart, though.
        self._charge(getattr(table, f"{name}AsNumpy")().nbytes)

    def _visit_items(self, table: Any, name: str, slot: int, depth: int) -> None:
        checked = table._tab
        field = checked.Offset(slot)
        self._charge(checked.content_size(field, REFERENCE_BYTES))
        accessor = getattr(table, name)
        start = checked.Vector(field)
        for index in range(checked.VectorLen(field)):
            self._visit_value(accessor(index), start + REFERENCE_BYTES * index, depth)

    def _visit_one(self, table: Any, name: str, slot: int, depth: int) -> None:
        checked = table._tab
        value = getattr(table, name)()
        if isinstance(value, flatbuffers.table.Table):
            value = self._member(table, name, value)
        self._visit_value(value, checked.Pos + checked.Offset(slot), depth)

    def _visit_value(self, value: Any, reference: int, depth: int) -> None:
        """Visit what an accessor gave: a table, a string (`reference` is where its offset lies) or a number."""
        if hasattr(value, "_tab"):
            self.visit(value, depth + 1)
        elif isinstance(value, bytes):
            start = reference + int.from_bytes(self.content[reference : reference + 4], "little")
            length = int.from_bytes(self.content[start : start + 4], "little")
            if start + 4 + length > len(self.content):
                raise FormatError(
                    f"corrupt flatbuffer: a string of {length:,} bytes at {start:,} goes beyond the end of the file"
                )
            self._charge(length)

    def _member(self, table: Any, name: str, value: Any) -> Any:
        """The member of a union as an object of its generated class."""
        kind = getattr(table, f"{name}Type")()
        if kind == 0:
            return None
        member = enum_names(UNION_ENUMS[name]).get(kind)
        if member is None:
            raise FormatError(
                f"{name} has type {kind}, which the installed TFLite schema does not know",
                "the file may be newer than the installed ai-edge-litert: update it",
            )
        instance = getattr(schema(), member)()
        instance.Init(value.Bytes, value.Pos)
        return instance
