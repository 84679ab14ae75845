"""Components for ESP-IDF: programs that idf.py built for its target that is this computer.

They are looked for in the build folders that ESP_IDF_BUILD names; see docs/export.md.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.firmware_sim.component.images import LAST_LINES, PATIENCE_S, build_folders, expected


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


def printed(program: Path) -> str:
    """What a self-test prints until its last line, with single line feeds."""
    received = ""
    deadline = time.monotonic() + PATIENCE_S
    with started(program) as terminal:
        while not received.endswith(LAST_LINES):
            ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing after: {received}"
            received += os.read(terminal, 4096).decode().replace("\r", "")
    return received


@pytest.mark.slow
@pytest.mark.parametrize("folder", build_folders("ESP_IDF_BUILD"), ids=lambda folder: folder and folder.name)
def test_a_program_of_esp_idf_gives_the_bits_of_the_interpreter(folder):
    if folder is None:
        pytest.skip("ESP_IDF_BUILD names no build folders: see docs/export.md")
    described = json.loads((folder / "project_description.json").read_text())
    assert described["target"] == "linux"
    component = Path(described["project_path"]).parents[1]
    assert printed(folder / described["app_elf"]).endswith(expected(component))
