"""The C kernels stay inside their buffers, and do nothing undefined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tflnest.native.compiler import Compiler


def processor() -> str:
    """Flags of the processor, where the system tells them."""
    information = Path("/proc/cpuinfo")
    return information.read_text(encoding="utf-8") if information.exists() else ""


def sanitizer(compiler: Compiler) -> str:
    """The run-time library that has to be loaded before Python."""
    command = [*compiler.command, "-print-file-name=libasan.so"]
    path = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    if not path.is_absolute() or not path.exists():
        pytest.skip(f"{compiler.command[0]} has no address sanitizer")
    return str(path)


def run(compiler: Compiler, *arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LD_PRELOAD": sanitizer(compiler),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    what = ["-c", code] if code is not None else ["-m", "tests.tflnest.native.sanitized", *arguments]
    return subprocess.run(
        [sys.executable, *what], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def counts(compiler: Compiler, *arguments: str) -> list[int]:
    result = run(compiler, *arguments)
    assert result.returncode == 0, result.stderr[-4000:]
    return [int(word) for word in result.stdout.split()]


#: Compiler flags of every variant that may run on a desktop.
VARIANTS = {
    "narrow": "-DTFLNEST_VARIANT=TFLNEST_VARIANT_NARROW",
    "wide": "-DTFLNEST_PORTABLE",
    "avx2": "-mavx2",
    "native": "-march=native",
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_sanitized(variant: str, compiler: Compiler) -> None:
    if variant == "avx2" and " avx2 " not in processor():
        pytest.skip("the processor has no AVX2")
    models, _, ran, accepted, refused = counts(
        compiler, "--seeds", "1", "--fuzz", "600", "--weighted", VARIANTS[variant]
    )
    assert models > 60
    assert ran > 200 and refused > 50
    assert ran + accepted + refused == 600


def test_sanitized_operators_without_weights(compiler: Compiler) -> None:
    models, misshapen, *_ = counts(compiler, "--seeds", "1", "--fuzz", "0", "--misshapen", "3")
    assert models > 150
    assert misshapen > 300


@pytest.mark.slow
def test_sanitized_at_length(compiler: Compiler) -> None:
    models, misshapen, ran, _, refused = counts(
        compiler, "--seeds", "12", "--fuzz", "20000", "--misshapen", "40", "-march=native"
    )
    assert models > 1500 and misshapen > 3000 and ran > 5000 and refused > 1000


def test_the_sanitizer_sees_one_byte_too_far(compiler: Compiler) -> None:
    code = """
import ctypes
from pathlib import Path
import tempfile
from tests.tflnest.native.sanitized import FLAGS, exact
from tflnest.native.compiler import Compiler, Unit, shared_library
unit = Unit((), (), (), "void touch(char *p, int n) { p[n] = 1; }")
library = ctypes.CDLL(str(shared_library(unit, Compiler.find(), FLAGS)))
memory = exact(24)
library.touch(ctypes.c_void_p(memory.ctypes.data), 23)
print("inside", flush=True)
library.touch(ctypes.c_void_p(memory.ctypes.data), 24)
"""
    result = run(compiler, code=code)
    assert result.returncode != 0
    assert result.stdout.strip() == "inside"
    assert "heap-buffer-overflow" in result.stderr
