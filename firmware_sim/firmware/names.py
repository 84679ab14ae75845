"""Names and types of the C objects of generated firmware."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_sim.firmware.program import DeviceProgram, DeviceStep

#: Width of the text.
COLUMNS = 110

_INDENT = "    "
_NAME_LENGTH = 60


def c_type(dtype: np.dtype[Any]) -> str:
    """The C type of some values; reals and truth values are kept as bits."""
    if dtype.kind in "iu":
        return f"{dtype.name}_t"
    return f"uint{8 * dtype.itemsize}_t"


def literals(values: NDArray[Any]) -> list[str]:
    """C literals of values, flat."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype.kind not in "iu":
        flat = flat.view(f"u{flat.dtype.itemsize}")
    if flat.dtype == np.int64:
        return [f"INT64_C({value})" if value > -(1 << 63) else "INT64_MIN" for value in flat.tolist()]
    if flat.dtype == np.int32:
        return [str(value) if value > -(1 << 31) else "INT32_MIN" for value in flat.tolist()]
    if flat.dtype.kind == "u":
        digits = 2 * flat.dtype.itemsize
        suffix = "u" if flat.dtype.itemsize >= 4 else ""
        return [f"0x{value:0{digits}x}{suffix}" for value in flat.tolist()]
    return [str(value) for value in flat.tolist()]


def wrapped(items: Iterable[str], indent: int = 1) -> list[str]:
    """Items with commas, in lines that are not too long."""
    lines: list[str] = []
    line = ""
    for item in items:
        word = f"{item},"
        if line and len(_INDENT) * indent + len(line) + 1 + len(word) > COLUMNS:
            lines.append(_INDENT * indent + line)
            line = ""
        line = f"{line} {word}" if line else word
    if line:
        lines.append(_INDENT * indent + line)
    return lines


def struct_text(text: str, indent: int = 0, before: int = 0) -> list[str]:
    """The initialiser of a struct, on one line or with a line for every member.

    Args:
        text: On one line.
        indent: Levels of indentation.
        before: Characters that will stand before it on its first line.
    """
    if len(_INDENT) * indent + before + len(text) + 1 <= COLUMNS or not text.startswith("{"):
        return [_INDENT * indent + text]
    lines = [_INDENT * indent + "{"]
    for member in _members(text[1:-1]):
        name, _, value = member.partition(" = ")
        inner = struct_text(value, indent + 1, len(name) + 3)
        inner[0] = f"{_INDENT * (indent + 1)}{name} = {inner[0].strip()}"
        inner[-1] += ","
        lines += inner
    return [*lines, _INDENT * indent + "}"]


def _members(text: str) -> list[str]:
    """The parts between the commas of the outermost braces."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character in "{([":
            depth += 1
        elif character in "})]":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    return [*parts, text[start:].strip()]


def comment(text: str) -> str:
    """Text that cannot end a comment, and is printable ASCII."""
    plain = text.encode("ascii", "replace").decode("ascii")
    return (
        "".join(character if character.isprintable() else "?" for character in plain)
        .replace("*/", "* /")
        .replace("/*", "/ *")
    )


def shortened(text: str) -> str:
    """The first characters of a long name."""
    return text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 3]}..."


def identifier(text: str) -> str:
    """The part of a C identifier that some text suggests."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


def buffer_names(program: DeviceProgram) -> dict[int, str]:
    """A name for every buffer that lies in a page: by what its first reader uses it for."""
    names: dict[int, str] = {}

    def take(tensor: int, name: str) -> None:
        buffer = program.buffer_of(tensor)
        if buffer in program.places:
            names.setdefault(buffer, name)

    for step in program.steps:
        number = step.operator.index
        if step.nested is not None:
            _take_nested(step, take)
            continue
        for position, tensor in enumerate(step.operator.inputs):
            if tensor >= 0:
                take(tensor, f"operator_{number}_{_role(step.operator.name, position)}")
    for buffer in program.places:
        names.setdefault(buffer, f"buffer_{buffer}")
    return names


def _take_nested(step: DeviceStep, take: Any) -> None:
    nested = step.nested
    assert nested is not None
    prefix = f"operator_{step.operator.index}"
    levels = nested.nesting.levels
    for level, plane in zip(levels, nested.planes, strict=True):
        take(plane.tensor, f"{prefix}_level_{level}")
    for level, bias, multipliers in zip(levels, nested.biases, nested.multipliers, strict=True):
        take(bias.tensor, f"{prefix}_constants_{level}")
        take(multipliers.tensor, f"{prefix}_constants_{level}")


_ROLES: dict[str, Sequence[str]] = {
    "CONV_2D": ("input", "filter", "bias"),
    "DEPTHWISE_CONV_2D": ("input", "filter", "bias"),
    "FULLY_CONNECTED": ("input", "filter", "bias"),
}


def _role(operator: str, position: int) -> str:
    roles = _ROLES.get(operator, ())
    return roles[position] if position < len(roles) else f"input_{position}"
