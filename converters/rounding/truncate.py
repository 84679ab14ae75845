"""Truncation: the bucket that a weight lies in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.rounding.registry import Problem, method
from tflnest.nesting import Scheme


@method("truncate", Scheme.BUCKET)
def truncate(problem: Problem) -> list[NDArray[np.int8]]:
    """The bucket that each weight lies in; at 8 bits the weight itself, bit for bit."""
    return problem.nesting.truncate(problem.weights)
