"""The component in TFLM built from source: on this machine, and on an emulated Cortex-M4 with either kind of kernels.

Needs the environment variable TFLM_ROOT; see tests/tflnest/tflm/tree.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firmware_sim.counting import Counter
from firmware_sim.emulator import run as run_firmware
from firmware_sim.qemu import find_qemu
from firmware_sim.toolchain import Toolchain
from tests.exactness import random_inputs
from tests.models import everything, nested
from tests.shared import SHARED
from tests.tflnest.tflm import tree
from tests.tflnest.tflm.board import LEVELS, SETTINGS, Printed, board_tree, link, objects_for, profile
from tests.tflnest.tflm.component import run
from tflnest.errors import TflnestError
from tflnest.interpreter import Interpreter
from tflnest.model import Model

pytestmark = pytest.mark.slow

MODELS = (
    "kws_ref_model",
    "micro_speech_quantized",
    "pretrainedResnet_quant",
    "ad01_int8",
    "hello_world_int8",
)


def inputs(name: str, folder: Path) -> tuple[Path, bytes, np.ndarray]:
    path = SHARED / "models" / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    stock = path.read_bytes()
    content = nested(Model.from_bytes(stock), everything()).to_bytes()
    sample = random_inputs(stock, 1, seed=5)[0][0]
    return tree.models(folder, stock, content, sample.tobytes()), content, sample


def check(printed: Printed, content: bytes, sample: np.ndarray) -> None:
    for level, output in zip(LEVELS, printed.outputs[1:], strict=True):
        assert output == np.asarray(Interpreter(model_content=content, level=level).run(sample)).tobytes(), (
            level
        )
    assert printed.outputs[0] == printed.outputs[1]  # the full-bit level is the int8 model
    assert (printed.numbers["refused"], printed.numbers["left"]) == (2, 0)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects and TFLM for this machine."""
    folder = tmp_path_factory.mktemp("host")
    built = tree.host_tree(tree.root())
    return [*built.program(folder, SETTINGS), built.library(folder)]


@pytest.mark.parametrize("name", MODELS)
def test_on_this_machine(name: str, host: list[Path], tmp_path: Path) -> None:
    source, content, sample = inputs(name, tmp_path)
    run(["g++", "-o", tmp_path / "program", *host[:-1], source, host[-1]])
    check(Printed.parse(run([tmp_path / "program"]).stdout), content, sample)


@pytest.fixture(scope="module", params=["reference", "cmsis_nn"])
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects and TFLM for the Cortex-M4, with either kind of kernels."""
    path = tree.root()
    try:
        Toolchain.find()
        find_qemu()
    except TflnestError as error:
        pytest.skip(error.message)
    built = board_tree(path, request.param == "cmsis_nn")
    folder = tmp_path_factory.mktemp(request.param)
    return [*objects_for(built, folder), built.library(folder)]


@pytest.mark.parametrize("name", MODELS)
def test_on_an_emulated_board(name: str, board: list[Path], tmp_path: Path) -> None:
    source, content, sample = inputs(name, tmp_path)
    image = link(Toolchain.find(), [*board[:-1], source, board[-1]], tmp_path / "firmware.elf")
    finished = run_firmware(profile(), image, counter=Counter(), timeout_s=120)
    assert finished.status == 0, finished.output[-500:]
    printed = Printed.parse(finished.output.decode())
    check(printed, content, sample)
    stock, own = printed.numbers["stock"], printed.numbers["nested"]
    assert own <= stock, f"{own} bytes of arena, {stock} with the int8 model"
    assert len(finished.regions) == 1 + len(LEVELS)
