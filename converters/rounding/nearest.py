"""Rounding to nearest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.rounding.registry import Problem, method
from tflnest.nesting import MASTER_BITS, Scheme


@method("nearest", Scheme.COMPENSATED)
def nearest(problem: Problem) -> list[NDArray[np.int8]]:
    """Every level rounded to nearest from the weights, ties to even, clipped: NestQuant without flips.

    With a chain of one level, such as (6,), this gives a dedicated model: one plane, no extra bit, nothing to
    page in. Its grid has 2**(8 - b) steps of the int8 weights.
    """
    codes = []
    for level in problem.nesting.levels:
        scaled = np.rint(problem.weights.astype(np.float32) / np.float32(1 << (MASTER_BITS - level)))
        limit = 1 << (level - 1)
        codes.append(np.clip(scaled, -limit, limit - 1).astype(np.int8))
    return codes
