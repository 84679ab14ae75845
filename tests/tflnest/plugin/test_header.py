"""The C constants of the nested file are those of Python."""

from __future__ import annotations

from tflnest.plugin.header import HEADER_PATH, c_header


def test_the_header_is_generated() -> None:
    assert HEADER_PATH.read_text(encoding="ascii") == c_header(), "run python -m tflnest.plugin.header"
