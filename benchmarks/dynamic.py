"""Widths that a controller chooses for each input, against static widths and margins at equal mean BitOPs.

    python -m benchmarks.dynamic --network NETWORK.keras --training TRAIN.npz --test TEST.npz --format markdown

The network is a saved `NestedNetwork`. Static assignments are found on training samples alone: uniform levels, and
chains that raise or lower one operator at a time, always the one that gains most per BitOP. Between two of them a
static network does not exist; what a random choice between the best two would reach is counted as theirs. The
controller is trained on a table of losses of training samples. All accuracies are of the native engine.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: Seed of the draw of training samples.
SEED = 21

#: Mean BitOPs to reach, as shares of the way from the low to the high level.
SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)

#: Test samples on which file and network are compared.
AGREEMENT_SAMPLES = 3000

#: Probabilities of int8 outputs end at half of their step.
LEAST_PROBABILITY = 1 / 512

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """An assignment or a policy, and what it reaches.

    Attributes:
        name: What tables call it.
        cost: Mean BitOPs relative to full-bit.
        top1: Share of right classes among the test samples, 0 to 1.
    """

    name: str
    cost: float
    top1: float


class Statics:
    """Static assignments of a nested model, run by the native engine.

    Args:
        model: The dynamic network; its choices are what operators may have.
        nested: Its model without a controller.
    """

    def __init__(self, model: Any, nested: Any) -> None:
        from tflnest.interpreter import Interpreter

        self.model = model
        self.interpreter = Interpreter(model=nested, engine="native")
        kept = [item for item in nested.graph.main.operators if item.name != "QUANTIZE"]
        scopes = {
            item.index: scope
            for item, scope in zip(_nested(nested), self.interpreter.get_levels(), strict=True)
        }
        self.scopes = [scopes[kept[index].index] for index in model.stem.operators]

    def run(self, positions: Sequence[int], x: NDArray[np.float32]) -> NDArray[Any]:
        """Outputs at the choices of the operators."""
        self.interpreter.set_level(
            {
                f"^{re.escape(scope)}$": self.model.choices[position][0]
                for scope, position in zip(self.scopes, positions, strict=True)
            }
        )
        outputs = self.interpreter.run(x)
        assert not isinstance(outputs, tuple)
        return outputs

    def cost(self, positions: Sequence[int]) -> float:
        """BitOPs relative to full-bit, those of a controller left out."""
        return float(self.model.costs.of(positions)[0]) - controller_cost(self.model)

    def loss(self, positions: Sequence[int], x: NDArray[np.float32], y: Labels) -> float:
        """Mean cross-entropy."""
        outputs = self.run(positions, x).astype(np.float64)
        probabilities = (outputs + 128) / 256 if outputs.min() < 0 else outputs
        return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], LEAST_PROBABILITY)).mean())

    def chain(self, start: int, end: int, x: NDArray[np.float32], y: Labels) -> dict[tuple[int, ...], float]:
        """Losses of assignments from one choice for all to another, the best operator first."""
        present = (start,) * len(self.scopes)
        loss = self.loss(present, x, y)
        found = {present: loss}
        while any(position != end for position in present):
            tried = []
            for row, position in enumerate(present):
                if position != end:
                    other = (*present[:row], end, *present[row + 1 :])
                    change = self.loss(other, x, y) - loss
                    tried.append((change / abs(self.cost(other) - self.cost(present)), change, other))
            _, change, present = min(tried)
            loss += change
            found[present] = loss
        return found


def front(statics: Statics, losses: Mapping[tuple[int, ...], float]) -> list[tuple[int, ...]]:
    """The assignments that no other one beats in both cost and loss on the training samples."""
    return [
        item
        for item, loss in losses.items()
        if not any(
            other < loss and statics.cost(positions) <= statics.cost(item)
            for positions, other in losses.items()
        )
    ]


def _nested(nested: Any) -> list[Any]:
    from tflnest.nested import is_nested

    return [item for item in nested.graph.main.operators if is_nested(item)]


def controller_cost(model: Any) -> float:
    """BitOPs of the controller itself, relative to full-bit."""
    return float(model.controller_macs / model.costs.macs)


def top1(outputs: NDArray[Any], y: Labels) -> float:
    """Share of samples whose first highest output is the label's."""
    return float((outputs.argmax(axis=1) == y).mean())


def hull(points: Sequence[Point], cost: float) -> float:
    """What the best two of the points reach at a mean cost, chosen between at random."""
    best = max((point.top1 for point in points if point.cost <= cost), default=0.0)
    for low in points:
        for high in points:
            if low.cost < cost < high.cost:
                share = (cost - low.cost) / (high.cost - low.cost)
                best = max(best, low.top1 + share * (high.top1 - low.top1))
    return best


