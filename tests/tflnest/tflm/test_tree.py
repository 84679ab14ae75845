"""The component in TFLM built from source: on this machine, and on emulated boards with either kind of kernels.

Needs the environment variable TFLM_ROOT; see tests/tflnest/tflm/tree.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_sim.emulator import run as run_firmware
from firmware_sim.qemu import find_qemu
from firmware_sim.toolchain import Toolchain
from tests.shared import INT8_MODELS
from tests.tflnest.tflm import tree
from tests.tflnest.tflm.board import PROCESSORS, SETTINGS, VARIANTS, Printed, board_tree, link, objects_for
from tests.tflnest.tflm.component import run
from tests.tflnest.tflm.script import Script
from tests.tflnest.tflm.subjects import CONVERSIONS, LARGEST, subject
from tflnest.errors import TflnestError

pytestmark = pytest.mark.slow

#: Bytes of stack that the whole program may take.
STACK_BYTES = 3072


def check(printed: Printed, script: Script, expected: list[bytes]) -> None:
    assert printed.statuses == script.statuses
    rows = zip((0, *script.runs), printed.outputs, expected, strict=True)
    assert not [(number, level) for number, (level, mine, right) in enumerate(rows) if mine != right]
    assert printed.outputs[0] == printed.outputs[1]  # the full-bit level is the int8 model
    assert printed.numbers["left"] == 0
    assert printed.numbers.get("stack", 0) <= STACK_BYTES


cases = pytest.mark.parametrize(
    ("name", "conversion"),
    [(name, way) for name in INT8_MODELS for way in CONVERSIONS if name != LARGEST or way == "uniform"],
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects and TFLM for this machine."""
    folder = tmp_path_factory.mktemp("host")
    built = tree.host_tree(tree.root())
    return [*built.program(folder, SETTINGS), built.library(folder)]


@cases
def test_on_this_machine(name: str, conversion: str, host: list[Path], tmp_path: Path) -> None:
    script, expected = subject(name, conversion)
    run(["g++", "-o", tmp_path / "program", *host[:-1], script.source(tmp_path), host[-1]])
    check(Printed.parse(run([tmp_path / "program"]).stdout), script, expected)


@pytest.fixture(
    scope="module", params=VARIANTS, ids=lambda it: f"{it[0]}-{'cmsis_nn' if it[1] else 'reference'}"
)
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """A processor, and objects and TFLM for it."""
    processor, has_cmsis = request.param
    path = tree.root()
    try:
        Toolchain.find()
        find_qemu()
    except TflnestError as error:
        pytest.skip(error.message)
    built = board_tree(path, has_cmsis, processor)
    folder = tmp_path_factory.mktemp(processor)
    return processor, [*objects_for(built, folder), built.library(folder)]


@cases
def test_on_an_emulated_board(
    name: str, conversion: str, board: tuple[str, list[Path]], tmp_path: Path
) -> None:
    processor, files = board
    script, expected = subject(name, conversion)
    image = link([*files[:-1], script.source(tmp_path), files[-1]], tmp_path / "firmware.elf", processor)
    finished = run_firmware(PROCESSORS[processor].board, image, timeout_s=300)
    assert finished.status == 0, finished.output[-500:]
    printed = Printed.parse(finished.output.decode())
    check(printed, script, expected)
    stock, own = printed.numbers["stock"], printed.numbers["nested"]
    assert own <= stock, f"{own} bytes of arena, {stock} with the int8 model"
