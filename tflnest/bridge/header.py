"""The C header with the constants of the serial protocol, written from `tflnest.bridge.messages`.

Run `python -m tflnest.bridge.header` after a change there; a test compares the file with what it must be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from tflnest.bridge import messages
from tflnest.bridge.messages import ErrorCode, Layout, MessageType, Place, Table
from tflnest.files import write_file
from tflnest.version import __version__

HEADER_PATH = Path(__file__).parents[1] / "runtime" / "include" / "tflnest" / "tflnest_protocol_messages.h"

#: C names of the numbers, all behind `TFLNEST_PROTOCOL_`.
_NUMBERS = {
    "VERSION": messages.PROTOCOL_VERSION,
    "RUNTIME_VERSION": messages.runtime_version(__version__),
    "CRC_BYTES": messages.CRC_BYTES,
    "MIN_FRAME_BYTES": messages.MIN_FRAME_BYTES,
    "MAX_FRAME_BYTES": messages.MAX_FRAME_BYTES,
    "REPLY_BIT": messages.REPLY_BIT,
    "BOARD_NAME_BYTES": messages.BOARD_NAME_BYTES,
    "MAX_PAGES": messages.MAX_PAGES,
    "MAX_LEVELS": messages.MAX_LEVELS,
    "MAX_DIMENSIONS": messages.MAX_DIMENSIONS,
    "NO_PAGE": messages.NO_PAGE,
    "WHOLE_MODEL": messages.WHOLE_MODEL,
    "RESET_KEY": messages.RESET_KEY,
}
_ENUMS: dict[str, type[IntEnum]] = {
    "MESSAGE": MessageType,
    "TABLE": Table,
    "PLACE": Place,
    "ERROR_CODE": ErrorCode,
}


def c_header() -> str:
    """The text of the header."""
    lines = [
        "/* Constants of the serial protocol (PROTOCOL.md).",
        " *",
        " * Generated from tflnest/bridge/messages.py by `python -m tflnest.bridge.header`: do not edit.",
        " */",
        "#ifndef TFLNEST_PROTOCOL_MESSAGES_H",
        "#define TFLNEST_PROTOCOL_MESSAGES_H",
        "",
        *(_define(f"PROTOCOL_{name}", value) for name, value in _NUMBERS.items()),
    ]
    for prefix, members in _ENUMS.items():
        lines += ["", f"/* {_first_line(members)} */"]
        lines += [_define(f"{prefix}_{member.name}", member.value) for member in members]
    for layout in _layouts():
        name = _snake(layout.__name__)
        lines += ["", f"/* {_first_line(layout)} */"]
        lines += [
            _define(f"{name}_AT_{field.upper()}", offset)
            for field, offset in layout.offsets().items()
            if not field.startswith("reserved")
        ]
        lines.append(_define(f"{name}_BYTES", layout.structure().size))
    return "\n".join([*lines, "", "#endif", ""])


def write_header(path: Path = HEADER_PATH) -> None:
    """Write the header to its place in the runtime.

    Args:
        path: The file.
    """
    write_file(path, c_header().encode("ascii"), force=True)


def _layouts() -> Iterator[type[Layout]]:
    """Every layout once, in the order of the module."""
    yield messages.Header
    groups = (messages.REQUESTS, messages.REPLIES, messages.ROWS)
    yield from dict.fromkeys(layout for group in groups for layout in group.values())


def _define(name: str, value: int) -> str:
    return f"#define TFLNEST_{name} " + (f"0x{value:02X}u" if name.startswith("MESSAGE_") else f"{value}u")


def _first_line(kind: type[object]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()


if __name__ == "__main__":
    write_header()
