"""The commands of docs/export.md work."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest

from tests.models import everything, nested
from tests.shared import ROOT
from tests.tflnest.cli.conftest import wide_network

BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "export.md").read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [
    line.split("&&")[0] for block in BLOCKS for line in block.splitlines() if line.startswith("tflnest ")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the files are that the commands name."""
    path = tmp_path_factory.mktemp("documentation")
    nested(wide_network(), everything((4, 6, 8))).save(path / "nested.tflite")
    x = np.random.default_rng(1).uniform(-5, 5, (20, 8, 8, 3)).astype(np.float32)
    np.savez(path / "train.npz", x=x)
    return path


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_a_command(number, folder, call, monkeypatch):
    monkeypatch.chdir(folder)
    _, *arguments = shlex.split(COMMANDS[number])
    done = call(*arguments, "-f")
    assert done.code == 0, done.err
    assert (folder / arguments[arguments.index("-o") + 1]).exists()


def test_all_are_found():
    assert len(COMMANDS) == 5
    assert all(command.startswith("tflnest export nested.tflite --for ") for command in COMMANDS)
