"""Components for ESP-IDF, built with idf.py of the ESP-IDF that IDF_PATH names, for its target that is this computer."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.component.exporting import export_component
from firmware_sim.firmware.selftest import expected_crc32
from tests.firmware_sim.component.test_component import report
from tests.models import NetworkBuilder, everything, nested
from tflnest.interpreter import Interpreter
from tflnest.model import Model

pytestmark = pytest.mark.slow

LEVELS = (4, 6, 8)

#: Seconds after which a program that says nothing more has failed.
PATIENCE_S = 60.0

#: An application with the component below its own `components`.
PROJECT = """
cmake_minimum_required(VERSION 3.16)
set(COMPONENTS main)
include($ENV{IDF_PATH}/tools/cmake/project.cmake)
project(application)
"""

MAIN = 'idf_component_register(SRCS "main.c" REQUIRES net)\n'

APPLICATION = """
#include <stdio.h>

#include "net.h"

void app_main(void)
{
    static int8_t input[MODEL_INPUT_BYTES];
    static int8_t output[MODEL_OUTPUT_BYTES];

    if (model_start() == TFLNEST_OK && tflnest_pager_set_level(&model_pager, 6) == TFLNEST_OK &&
        model_invoke(input, output) == TFLNEST_OK) {
        for (unsigned i = 0; i < MODEL_OUTPUT_BYTES; i++) {
            printf("%d ", output[i]);
        }
    }
    puts("end");
}
"""


@dataclass(frozen=True)
class EspIdf:
    """An ESP-IDF that is set up.

    Attributes:
        root: Its folder.
        command: How its idf.py is called.
        variables: Its environment.
    """

    root: Path
    command: tuple[str, ...]
    variables: Mapping[str, str]

    def run(self, folder: Path, *arguments: str) -> str:
        """What idf.py prints in a project; it must succeed."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def build(self, project: Path) -> Path:
        """Build a project for this computer; no file but ESP-IDF's own may give a warning.

        Returns:
            The program.
        """
        self.run(project, "--preview", "set-target", "linux")
        printed = self.run(project, "build")
        warnings = [
            line for line in printed.splitlines() if "warning:" in line and str(self.root) not in line
        ]
        assert not warnings
        (program,) = (project / "build").glob("*.elf")
        return program


@pytest.fixture(scope="module")
def esp_idf() -> EspIdf:
    """The ESP-IDF that IDF_PATH names, with the environment that its export script makes."""
    named, python = os.environ.get("IDF_PATH"), os.environ.get("IDF_PYTHON_ENV_PATH")
    if not named or not python:
        pytest.skip("IDF_PATH does not name an ESP-IDF: source its export.sh")
    root = Path(named)
    tool = root / "tools" / "idf.py"
    if not tool.is_file():
        pytest.fail(f"IDF_PATH is {root}, which is no ESP-IDF")
    folder = Path(python) / "bin"
    path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
    return EspIdf(root, (str(folder / "python"), str(tool)), {**os.environ, "PATH": path})


@pytest.fixture(scope="module")
def model() -> Model:
    """One convolution; its levels give different outputs."""
    net = NetworkBuilder()
    source = nested(net.finish(net.convolution(net.start(), 12)), everything(LEVELS))
    assert len({expected_crc32(source, level) for level in LEVELS}) == len(LEVELS)
    return source


@contextmanager
def started(program: Path) -> Iterator[int]:
    """Run a program on a terminal: FreeRTOS does not end with its tasks, and what waits in a pipe would be lost."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([program], stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        yield ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def printed_until(program: Path, *ends: str) -> str:
    """What a program prints until a line that is the last, with single line feeds."""
    received = ""
    deadline = time.monotonic() + PATIENCE_S
    with started(program) as terminal:
        while not received.endswith(tuple(f"{end}\n" for end in ends)):
            ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing after: {received}"
            received += os.read(terminal, 4096).decode().replace("\r", "")
    return received


def test_the_example_is_built_and_every_level_gives_the_reference_bits(
    esp_idf: EspIdf, model: Model, tmp_path: Path
) -> None:
    export_component(model, "esp-idf", name="net").write(tmp_path / "net")
    program = esp_idf.build(tmp_path / "net" / "examples" / "selftest")
    assert program.name == "net_selftest.elf"
    assert printed_until(program, "all is well", "were expected").endswith(report(model))


def test_an_application_requires_the_component_by_name(esp_idf: EspIdf, model: Model, tmp_path: Path) -> None:
    for folder in ("components", "main"):
        (tmp_path / folder).mkdir()
    export_component(model, "esp-idf", name="net").write(tmp_path / "components" / "net")
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "main" / "CMakeLists.txt").write_text(MAIN)
    (tmp_path / "main" / "main.c").write_text(APPLICATION)
    shape = model.graph.main.input_tensors()[0].shape
    output = np.asarray(Interpreter(model=model, level=6).run(np.zeros(shape, np.int8)))
    line = " ".join(map(str, [*output.flat, "end"]))
    assert printed_until(esp_idf.build(tmp_path), "end").splitlines()[-1] == line
