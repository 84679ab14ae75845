from __future__ import annotations

import re

import pytest

from tests.examples.running import FLOAT_MODEL, run_example

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def test_pages_come_and_go_and_the_board_answers_at_every_level(tmp_path):
    text = run_example("examples/serial_board.py", "--output", tmp_path, "--model", FLOAT_MODEL)
    assert re.findall(r"at level (\d)", text) == ["4", "8", "6", "4"]
    for classes, labels in re.findall(r": \[(.*)\], labels \[(.*)\]", text):
        assert classes == labels
    first, rest = (int(count.replace(",", "")) for count in re.findall(r"([\d,]+) bytes", text))
    assert 0 < rest < first
    assert "given up: pages 2, 1" in text
