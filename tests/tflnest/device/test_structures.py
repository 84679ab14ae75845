"""The Python mirrors of the C structs have the layout that a C compiler gives them."""

from __future__ import annotations

import ctypes
import importlib
import pkgutil
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import tflnest.device
from tflnest.device.parameters import ConvParams, Extent, Field, Filter, Requantization, Shape
from tflnest.device.structures import (
    Array,
    Computed,
    Constant,
    Int8,
    Int32,
    Memory,
    UInt8,
    UInt8Data,
    c_struct,
    initializer,
    pointers,
    structure,
)

INCLUDE = Path(tflnest.device.__file__).parent.parent / "runtime" / "include"


def mirrors() -> list[type[Any]]:
    """Every mirrored struct of the package."""
    found: dict[str, type[Any]] = {}
    for module in pkgutil.iter_modules(tflnest.device.__path__):
        names = vars(importlib.import_module(f"tflnest.device.{module.name}")).values()
        found.update(
            {item.c_name: item for item in names if isinstance(item, type) and hasattr(item, "c_name")}
        )
    return [found[name] for name in sorted(found)]


def test_layouts_are_those_of_the_compiler(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    lines, expected = [], []
    for cls in mirrors():
        made = structure(cls)
        lines.append(f'printf("{cls.c_name} %zu\\n", sizeof({cls.c_name}));')
        expected.append(f"{cls.c_name} {ctypes.sizeof(made)}")
        for name, ctype in made._fields_:
            member = f"((({cls.c_name} *)0)->{name})"
            lines.append(f'printf("  {name} %zu %zu\\n", offsetof({cls.c_name}, {name}), sizeof {member});')
            expected.append(f"  {name} {getattr(made, name).offset} {ctypes.sizeof(ctype)}")
    headers = sorted(path.relative_to(INCLUDE).as_posix() for path in INCLUDE.rglob("*.h"))
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stdio.h>\n"
        + "".join(f'#include "{header}"\n' for header in headers)
        + "int main(void) {\n"
        + "\n".join(lines)
        + "\nreturn 0;\n}\n"
    )
    program = tmp_path / "layout"
    subprocess.run([compiler, "-std=c99", "-I", INCLUDE, source, "-o", program], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == expected
    assert len(mirrors()) >= 8


PARAMS = ConvParams(
    input=Shape(1, 4, 5, 6),
    output=Shape(1, 2, 3, 7),
    filter=Extent(3, 3),
    stride=Extent(2, 2),
    dilation=Extent(1, 1),
    padding=Extent(0, 1),
    groups=1,
    tile_channels=4,
    requantization=Requantization(-128, 127, -(1 << 31), 127),
)


def test_values_arrive_in_memory() -> None:
    bias, codes = np.arange(3, dtype=np.int32), np.arange(40, dtype=np.uint8)
    memory = Memory(lambda constant: {1: codes, 2: bias}[constant.tensor][constant.offset :])
    made = memory.make(PARAMS)
    assert (made.input.width, made.output.channels, made.padding.width) == (5, 7, 1)
    fields = (Field(Constant(1), 4, 4), Field(Constant(1, 8), 2, 2))
    made = memory.make(
        Filter(None, fields, 2, 136, 1, 1, Constant(2), None, Computed(np.zeros(3, np.int8), "s"))
    )
    first = ctypes.cast(made.fields, ctypes.POINTER(structure(Field)))
    assert [(first[i].bits, first[i].shift) for i in range(2)] == [(4, 4), (2, 2)]
    assert ctypes.cast(first[1].codes, ctypes.POINTER(ctypes.c_uint8))[0] == 8
    assert first[0].codes == codes.ctypes.data, "planes are read where they are"
    assert ctypes.cast(made.bias, ctypes.POINTER(ctypes.c_int32))[2] == 2
    assert made.values is None and made.multipliers is None


def test_misaligned_values_are_moved() -> None:
    raw = np.zeros(17, np.uint8)
    raw[1:5] = np.frombuffer(np.array([77], np.int32).tobytes(), np.uint8)
    memory = Memory(lambda constant: raw[1:5].view(np.int32))
    made = memory.make(Filter(None, (), 0, 0, 0, 0, Constant(0), None, None))
    assert made.bias % 4 == 0
    assert ctypes.cast(made.bias, ctypes.POINTER(ctypes.c_int32))[0] == 77


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"height is 2147483648, and int32_t holds"):
        Memory(lambda constant: np.zeros(1)).make(Extent(1 << 31, 0))
    with pytest.raises(ValueError, match="bits is 256"):
        initializer(Field(None, 256, 0), str, str)


@c_struct("numbers")
@dataclass(frozen=True)
class Numbers:
    """A struct with everything that a mirror can have."""

    single: Int8
    several: tuple[Int32, Int32, Int32]
    bytes: UInt8Data
    parts: Annotated[tuple[Field, ...], Array]
    count: UInt8


def test_initialisers_compile_to_the_same_bytes(tmp_path: Path) -> None:
    value = Numbers(-5, (1, -(1 << 31), 3), Constant(3, 8), (Field(Constant(3, 2), 2, 6),), 1)
    text = initializer(value, lambda data: f"tensor_{data.tensor} + {data.offset}", lambda items: "fields_0")
    assert text == (
        "{.single = -5, .several = {1, (-2147483647 - 1), 3}, .bytes = tensor_3 + 8, .parts = fields_0, .count = 1}"
    )
    assert list(pointers(value)) == [Constant(3, 8), Constant(3, 2)]
    made = Memory(lambda constant: np.zeros(20, np.uint8)[constant.offset :]).make(value)
    assert list(made.several) == [1, -(1 << 31), 3]
