"""The benchmark of the serial bridge: the rows that take no time of their own."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import bridge
from tests.shared import SHARED
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


def test_the_protocol_is_small() -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed: make toolchain")
    rows = bridge.code_size()
    assert len(rows) == 2 and all(row.met for row in rows), rows
