"""Choose the threshold of a margin on data: for an accuracy that is to be kept, or for bit operations to keep to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import BudgetError, UsageError
from tflnest.model import Model
from tflnest.policy import Margin, check_output, margins
from tflnest.progress import Progress, silent
from tflnest.runner import Runner, model_levels


@dataclass(frozen=True)
class Calibration:
    """What was chosen.

    Attributes:
        policy: With its threshold.
        drop: Points of accuracy below the full-bit level on the calibration data, negative where it gains; of
            agreement with the full-bit level where there are no labels.
        repeated: Share of the calibration data that ran twice.
        cost: Mean bit operations as a share of those of the full-bit level.
    """

    policy: Margin
    drop: float
    repeated: float
    cost: float


@dataclass(frozen=True)
class _Curve:
    """What every threshold gives: threshold t runs those with a margin of less than t steps twice.

    Attributes:
        drop: Points of accuracy, by threshold.
        repeated: Share that runs twice, by threshold.
        cost: Bit operations as a share of the full-bit level's, by threshold.
    """

    drop: NDArray[np.float64]
    repeated: NDArray[np.float64]
    cost: NDArray[np.float64]


def calibrate_margin(
    model: Model,
    x: NDArray[np.generic],
    labels: NDArray[np.int64] | None = None,
    *,
    max_drop: float | None = None,
    max_cost: float | None = None,
    level: int | None = None,
    engine: str = "auto",
    progress: Progress = silent,
) -> Calibration:
    """The smallest threshold that keeps an accuracy, or the largest that keeps to a cost.

    Args:
        model: Nested, with an int8 output.
        x: Inputs in the type of the model's input, samples first.
        labels: Their classes; without them accuracy is agreement with the full-bit level.
        max_drop: Points of accuracy that may be lost against the full-bit level.
        max_cost: Mean bit operations as a share of the full-bit level's. With both, the threshold for the accuracy
            is taken, and must keep to the cost.
        level: The low level; None for the lowest.
        engine: "reference", "native" or "auto".
        progress: Told how many samples are done.

    Raises:
        UsageError: Neither limit is given, or the model has no lower level.
        UnsupportedError: A margin cannot be taken of the model's output.
        BudgetError: No threshold keeps to the cost; the message says which comes nearest.
    """
    levels = model_levels(model)
    low = levels[0] if level is None else level
    if max_drop is None and max_cost is None:
        raise UsageError("a margin is calibrated for something", "give an accuracy drop or a cost")
    if low not in levels[:-1]:
        raise UsageError(f"the model has no level {low} below the full-bit one")
    output = model.graph.main.output_tensors()[0]
    check_output(output)
    outputs, costs = [], []
    for number in (low, levels[-1]):
        runner = Runner(model, number, engine)
        outputs.append(runner.run(x, f"calibrating, level {number}", progress)[0])
        costs.append(float(runner.widths.bit_operations()[0]))
    curve = _curve(outputs[0], outputs[1], labels, costs[0] / costs[1])
    steps = _threshold(curve, max_drop, max_cost)
    return Calibration(
        Margin(steps * output.scale, level),
        float(curve.drop[steps]),
        float(curve.repeated[steps]),
        float(curve.cost[steps]),
    )


def _curve(
    low: NDArray[np.integer], full: NDArray[np.integer], labels: NDArray[np.int64] | None, low_cost: float
) -> _Curve:
    """What thresholds of 0 to all steps give."""
    distance = margins(low)
    wanted = full.argmax(axis=1) if labels is None else labels
    gain = (full.argmax(axis=1) == wanted).astype(np.int64) - (low.argmax(axis=1) == wanted)
    count = int(distance.max()) + 2
    gained = np.concatenate([[0.0], np.cumsum(np.bincount(distance, weights=gain, minlength=count))])[:count]
    repeated = np.concatenate([[0.0], np.cumsum(np.bincount(distance, minlength=count))])[:count] / len(low)
    return _Curve(100.0 * (gain.sum() - gained) / len(low), repeated, low_cost + repeated)


def _threshold(curve: _Curve, max_drop: float | None, max_cost: float | None) -> int:
    affordable = np.flatnonzero(curve.cost <= max_cost + 1e-9) if max_cost is not None else None
    if max_drop is None:
        assert max_cost is not None and affordable is not None
        if not affordable.size:
            raise BudgetError(
                f"the low level alone takes {100 * curve.cost[0]:.1f} % of the full-bit level's bit operations, and "
                f"{100 * max_cost:.1f} % are allowed",
                "take a lower level, or allow more",
            )
        return int(affordable[-1])
    # Beyond the last threshold that drops too much, all larger ones keep the accuracy too.
    too_low = np.flatnonzero(curve.drop > max_drop + 1e-9)
    steps = int(too_low[-1]) + 1 if too_low.size else 0
    if steps == len(curve.drop):
        raise BudgetError(
            f"every threshold drops accuracy by {curve.drop.min():.2f} points or more, and {max_drop:g} are allowed"
        )
    if affordable is not None and steps not in affordable:
        raise BudgetError(
            f"a drop of at most {max_drop:g} points takes {100 * curve.cost[steps]:.1f} % of the full-bit level's bit "
            f"operations, and {100 * (max_cost or 0):.1f} % are allowed",
            "allow a larger drop or more operations, or take another low level",
        )
    return steps
