"""The C header with the layout of nested filters in TFLM_DECODE, written from the module that defines it.

Run `python -m tflnest.plugin.decode_header` after a change there; a test compares the file with what it must be.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tflnest import plane_decoding
from tflnest.files import write_file
from tflnest.plane_decoding import HEADER, PAGES_HEADER, PAGES_ROW, ROW
from tflnest.plugin.header import defines, places

HEADER_PATH = Path(__file__).parents[1] / "runtime" / "tflm" / "tflnest_decode_format.h"

#: Fields of each layout, in order; those without a name are known by their value or reserved.
_FIELDS: dict[str, tuple[struct.Struct, tuple[str | None, ...]]] = {
    "DECODE": (
        HEADER,
        (
            *(
                "TYPE",
                "COMMON_VERSION",
                None,
                "LAYOUT_VERSION",
                "SCHEME",
                "LEVEL_COUNT",
                "MODEL_LEVEL_COUNT",
                "RESERVED",
            ),
            *("LEVELS", "MODEL_LEVELS"),
        ),
    ),
    "DECODE_ROW": (ROW, ("PLANE", "BIAS", "PLANE_PAGE", "BIAS_PAGE", "RESERVED")),
    "DECODE_PAGES": (PAGES_HEADER, (None, "VERSION", "HEADER_SIZE", "LEVEL_COUNT", "RESERVED", "IDENTITY")),
    "DECODE_PAGE": (PAGES_ROW, ("BITS", None, None, "SIZE", "CRC32")),
}


def c_header() -> str:
    """The text of the header."""
    lines = [
        "/* Nested filters in TFLM_DECODE (FORMAT.md, section 16).",
        " *",
        " * Generated from tflnest/plane_decoding.py by `python -m tflnest.plugin.decode_header`: do not edit.",
        " */",
        "#ifndef TFLNEST_DECODE_FORMAT_H",
        "#define TFLNEST_DECODE_FORMAT_H",
        "",
        *defines(
            {
                "DECODE_TYPE": plane_decoding.TYPE,
                "DECODE_LAYOUT_VERSION": plane_decoding.LAYOUT_VERSION,
                "DECODE_PAGES_VERSION": plane_decoding.PAGES_VERSION,
            }
        ),
        f'#define TFLNEST_DECODE_METADATA "{plane_decoding.METADATA_NAME}"',
        f'#define TFLNEST_DECODE_PAGES_MAGIC "{plane_decoding.MAGIC.rstrip(bytes(1)).decode()}"',
    ]
    for name, (layout, fields) in _FIELDS.items():
        lines += ["", *defines({f"{name}_BYTES": layout.size}), *defines(places(name, layout, fields))]
    return "\n".join([*lines, "", "#endif", ""])


def write_header(path: Path = HEADER_PATH) -> None:
    """Write the header to its place in the component for TFLM.

    Args:
        path: The file.
    """
    write_file(path, c_header().encode("ascii"), force=True)


if __name__ == "__main__":
    write_header()
