"""What pages do that come and go, the same for every way in which TFLM runs nested models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.tflnest.tflm.wheel import Answer, Step
from tflnest.interpreter import Interpreter
from tflnest.model import Model

#: What functions return.
ARGUMENT, LEVEL, PAGE, RESIDENT, IN_USE, CRC, SIZE = -1, -2, -3, -4, -5, -6, -8

#: Levels of the three runs.
RUN_LEVELS = (4, 8, 6)


def come_and_go(images: Sequence[bytes], sample: np.ndarray) -> list[Step]:
    """Steps with a model of the levels 4, 6 and 8, whose page images these are."""
    spoiled = bytes([images[1][0] ^ 1]) + images[1][1:]
    return [
        ("resident",),
        ("page_out", 2),  # in use
        ("set_level", 4),
        ("page_out", 0),  # in use at every level
        ("page_out", 1),
        ("page_out", 1),  # absent already
        ("page_out", 7),
        ("resident",),
        ("set_level", 6),
        ("set_level", 8),
        ("set_operator_level", 0, 6),
        ("run", sample),
        ("page_in", 1, images[1][:-8]),
        ("page_in", 1, spoiled),
        ("page_in", 2, images[2]),  # still resident
        ("page_in", 9, images[1]),
        ("page_in", 1, images[1]),
        ("set_level", 8),
        ("run", sample),
        ("set_level", 4),
        ("page_out", 1),
        ("page_in", 1, None),
        ("set_level", 6),
        ("run", sample),
        ("resident",),
    ]


def check_come_and_go(answer: Answer, model: Model, sample: np.ndarray) -> None:
    """Check what these steps gave."""
    got = [item for item in answer.results if isinstance(item, int)]
    assert got[:13] == [
        0b111, IN_USE, 0, IN_USE, 0, RESIDENT, PAGE, 0b101, RESIDENT, RESIDENT, RESIDENT, SIZE, CRC,
    ]  # fmt: skip
    assert got[13:22] == [IN_USE, PAGE, 0, 0, 0, 0, 0, 0, 0b111]
    values = [item for item in answer.results if not isinstance(item, int)]
    for level, value in zip(RUN_LEVELS, values, strict=True):
        np.testing.assert_array_equal(value, Interpreter(model=model, level=level).run(sample))
    assert "tflnest: page 2 is in use" in answer.log
    assert "tflnest: page 1 is damaged: its CRC-32 is wrong" in answer.log
