"""The C sources build for many processors without a warning, and ask for nothing but memcpy and memset."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware_sim.toolchain import WARNINGS, Toolchain, core_flags
from tflnest.device.sources import INCLUDE, SOURCE
from tflnest.errors import TflnestError

SOURCES = sorted(SOURCE.glob("*.c"))
HEADERS = sorted(INCLUDE.rglob("*.h"))

#: Everything of the C library that the sources may use; targets without one are built with this as <string.h>.
STRING_H = """\
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
"""

#: Helpers of compilers for integers that are wider than registers, and calls of memcpy under another name.
INTEGER_HELPERS = re.compile(
    r"__(u?div|u?mod|u?divmod|mul|ashl|ashr|lshr|clz|ctz|c|uc)(mp)?(si|di)[234]"
    r"|__aeabi_(u?idiv|u?idivmod|u?ldivmod|lmul|llsl|llsr|lasr|ulcmp|lcmp|memcpy[48]?|memset[48]?|memclr[48]?)"
)
#: Headers without functions, which C99 asks of compilers that have no library.
FREESTANDING = {"limits.h", "stddef.h", "stdint.h"}
ALLOWED = {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


@dataclass(frozen=True)
class Target:
    """A compiler with the flags of a processor."""

    command: tuple[str, ...]
    hosted: bool = True


def installed(command: str) -> str:
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed")
    return path


def arm(core: str) -> Target:
    try:
        toolchain = Toolchain.find()
    except TflnestError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return Target((toolchain.compiler, *core_flags(core)))


def target(name: str) -> Target:
    if name.startswith("cortex"):
        return arm(name)
    if name.startswith("riscv"):
        return Target((installed("clang"), f"--target={name}-unknown-elf"), hosted=False)
    compiler, *flags = name.split()
    if flags and platform.machine() != "x86_64":
        pytest.skip("this processor has other extensions")
    return Target((installed(compiler), *flags))


AVX512 = "-march=x86-64-v4 -mavx512vnni"
TARGETS = (
    *("gcc", "gcc -mavx2", "clang", f"clang {AVX512}"),
    *("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m55"),
    "riscv32",
)


def run(command: Sequence[str | Path]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def compile_all(chosen: Target, folder: Path, *flags: str) -> list[Path]:
    """Object files of all sources."""
    options: list[str | Path] = ["-std=c99", *WARNINGS, *flags, f"-I{INCLUDE}"]
    if not chosen.hosted:
        (folder / "string.h").write_text(STRING_H)
        options += ["-ffreestanding", "-nostdlibinc", "-isystem", folder]
    objects = [folder / f"{source.stem}.o" for source in SOURCES]

    def compile_one(source: Path, made: Path) -> None:
        run([*chosen.command, *options, "-c", source, "-o", made])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, SOURCES, objects))
    return objects


def symbols(objects: Sequence[Path]) -> tuple[set[str], set[str]]:
    """Names that are defined, and names that are missing."""
    defined, missing = set(), set()
    for line in run(["nm", *objects]).splitlines():
        words = line.split()
        if len(words) >= 2 and not line.endswith(":"):
            (missing if words[-2] == "U" else defined).add(words[-1])
    return defined, missing - defined


@pytest.mark.parametrize("name", TARGETS)
def test_sources_build_without_a_warning_and_need_no_library(name: str, tmp_path: Path) -> None:
    installed("nm")
    defined, missing = symbols(compile_all(target(name), tmp_path, "-O2"))
    assert "tflnest_conv_s8" in defined
    surprising = {item for item in missing - ALLOWED if not INTEGER_HELPERS.fullmatch(item)}
    assert not surprising, "these are neither of the C library's two nor helpers for wide integers"


def test_portable_kernels_build_where_there_are_others(tmp_path: Path) -> None:
    compile_all(target("cortex-m4"), tmp_path, "-O2", "-DTFLNEST_PORTABLE")
    compile_all(target("cortex-m55"), tmp_path, "-Os", "-DTFLNEST_PORTABLE")


def test_helpers_for_real_numbers_are_none_for_wide_integers() -> None:
    for name in (
        "__aeabi_fadd",
        "__aeabi_dmul",
        "__aeabi_i2f",
        "__aeabi_f2iz",
        "__addsf3",
        "__divdf3",
        "malloc",
    ):
        assert not INTEGER_HELPERS.fullmatch(name)
    for name in ("__aeabi_idiv", "__aeabi_lmul", "__aeabi_uldivmod", "__clzsi2", "__ashldi3", "__udivmodsi4"):
        assert INTEGER_HELPERS.fullmatch(name)


@pytest.mark.parametrize("source", [*SOURCES, *HEADERS, *SOURCE.glob("*.h")], ids=lambda path: path.name)
def test_sources_know_no_memory_manager_and_no_real_numbers(source: Path) -> None:
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", source.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.search(r"\b(malloc|calloc|realloc|free|printf|assert)\s*\(|\b(float|double)\b", text)
    included = set(re.findall(r"#\s*include\s+<([^>]+)>", text))
    assert included <= {*FREESTANDING, "string.h", "arm_acle.h", "arm_mve.h", "immintrin.h"}


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_headers_stand_alone_and_are_cpp_too(header: Path, tmp_path: Path) -> None:
    name = header.relative_to(INCLUDE)
    for suffix, standard in (("c", "c99"), ("cpp", "c++11")):
        source = tmp_path / f"alone.{suffix}"
        source.write_text(f'#include "{name}"\n#include "{name}"\nint main() {{ return 0; }}\n')
        flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{INCLUDE}"]
        compiler = installed("g++" if suffix == "cpp" else "gcc")
        run([compiler, f"-std={standard}", *flags, source])
