"""The variants of the kernels with weights for each core, on emulated boards."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.toolchain import PREFIX, WARNINGS, Toolchain, core_flags
from tests.firmware_sim.monitor import require_emulator
from tests.runtime.weight_board import build, measure
from tests.runtime.weight_cases import (
    NESTINGS,
    Case,
    conv_case,
    depthwise_case,
    fully_connected_case,
    random_case,
)
from tests.runtime.weight_library import RUNTIME, SOURCES
from tflnest.device.core import Core
from tflnest.device.scratch import conv_scratch, depthwise_conv_scratch, fully_connected_scratch

#: Each board with the variant that is compiled for its core.
BOARDS = {
    "mps2-an385": Core.PORTABLE,
    "mps2-an386": Core.DSP,
    "mps2-an500": Core.DSP,
    "mps3-an547": Core.MVE,
}

SCRATCH = {
    "conv": conv_scratch,
    "depthwise_conv": depthwise_conv_scratch,
    "fully_connected": fully_connected_scratch,
}


def _wide_cases(rng: np.random.Generator) -> list[Case]:
    """Every chain through the inner loops of all variants, with and without a rest."""
    cases = []
    for nesting in NESTINGS:
        for channels in (16, 48, 64, 27):
            cases.append(conv_case(rng, image=(1, 3, 3, channels), channels=channels // 2, nesting=nesting))
            cases.append(fully_connected_case(rng, inputs=2 * channels, outputs=18, nesting=nesting))
        cases.append(conv_case(rng, image=(1, 3, 3, 64), channels=18, taps=(1, 1), nesting=nesting))
        cases.append(depthwise_case(rng, image=(1, 5, 6, 28), nesting=nesting))
    return cases


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("optimization", ["-O2", pytest.param("-Os", marks=pytest.mark.slow)])
def test_outputs_and_scratch_equal_the_reference(board: str, optimization: str, tmp_path: Path) -> None:
    require_emulator()
    rng = np.random.default_rng(len(board) + len(optimization))
    cases = [random_case(rng) for _ in range(100)] + _wide_cases(rng)
    image = build(board, tmp_path, optimization)
    for case, measured in zip(cases, measure(board, image, cases, tmp_path), strict=True):
        assert measured.wrong == 0, (case.kernel, case.params)
        assert measured.scratch_bytes == SCRATCH[case.kernel](case.params, BOARDS[board])


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS)
def test_many_random_cases(board: str, tmp_path: Path) -> None:
    require_emulator()
    image = build(board, tmp_path)
    for seed in range(10):
        rng = np.random.default_rng(1000 + seed)
        cases = [random_case(rng) for _ in range(100)]
        for case, measured in zip(cases, measure(board, image, cases, tmp_path), strict=True):
            assert measured.wrong == 0, (case.kernel, case.params)


@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
def test_clang_compiles_the_same(board: str, tmp_path: Path) -> None:
    require_emulator()
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    headers = Path(Toolchain.find().compiler).resolve().parent.parent / "lib" / PREFIX.rstrip("-") / "include"
    if not headers.is_dir():
        pytest.skip("the C library of the cross compiler is elsewhere")
    objects = []
    for source in SOURCES:
        objects.append(tmp_path / f"{source.stem}.o")
        command = ["clang", "--target=arm-none-eabi", *core_flags(Board.load(board).core), "-std=c99", "-O2"]
        command += [*WARNINGS, f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}", "-isystem", str(headers)]
        subprocess.run(
            [*command, "-ffreestanding", "-fshort-enums", "-c", str(source), "-o", str(objects[-1])],
            check=True,
        )
    rng = np.random.default_rng(5)
    cases = [random_case(rng) for _ in range(30)] + _wide_cases(rng)[:20]
    measured = measure(
        board, build(board, tmp_path, flags=["-Wl,--no-warn-execstack"], kernels=objects), cases, tmp_path
    )
    assert [one.wrong for one in measured] == [0] * len(cases)
