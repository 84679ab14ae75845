"""Settings from TOML files: known keys, and values of the right type."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from tflnest.errors import UsageError
from tflnest.files import read_file

Settings = TypeVar("Settings")

#: What messages call the types of values.
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        FormatError: It cannot be read.
        UsageError: It is no TOML.
    """
    try:
        return tomllib.loads(read_file(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML file: {error}") from None


def check_keys(content: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    """Refuse keys that mean nothing.

    Raises:
        UsageError: A key is unknown; the hint names the one that was probably meant.
    """
    for key in content:
        if key not in allowed:
            close = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UsageError(
                f"{where} has an unknown key {key!r}", f"{hint}keys are {', '.join(sorted(allowed))}"
            )


def read_settings(kind: type[Settings], content: Any, where: str) -> Settings:
    """A dataclass of plain values from a table.

    Args:
        kind: Its fields are `bool`, `int`, `float` or `str`, or one of these and None, and have defaults.
        content: The table.
        where: What messages call it.

    Raises:
        UsageError: It is no table, a key is unknown, or a value has the wrong type.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"{where} is {content!r}, a table was expected", f"write [{where}] above its keys")
    hints = get_type_hints(kind)
    check_keys(content, {field.name for field in fields(kind)}, where)  # type: ignore[arg-type]
    return kind(**{key: read_value(value, hints[key], f"{key} of {where}") for key, value in content.items()})


def read_value(value: Any, kind: Any, where: str) -> Any:
    """A value of the wanted type; whole numbers are numbers too.

    Raises:
        UsageError: It has another type.
    """
    wanted = next((item for item in (get_args(kind) or (kind,)) if item is not type(None)), kind)
    taken = (int, float) if wanted is float else (wanted,)
    if not isinstance(value, taken) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{where} is {value!r}, {_NAMES[wanted]} was expected")
    return wanted(value)
