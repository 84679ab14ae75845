"""The benchmark of the serial bridge: the rows that take no time of their own."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import bridge
from tests.shared import SHARED
from tflnest.errors import ExitCode
from tflnest.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    if not (SHARED / "models").is_dir():
        pytest.skip("the public reference models are missing")
    return bridge.subject()


@pytest.mark.shared
@pytest.mark.parametrize("measure", [bridge.wire_bytes, bridge.first_level, bridge.damaged_line])
def test_the_rows_are_met(measure, model) -> None:
    row = measure(model)
    assert row.met, row


@pytest.mark.shared
def test_what_is_for_information_stands_apart(model, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bridge, "rows", lambda boards, quick: [bridge.wire_bytes(model)])
    assert bridge.main(["--quick"]) == ExitCode.OK
    row, gap, heading, information = capsys.readouterr().out.splitlines()
    assert row.endswith("met") and (gap, heading) == ("", "for information")
    assert "kB/s" in information and "met" not in information


def test_a_row_that_is_not_met_is_a_failure(monkeypatch, capsys) -> None:
    row = bridge.Row("something", "1", ">= 2", met=False)
    monkeypatch.setattr(bridge, "rows", lambda boards, quick: [row])
    monkeypatch.setattr(bridge, "virtual_board", lambda model: "fast")
    assert bridge.main([]) == ExitCode.FAILED
    assert "NOT MET" in capsys.readouterr().out


def test_boards_and_quick_choose_what_is_measured(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(bridge, "rows", lambda boards, quick: asked.append((boards, quick)) or [])
    monkeypatch.setattr(bridge, "virtual_board", lambda model: "fast")
    bridge.main([])
    bridge.main(["--boards", "microbit", "--quick"])
    assert asked == [(list(bridge.EMULATED), False), (["microbit"], True)]


def test_the_protocol_is_small() -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed: make toolchain")
    rows = bridge.code_size()
    assert len(rows) == 2 and all(row.met for row in rows), rows
