"""The C constants of the nested file are those of Python."""

from __future__ import annotations

from tflnest.plugin import decode_header
from tflnest.plugin.header import HEADER_PATH, c_header


def test_the_header_is_generated() -> None:
    assert HEADER_PATH.read_text(encoding="ascii") == c_header(), "run python -m tflnest.plugin.header"


def test_the_header_of_decoders_is_that_of_these_modules():
    text = decode_header.HEADER_PATH.read_text(encoding="ascii")
    assert text == decode_header.c_header(), "run python -m tflnest.plugin.decode_header"
    for line in ("DECODE_TYPE 206", "DECODE_BYTES 32", "DECODE_ROW_BYTES 12", "DECODE_AT_MODEL_LEVELS 24"):
        assert f"#define TFLNEST_{line}\n" in text
