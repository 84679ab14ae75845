"""C structs as Python dataclasses: one table of fields, from which ctypes and C initialisers are made.

A dataclass that is decorated with `c_struct` mirrors a C struct: its fields stand in the order of the C members,
and their annotations say the C types. A test compiles a program that prints the layout of each struct.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scalar:
    """A C integer type.

    Attributes:
        name: As C spells it.
        ctype: As ctypes does.
    """

    name: str
    ctype: type[Any]

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value."""
        bits = 8 * ctypes.sizeof(self.ctype)
        if self.name.startswith("u"):
            return 0, (1 << bits) - 1
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


@dataclass(frozen=True)
class Pointer:
    """A pointer to constant values, to an array of structs, or NULL.

    Attributes:
        target: Scalar type, or None where the field's own annotation names a struct.
    """

    target: Scalar | None = None


INT8 = Scalar("int8_t", ctypes.c_int8)
UINT8 = Scalar("uint8_t", ctypes.c_uint8)
INT16 = Scalar("int16_t", ctypes.c_int16)
UINT16 = Scalar("uint16_t", ctypes.c_uint16)
INT32 = Scalar("int32_t", ctypes.c_int32)
UINT32 = Scalar("uint32_t", ctypes.c_uint32)

Int8 = Annotated[int, INT8]
UInt8 = Annotated[int, UINT8]
Int16 = Annotated[int, INT16]
UInt16 = Annotated[int, UINT16]
Int32 = Annotated[int, INT32]
UInt32 = Annotated[int, UINT32]


@dataclass(frozen=True)
class Constant:
    """Values of a constant tensor: those in the file, or, where the tensor was folded, what it was folded to.

    Attributes:
        tensor: Its index.
        offset: Where the values start in it, in bytes.
    """

    tensor: int
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Computed:
    """Constant values that no tensor holds: multipliers, tables, indices.

    Attributes:
        values: One-dimensional, of the dtype that the C pointer names.
        purpose: What they are, one C identifier ("multipliers"); names and comments are made of it.
    """

    values: NDArray[Any]
    purpose: str


#: What a pointer to scalars points to; None for NULL.
Data = Constant | Computed | None

Int8Data = Annotated[Data, Pointer(INT8)]
UInt8Data = Annotated[Data, Pointer(UINT8)]
Int16Data = Annotated[Data, Pointer(INT16)]
UInt16Data = Annotated[Data, Pointer(UINT16)]
Int32Data = Annotated[Data, Pointer(INT32)]
UInt32Data = Annotated[Data, Pointer(UINT32)]

#: Marks a tuple of structs that C reaches through a pointer; the empty tuple is NULL.
Array = Pointer()

Struct = TypeVar("Struct", bound=type[Any])


def c_struct(name: str) -> Callable[[Struct], Struct]:
    """Decorator: the dataclass mirrors the C struct of this name."""

    def decorate(cls: Struct) -> Struct:
        cls.c_name = name
        return cls

    return decorate


@dataclass(frozen=True)
class Member:
    """One member of a C struct.

    Attributes:
        name: Of the member, in C and in Python.
        kind: A Scalar, a Pointer to scalars, or the dataclass of a struct.
        is_array: Whether it is a pointer to an array of that struct.
        count: Elements of an array inside the struct; None for a single value.
    """

    name: str
    kind: Scalar | Pointer | type[Any]
    is_array: bool = False
    count: int | None = None


_MEMBERS: dict[type[Any], tuple[Member, ...]] = {}
_STRUCTURES: dict[type[Any], type[ctypes.Structure]] = {}


def members(cls: type[Any]) -> tuple[Member, ...]:
    """The members of a mirrored struct, in order."""
    known = _MEMBERS.get(cls)
    if known is None:
        hints = get_type_hints(cls, include_extras=True)
        known = tuple(_member(field.name, hints[field.name]) for field in fields(cls))
        _MEMBERS[cls] = known
    return known


def _member(name: str, hint: Any) -> Member:
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return Member(name, hint)
    if get_origin(hint) is tuple:  # tuple[Int32, Int32, ...]: an array inside the struct
        items = get_args(hint)
        return Member(name, _member(name, items[0]).kind, count=len(items))
    annotation = hint.__metadata__[0]
    if isinstance(annotation, Pointer) and annotation.target is None:
        item = get_args(get_args(hint)[0])[0]
        return Member(name, item, is_array=True)
    assert isinstance(annotation, Scalar | Pointer)
    return Member(name, annotation)


