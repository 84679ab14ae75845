"""The C header with the constants of the nested file, written from the modules that define them.

Run `python -m tflnest.plugin.header` after a change there; a test compares the file with what it must be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tflnest import container
from tflnest.container import HEADER, LEVEL, PAGE, SEGMENT
from tflnest.files import write_file
from tflnest.materialization import MAX_WEIGHTS as MAX_EXPANDED_WEIGHTS
from tflnest.native.kernels import TILE_BYTES, TILE_STEP
from tflnest.nested import (
    CHANNEL_AXIS,
    FILTER_RANK,
    MAX_DIMENSION,
    MAX_OPTION_ITEMS,
    MAX_WEIGHTS,
    OPTION_ENUMS,
    OPTION_RANGES,
    POSITIVE,
    PREFIX,
    STOCK_OPTIONS,
)
from tflnest.nesting import MASTER_BITS, Scheme
from tflnest.schema import enum_names, enum_value

HEADER_PATH = Path(__file__).parents[1] / "runtime" / "nested" / "tflnest_format.h"

#: C names of the numbers, all behind `TFLNEST_`.
_NUMBERS = {
    "MASTER_BITS": MASTER_BITS,
    "MAX_LEVELS": container.MAX_LEVELS,
    "MAX_SEGMENTS": container.MAX_SEGMENTS,
    "MAX_RECIPE_BYTES": container.MAX_RECIPE_BYTES,
    "MAX_OPTION_ITEMS": MAX_OPTION_ITEMS,
    "MAX_FILTER_DIMENSION": MAX_DIMENSION,
    "MAX_WEIGHTS": MAX_WEIGHTS,
    "TILE_BYTES": TILE_BYTES,
    "TILE_STEP": TILE_STEP,
}

#: Fields of the directory's header, in the order of `tflnest.container.HEADER`; None is the magic.
_DIRECTORY_FIELDS = (
    None,
    "VERSION",
    "HEADER_SIZE",
    "FLAGS",
    "IDENTITY",
    "LEVEL_COUNT",
    "PAGE_COUNT",
    "SEGMENT_COUNT",
    "RECIPE_SIZE",
    "CRC32",
)

#: Operators, in the order of their numbers in C.
_STOCKS = tuple(STOCK_OPTIONS)


def c_header() -> str:
    """The text of the header."""
    lines = [
        "/* Constants of the nested file (FORMAT.md).",
        " *",
        " * Generated from tflnest/nested.py and tflnest/container.py by `python -m tflnest.plugin.header`: do not edit.",
        " */",
        "#ifndef TFLNEST_FORMAT_H",
        "#define TFLNEST_FORMAT_H",
        "",
        *defines(_NUMBERS),
        "",
        "/* Operators. */",
        *defines({f"STOCK_{name}": number for number, name in enumerate(_STOCKS)}),
        f'#define TFLNEST_PREFIX "{PREFIX}"',
        "#define TFLNEST_CUSTOM_CODES {" + ", ".join(f'"{PREFIX}{name}"' for name in _STOCKS) + "}",
        "#define TFLNEST_FILTER_RANKS {" + ", ".join(str(FILTER_RANK[name]) for name in _STOCKS) + "}",
        "#define TFLNEST_CHANNEL_AXES {" + ", ".join(str(CHANNEL_AXIS[name]) for name in _STOCKS) + "}",
        "#define TFLNEST_BUILTIN_CODES {" + ", ".join(map(str, _builtin_codes())) + "}",
        *defines({"BUILTIN_CUSTOM": enum_value("BuiltinOperator", "CUSTOM")}),
        *defines({"MAX_EXPANDED_WEIGHTS": MAX_EXPANDED_WEIGHTS}),
        "",
        "/* Values of options. */",
        *defines({f"SCHEME_{scheme.name}": number for number, scheme in enumerate(Scheme)}),
        *defines({f"PADDING_{name}": number for number, name in _enum("padding").items()}),
        *defines(
            {f"ACTIVATION_{name}": number for number, name in _enum("fused_activation_function").items()}
        ),
        "",
        "/* Options that are one integer: X(name, operators that have it as bits, lowest, highest, preset).",
        " * A preset below the lowest value: the option must be given. */",
        "#define TFLNEST_INTEGER_OPTIONS(X) \\",
        " \\\n".join(f"    X({', '.join(row)})" for row in _integer_options()),
        "",
        "/* Types of tensors that a nested operator has. */",
        *defines({f"TYPE_{name}": enum_value("TensorType", name) for name in ("INT32", "UINT8", "INT8")}),
        "",
        "/* The page directory. */",
        *_directory(),
    ]
    return "\n".join([*lines, "", "#endif", ""])


def _builtin_codes() -> list[int]:
    return [enum_value("BuiltinOperator", name) for name in _STOCKS]


def _enum(option: str) -> Mapping[int, str]:
    return enum_names(OPTION_ENUMS[option])


def _integer_options() -> Iterator[tuple[str, ...]]:
    everyone = (1 << len(_STOCKS)) - 1
    yield "version", f"{everyone}u", "1", str(POSITIVE[1]), "0"
    yield "scheme", f"{everyone}u", "0", str(len(Scheme) - 1), "0"
    yield "separate", f"{everyone}u", *map(str, OPTION_RANGES["separate"]), "0"
    names = dict.fromkeys(name for options in STOCK_OPTIONS.values() for name in options)
    for name in names:
        stocks = [number for number, stock in enumerate(_STOCKS) if name in STOCK_OPTIONS[stock]]
        preset = STOCK_OPTIONS[_STOCKS[stocks[0]]][name]
        if name in OPTION_ENUMS:
            low, high, preset = min(_enum(name)), max(_enum(name)), enum_value(OPTION_ENUMS[name], preset)
        else:
            low, high = OPTION_RANGES.get(name, POSITIVE)
        yield name, f"{sum(1 << stock for stock in stocks)}u", str(low), str(high), str(preset)


def _directory() -> Iterator[str]:
    yield f'#define TFLNEST_DIRECTORY_MAGIC "{container.MAGIC.rstrip(bytes(1)).decode()}"'
    sizes = {"HEADER": HEADER, "LEVEL": LEVEL, "PAGE": PAGE, "SEGMENT": SEGMENT}
    yield from defines({f"DIRECTORY_{name}_BYTES": layout.size for name, layout in sizes.items()})
    yield from defines({"DIRECTORY_IDENTITY_BYTES": 32, "DIRECTORY_VERSION": container.VERSION})
    yield from defines(places("DIRECTORY", HEADER, _DIRECTORY_FIELDS))


def places(name: str, layout: struct.Struct, fields: Sequence[str | None]) -> dict[str, int]:
    """Where the fields of a layout lie: each at the first byte that it changes.

    Args:
        name: What all names begin with.
        layout: The layout.
        fields: Names of its fields, in order; None for those that need none.
    """
    blank = layout.unpack(bytes(layout.size))
    found = {}
    for position, (field, zero) in enumerate(zip(fields, blank, strict=True)):
        if field is not None:
            value = b"\1" if isinstance(zero, bytes) else 1
            row = layout.pack(*blank[:position], value, *blank[position + 1 :])
            found[f"{name}_AT_{field}"] = row.index(1)
    return found


def defines(numbers: Mapping[str, int]) -> list[str]:
    """Lines that define numbers, all behind `TFLNEST_`."""
    return [f"#define TFLNEST_{name} {number}" for name, number in numbers.items()]


def write_header(path: Path = HEADER_PATH) -> None:
    """Write the header to its place in the runtime.

    Args:
        path: The file.
    """
    write_file(path, c_header().encode("ascii"), force=True)


if __name__ == "__main__":
    write_header()
