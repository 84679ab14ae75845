"""The C kernels with weights as a shared library, and calls of them with guarded memory."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.weight_cases import Case
from tflnest.device.sources import needed_files
from tflnest.device.structures import Memory

RUNTIME = Path(__file__).resolve().parents[2] / "tflnest" / "runtime"

HEADERS = ("tflnest_conv.h", "tflnest_depthwise_conv.h", "tflnest_fully_connected.h")

SOURCES = [
    path for path in needed_files((f"tflnest/{name}" for name in HEADERS), host=True) if path.suffix == ".c"
]

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")

#: Bytes around a buffer that must not change.
GUARD = 64


def build(directory: Path, *flags: str, compiler: str = "gcc") -> ctypes.CDLL:
    """Compile the kernels for this machine; skips where there is no such compiler."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    target = directory / "kernels.so"
    includes = ["-I", str(RUNTIME / "include"), "-I", str(RUNTIME / "src")]
    command = [compiler, "-std=c99", "-shared", "-fPIC", *WARNINGS, *flags, *includes, *map(str, SOURCES)]
    subprocess.run([*command, "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


def call(library: ctypes.CDLL, case: Case) -> NDArray[np.int8]:
    """Check the parameters, and run a case with exactly as much scratch as the kernel asks for.

    Raises:
        AssertionError: The parameters are refused, or memory beside output or scratch is written.
    """
    memory = Memory(lambda constant: pytest.fail(f"{constant} lies in no file"))
    params, weights = memory.make(case.params), memory.make(case.filter)
    name = f"tflnest_{case.kernel}"
    assert getattr(library, f"{name}_check")(ctypes.byref(params), ctypes.byref(weights)) == 0
    size = getattr(library, f"{name}_get_buffer_size")
    size.restype = ctypes.c_uint32
    scratch, scratch_at = _guarded(size(ctypes.byref(params)))
    output, output_at = _guarded(case.expected.size)
    source = case.input.copy()
    has_tile = case.params.tile_channels > 0
    run = getattr(library, f"{name}_s8" if has_tile else f"{name}_unbuffered_s8")
    run.restype = None
    run(
        ctypes.byref(params),
        ctypes.byref(weights),
        ctypes.c_void_p(source.ctypes.data),
        ctypes.c_void_p(output_at),
        *([ctypes.c_void_p(scratch_at)] if has_tile else []),
    )
    for buffer in (scratch, output):
        assert np.all(buffer[:GUARD] == 0x5A) and np.all(buffer[-GUARD:] == 0x5A)
    assert np.array_equal(source, case.input)
    return output[GUARD:-GUARD].view(np.int8).reshape(case.expected.shape)


def _guarded(size: int) -> tuple[NDArray[np.uint8], int]:
    buffer = np.full(size + 2 * GUARD, 0x5A, np.uint8)
    assert buffer.ctypes.data % 8 == 0
    return buffer, int(buffer.ctypes.data) + GUARD