def margin_points(
    low: NDArray[Any], high: NDArray[Any], y: Labels, costs: tuple[float, float]
) -> list[Point]:
    """The margin policy at every threshold, from the outputs of its two levels."""
    ordered = np.sort(low.astype(np.int64), axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    right = low.argmax(axis=1) == y, high.argmax(axis=1) == y
    points = []
    for threshold in np.unique(margins):
        again = margins < threshold
        cost = costs[0] + float(again.mean()) * costs[1]
        points.append(Point(f"margin {threshold}", cost, float(np.where(again, right[1], right[0]).mean())))
    return points


def at_most(points: Sequence[Point], cost: float) -> float:
    """The accuracy of the dearest point that costs no more."""
    return max((point for point in points if point.cost <= cost), key=lambda point: point.cost).top1


def make_dynamic(
    network: Any, x: NDArray[np.float32], pair: tuple[int, int], convolutions: tuple[int, ...]
) -> Any:
    """A controller between two levels of the whole network."""
    from converters.training import ControllerOptions, add_controller
    from tflnest.dataset import Dataset

    options = ControllerOptions(
        choices=((pair[0], 8), (pair[1], 8)),
        granularity="network",  # type: ignore[arg-type]
        convolutions=convolutions,
    )
    model = add_controller(network, options, calibration=Dataset(x[:512], name="training samples"))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def measure_dynamic(
    model: Any, target: float, pooled_from: NDArray[np.float32], x: NDArray[np.float32], y: Labels
) -> Point:
    """Bring the mean cost to a target on training samples, export, and run the file."""
    from tflnest.interpreter import Interpreter

    model.reach_target(pooled_from, target)
    interpreter = Interpreter(model=model.to_nested(), engine="native", policy="dynamic")
    outputs = interpreter.run(x)
    assert not isinstance(outputs, tuple)
    return Point(f"dynamic {target:.3f}", model.mean_cost(x), top1(outputs, y))


def agreement(model: Any, x: NDArray[np.float32]) -> tuple[float, float]:
    """Shares of samples for which the file chooses what the network chooses, and for which it gives the same class."""
    from tflnest.interpreter import Interpreter

    nested = model.to_nested()
    interpreter = Interpreter(model=nested, engine="native", policy="dynamic")
    outputs, widths = interpreter.run(x), interpreter.widths
    assert not isinstance(outputs, tuple)
    columns = [
        place
        for place, operator in enumerate(widths.operators)
        if operator.index in nested.controller.operators
    ]
    ran = np.stack([widths.weight_bits[:, columns], widths.activation_bits[:, columns]], axis=2)
    same = (ran == np.asarray(model.choices)[model.choose(x)]).all(axis=(1, 2))
    classes = model.predict(x, verbose=0).argmax(axis=1)
    return float(same.mean()), float((classes == outputs.argmax(axis=1)).mean())


def table(rows: Sequence[tuple[str, ...]], markdown: bool) -> str:
    """Rows as text; the first is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    if not markdown:
        return "\n".join(line.strip("| ").replace(" | ", "   ") for line in lines)
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return "\n".join(lines)


@dataclass(frozen=True)
class Setting:
    """What is measured on.

    Attributes:
        network: The trained network.
        x, y: Training samples.
        x_test, y_test: Test samples.
        levels: The two levels to choose between.
    """

    network: Any
    x: NDArray[np.float32]
    y: Labels
    x_test: NDArray[np.float32]
    y_test: Labels
    levels: tuple[int, int]


def load(arguments: argparse.Namespace) -> Setting:
    """Read what the command line names."""
    import keras

    from converters.training.network import NestedNetwork
    from tflnest.dataset import load_dataset

    network = keras.models.load_model(
        arguments.network, custom_objects={"NestedNetwork": NestedNetwork}, compile=False
    )
    training, test = load_dataset(arguments.training), load_dataset(arguments.test)
    drawn = np.random.default_rng(SEED).permutation(len(training.x))[: arguments.samples]
    low, high = _numbers(arguments.levels)
    return Setting(
        network,
        np.asarray(training.x[drawn], np.float32),
        np.asarray(training.y)[drawn].reshape(-1),
        np.asarray(test.x, np.float32),
        np.asarray(test.y).reshape(-1),
        (low, high),
    )


def run(arguments: argparse.Namespace) -> str:
    """Measure and describe."""
    import keras

    setting = load(arguments)
    keras.utils.set_random_seed(SEED)
    model = make_dynamic(setting.network, setting.x, setting.levels, _numbers(arguments.convolutions))
    statics = Statics(model, setting.network.to_nested())
    if arguments.depths:
        return table(depths(statics, setting), arguments.format == "markdown")
    explained = model.fit_controller(setting.x, setting.y)
    few = slice(0, arguments.assess)
    x, y = setting.x[few], setting.y[few]
    losses = statics.chain(0, 1, x, y) | statics.chain(1, 0, x, y)
    ends = tuple((end,) * len(statics.scopes) for end in (0, 1))
    kept = sorted({*ends, *front(statics, losses)})
    outputs = {positions: statics.run(positions, setting.x_test) for positions in kept}
    points = [
        Point(str(item), statics.cost(item), top1(got, setting.y_test)) for item, got in outputs.items()
    ]
    low, high = (points[kept.index(end)] for end in ends)
    margins = margin_points(outputs[ends[0]], outputs[ends[1]], setting.y_test, (low.cost, high.cost))
    head = (
        f"{len(setting.y)} training samples, {len(setting.y_test)} test samples, levels {setting.levels[0]} and "
        f"{setting.levels[1]}: {100 * low.top1:.2f} % and {100 * high.top1:.2f} % top-1 at "
        f"{100 * low.cost:.1f} % and {100 * high.cost:.1f} % of the BitOPs; {len(losses)} static assignments tried, "
        f"{len(points)} of them measured, for none is better and cheaper on the training samples; "
        f"the controller explains {100 * explained:.1f} % of the variance of losses, and takes "
        f"{100 * controller_cost(model):.2f} % of the BitOPs."
    )
    rows = compare(model, setting, points, margins, (low.cost, high.cost))
    same = agreement(model, setting.x_test[:AGREEMENT_SAMPLES])
    head += (
        f" At the last of its settings the file chooses what the network chooses for {100 * same[0]:.2f} % of the first "
        f"{AGREEMENT_SAMPLES} test samples, and gives the network's class for {100 * same[1]:.2f} %."
    )
    return head + "\n\n" + table(rows, arguments.format == "markdown")


def compare(
    model: Any,
    setting: Setting,
    points: Sequence[Point],
    margins: Sequence[Point],
    costs: tuple[float, float],
) -> list[tuple[str, ...]]:
    """Rows of the controller, static assignments and margins at equal mean BitOPs, below a head."""
    rows: list[tuple[str, ...]] = [
        ("mean BitOPs", "best static", "static mixed", "margin", "dynamic", "- best static", "- static mixed")
    ]
    for share in SHARES:
        target = costs[0] + share * (costs[1] - costs[0])
        point = measure_dynamic(model, target, setting.x, setting.x_test, setting.y_test)
        values = at_best(points, point.cost), hull(points, point.cost), at_most(margins, point.cost)
        cells = [f"{100 * value:.2f}" for value in (*values, point.top1)]
        gains = [f"{100 * (point.top1 - value):+.2f}" for value in values[:2]]
        rows.append((f"{100 * point.cost:.1f} %", *cells, *gains))
    return rows


def depths(statics: Statics, setting: Setting) -> list[tuple[str, ...]]:
    """Rows of static assignments whose first operators are low and whose others are high, and the other way round."""
    rows: list[tuple[str, ...]] = [
        ("first operators", "BitOPs", "low, then high", "BitOPs", "high, then low")
    ]
    for count in range(len(statics.scopes) + 1):
        cells = []
        for first, then in ((0, 1), (1, 0)):
            positions = (first,) * count + (then,) * (len(statics.scopes) - count)
            right = top1(statics.run(positions, setting.x_test), setting.y_test)
            cells += [f"{100 * statics.cost(positions):.1f} %", f"{100 * right:.2f}"]
        rows.append((str(count), *cells))
    return rows


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(item) for item in text.split(",") if item)


def at_best(points: Sequence[Point], cost: float) -> float:
    """The best accuracy of the points that cost no more."""
    return max(point.top1 for point in points if point.cost <= cost)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--network", type=Path, required=True, help="a saved NestedNetwork (.keras)")
    parser.add_argument("--training", type=Path, required=True, help=".npz with x and y of training")
    parser.add_argument("--test", type=Path, required=True, help=".npz with x and y to measure on")
    parser.add_argument("--levels", default="2,4", help="the two levels to choose between (default 2,4)")
    parser.add_argument(
        "--convolutions",
        default="",
        help="channels of the controller's convolutions, for example 16,32 (default: none, means of the stem)",
    )
    parser.add_argument(
        "--depths",
        action="store_true",
        help="only static assignments: the first operators low, the rest high",
    )
    parser.add_argument("--samples", type=int, default=20000, help="training samples for the controller")
    parser.add_argument("--assess", type=int, default=2000, help="training samples for static assignments")
    parser.add_argument("--format", choices=("text", "markdown"), default="text")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    print(run(parse()))
