"""The component is complete, clean, and asks the platform for next to nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tflnest.tflm.component import HERE, Toolset, lay_out, run, sources
from tflnest.device.sources import included
from tflnest.tflm import component_sources

#: What the component may need of C's library: strings are compared once, while tensors are allocated.
LIBRARY = {"memchr", "memcpy", "memset", "memcmp", "memmove", "strcmp", "strlen"}
#: Of TFLM.
MICRO = re.compile(r"MicroPrintf|MicroContext|MicroInterpreterContext|MicroInterpreterGraph")
CORE = ("-mthumb", "-mcpu=cortex-m3", "-mfloat-abi=soft", "-Os", "-ffreestanding", "-fstack-usage")
#: Bytes of stack that a function may take: TFLNEST_TFLM_STACK_SCRATCH, and what it saves and computes with.
STACK_BYTES = 1280 + 64


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("component"))


def test_every_header_is_a_part_of_it(component: Path) -> None:
    names = set(component_sources())
    assert {"tflnest_tflm.h", "tflnest_tflm.cc", "tflnest/tflnest_types.h", "tflnest_conv.c"} <= names
    for name in names:
        for header in included((component / name).read_text(encoding="utf-8")):
            assert header in names or header.startswith("tensorflow/lite/micro/"), f"{name} includes {header}"
    assert not [name for name in names if "delegate" in name or "protocol" in name]


@pytest.mark.parametrize("compiler", [("gcc", "g++"), ("clang", "clang++")], ids=["gcc", "clang"])
def test_it_compiles_without_a_warning(compiler: tuple[str, str], component: Path, tmp_path: Path) -> None:
    tools = Toolset(*compiler, flags=("-O1", "-fPIC"))
    tools.require()
    assert tools.compile(sources(component), (component, HERE / "wheel"), tmp_path)


def test_what_it_needs_of_the_platform(component: Path, tmp_path: Path) -> None:
    """No heap, no exceptions, no run-time types, little stack; floating point in nothing that runs in Invoke."""
    for command in ("arm-none-eabi-gcc", "arm-none-eabi-g++", "arm-none-eabi-nm"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    tools = Toolset("arm-none-eabi-gcc", "arm-none-eabi-g++", CORE)
    probe = tmp_path / "probe.cc"
    probe.write_text("#include <cstddef>\n")
    found = subprocess.run(
        ["arm-none-eabi-g++", "-fsyntax-only", str(probe)], capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip("arm-none-eabi-g++ has no C++ headers")
    objects = tools.compile(sources(component), (component, HERE / "wheel"), tmp_path / "objects")
    names = {path: run(["arm-none-eabi-nm", "-C", path]).stdout for path in objects}
    made = {line[11:] for text in names.values() for line in text.splitlines() if line[9:10] in "TtRrDdBbWV"}
    for path, text in names.items():
        needed = {line[11:] for line in text.splitlines() if line[9:10] == "U"} - made - LIBRARY
        foreign = {name for name in needed if not MICRO.search(name) and not name.startswith("__aeabi_")}
        assert not foreign, f"{path.name} needs {sorted(foreign)}"
        floating = {name for name in needed if re.match(r"__aeabi_(c?[fd]|[a-z0-9]*2[fd]$)", name)}
        assert not floating or "nested_call" in path.name, f"{path.name} needs {sorted(floating)}"
    frames = [
        line.split("\t") for path in objects for line in path.with_suffix(".su").read_text().splitlines()
    ]
    assert frames
    assert not [name for name, size, kind in frames if int(size) > STACK_BYTES or kind != "static"]
