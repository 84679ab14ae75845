"""The tables of docs/support.md name tests and versions that there are."""

from __future__ import annotations

import re

import pytest

from tests.shared import ROOT
from tests.tflnest.plugin.test_runtimes import RUNTIMES

SUPPORT = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[^`]+)`", SUPPORT)
    assert len(named) >= 6
    for name in named:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("package", ["ai-edge-litert", "tflite-runtime"])
def test_the_versions_are_those_of_the_tests(package: str) -> None:
    match = re.search(rf"^\| {package} \| ([^|]+) \|", SUPPORT, re.MULTILINE)
    assert match is not None
    tested = [name.split()[1] for name in RUNTIMES if name.startswith(package)]
    assert set(tested) <= set(match[1].split(", "))


def test_the_wheel_is_that_of_the_setup() -> None:
    pinned = re.search(r"tflite-micro==([^;]+);", (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert pinned is not None and f"`{pinned[1]}`" in SUPPORT
