"""Policies: how the level of an inference is decided.

* static: the level that is set, for every input.
* dynamic: the model's controller chooses widths for each operator and input.
* margin: a low level runs first; where the two largest outputs are too close, the level that is set runs too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import UnsupportedError, UsageError
from tflnest.graph import Tensor

_HINT = "policies: static, dynamic, margin:THRESHOLD or margin:THRESHOLD:LEVEL, as margin:0.2"


@dataclass(frozen=True)
class Static:
    """The level that is set, for every input."""

    def __str__(self) -> str:
        return "static"


@dataclass(frozen=True)
class Dynamic:
    """The model's controller chooses."""

    def __str__(self) -> str:
        return "dynamic"


@dataclass(frozen=True)
class Margin:
    """A low level first, and the level that is set where that is unsure.

    Attributes:
        threshold: The input is run again where the largest output exceeds the second largest by less, in the units
            of the output (its int8 step times its scale; a probability where the model ends with SOFTMAX).
            None: to be calibrated.
        level: The low level; None for the lowest.
    """

    threshold: float | None
    level: int | None = None

    def __str__(self) -> str:
        threshold = "auto" if self.threshold is None else f"{self.threshold:.9g}"
        return f"margin:{threshold}" + ("" if self.level is None else f":{self.level}")


Policy = Static | Dynamic | Margin


def parse_policy(policy: str | Policy) -> Policy:
    """A policy by its name: "static", "dynamic", "margin:0.2", "margin:0.2:4", "margin:auto".

    Raises:
        UsageError: It is none of these.
    """
    if not isinstance(policy, str):
        return policy
    name, *rest = policy.split(":")
    if name in ("static", "dynamic") and not rest:
        return Static() if name == "static" else Dynamic()
    if name != "margin" or not 1 <= len(rest) <= 2:
        raise UsageError(f"there is no policy {policy!r}", _HINT)
    try:
        threshold = None if rest[0] == "auto" else float(rest[0])
        level = int(rest[1]) if len(rest) == 2 else None
    except ValueError:
        raise UsageError(f"there is no policy {policy!r}", _HINT) from None
    if threshold is not None and not 0 <= threshold < math.inf:
        raise UsageError(f"a margin of {threshold:g} makes no sense", "give 0 or more")
    return Margin(threshold, level)


def margins(outputs: NDArray[np.integer]) -> NDArray[np.int64]:
    """By how many steps the largest output of each sample exceeds the second largest.

    Args:
        outputs: Integers, samples first.
    """
    rows = outputs.reshape(len(outputs), -1)
    first_two = np.partition(rows, rows.shape[1] - 2, axis=1)[:, -2:].astype(np.int64)
    difference: NDArray[np.int64] = first_two[:, 1] - first_two[:, 0]
    return difference


def margin_steps(threshold: float, output: Tensor) -> int:
    """The margin, in steps of an output, from which on a sample is not run again.

    Args:
        threshold: In the units of the output.
        output: The model's output.

    Raises:
        UnsupportedError: The output is no vector of quantized integers.
    """
    check_output(output)
    return math.ceil(round(threshold / output.scale, 6))


def check_output(output: Tensor) -> None:
    """Check that a margin can be taken of an output.

    Raises:
        UnsupportedError: It is no vector of quantized integers.
    """
    if output.dtype.kind not in "iu" or not output.scale > 0:
        raise UnsupportedError(
            f"the output {output.label} is {output.type}: a margin needs quantized integers",
            "convert the model with an int8 output",
        )
    if output.size < 2 or output.shape[:1] != (1,):
        raise UnsupportedError(
            f"the output {output.label} has shape {list(output.shape)}: a margin needs two values or more per input"
        )