def structure(cls: type[Any]) -> type[ctypes.Structure]:
    """The ctypes structure of a mirrored struct."""
    known = _STRUCTURES.get(cls)
    if known is not None:
        return known
    layout: list[tuple[str, Any]] = []
    for member in members(cls):
        ctype: Any = ctypes.c_void_p
        if isinstance(member.kind, Scalar):
            ctype = member.kind.ctype
        elif not isinstance(member.kind, Pointer) and not member.is_array:
            ctype = structure(member.kind)
        layout.append((member.name, ctype if member.count is None else ctype * member.count))
    made = type(cls.c_name, (ctypes.Structure,), {"_fields_": layout})
    return _STRUCTURES.setdefault(cls, made)


class Memory:
    """Makes ctypes structures of mirrored ones, and keeps alive what they point to.

    Args:
        locate: Gives the values of constants of the file as an array whose memory stays where it is.
    """

    def __init__(self, locate: Callable[[Constant], NDArray[Any]]) -> None:
        self._locate = locate
        self._kept: list[Any] = []

    def make(self, value: Any) -> ctypes.Structure:
        """The ctypes structure with the values of a mirrored struct.

        Raises:
            ValueError: A value does not fit its C type.
        """
        made = structure(type(value))()
        for member in members(type(value)):
            setattr(made, member.name, self._convert(member, getattr(value, member.name)))
        return made

    def _convert(self, member: Member, value: Any) -> Any:
        if isinstance(member.kind, Pointer):
            return self.address(member.kind, value)
        if member.is_array:
            if not value:
                return None
            made = [self.make(item) for item in value]
            array = (type(made[0]) * len(made))(*made)
            self._kept.append(array)
            return ctypes.addressof(array)
        if not isinstance(member.kind, Scalar):
            return self.make(value)
        items = value if member.count is not None else (value,)
        for item in items:
            _check_range(member, item)
        return value if member.count is None else (member.kind.ctype * member.count)(*value)

    def address(self, pointer: Pointer, data: Data) -> int | None:
        """The address of constant values; None for NULL."""
        if data is None:
            return None
        assert pointer.target is not None
        array = data.values if isinstance(data, Computed) else self._locate(data)
        size = ctypes.sizeof(pointer.target.ctype)
        if array.ctypes.data % size or not array.flags.c_contiguous:
            array = np.array(array, order="C")
        self._kept.append(array)
        return int(array.ctypes.data)


def _check_range(member: Member, value: Any) -> None:
    assert isinstance(member.kind, Scalar)
    low, high = member.kind.range
    if not low <= value <= high:
        raise ValueError(f"{member.name} is {value}, and {member.kind.name} holds {low} to {high}")


# ---------------------------------------------------------------------------------------------- C text

#: Names the C expression of constant values: an array, or a place in one.
NameOf = Callable[[Constant | Computed], str]

#: Names the C array of some structs.
NameOfArray = Callable[[tuple[Any, ...]], str]


def initializer(value: Any, name_of: NameOf, name_of_array: NameOfArray) -> str:
    """The C99 initialiser of a mirrored struct, on one line: `{.input = {.batches = 1, ...}, ...}`.

    Args:
        value: An instance of a mirrored struct.
        name_of: Names constant values.
        name_of_array: Names arrays of structs, which the caller defines before.

    Raises:
        ValueError: A value does not fit its C type.
    """
    parts = []
    for member in members(type(value)):
        item = getattr(value, member.name)
        if isinstance(member.kind, Pointer):
            text = "NULL" if item is None else name_of(item)
        elif member.is_array:
            text = name_of_array(item) if item else "NULL"
        elif not isinstance(member.kind, Scalar):
            text = initializer(item, name_of, name_of_array)
        else:
            items = item if member.count is not None else (item,)
            for number in items:
                _check_range(member, number)
            joined = ", ".join(_literal(int(number)) for number in items)
            text = joined if member.count is None else f"{{{joined}}}"
        parts.append(f".{member.name} = {text}")
    return "{" + ", ".join(parts) + "}"


def _literal(value: int) -> str:
    """A C literal; the smallest int32 has none, since it would be the negation of one that is too large."""
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)


def pointers(value: Any) -> Iterator[Constant | Computed]:
    """All constant values that a mirrored struct points to, arrays of structs included."""
    for member in members(type(value)):
        item = getattr(value, member.name)
        if isinstance(member.kind, Pointer):
            if item is not None:
                yield item
        elif member.is_array:
            for part in item:
                yield from pointers(part)
        elif not isinstance(member.kind, Scalar):
            yield from pointers(item)
