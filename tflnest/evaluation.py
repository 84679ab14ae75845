"""What accuracy each level of a model keeps, measured on data."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import FormatError, UsageError
from tflnest.margin import Calibration, calibrate_margin
from tflnest.model import Model
from tflnest.nested import nested_operators
from tflnest.policy import Dynamic, Margin, Policy, Static, parse_policy
from tflnest.progress import Progress, silent
from tflnest.runner import STOCK_ENGINE, Runner, model_levels, single_input
from tflnest.version import JSON_SCHEMA_VERSION
from tflnest.widths import REQUANTIZATION_MACS, OperatorWidths, Widths


@dataclass(frozen=True)
class LevelAccuracy:
    """One level on the data.

    Attributes:
        level: Bit-width.
        top1: Share of samples whose class is right; None without labels.
        agreement: Share of samples with the same class as at the full-bit level.
        identical: Share of samples whose outputs equal those of the full-bit level, value by value.
        mean_difference: Mean absolute difference of the outputs from the full-bit ones, in the output's units
            (steps of the int8 output).
        resident_bytes: Bytes of the pages that must be resident; of a plain model, None.
        seconds: Time that the engine took.
        bit_operations: Of one inference; None where the engine does not tell.
    """

    level: int
    top1: float | None
    agreement: float
    identical: float
    mean_difference: float
    resident_bytes: int | None
    seconds: float
    bit_operations: int | None = None


@dataclass(frozen=True)
class PolicyAccuracy:
    """A policy that decides for each input, on the data.

    Attributes:
        policy: Its name, "dynamic" or "margin:0.2".
        level: The level that is set: the highest that may run.
        top1: As of a level.
        agreement: As of a level.
        identical: As of a level.
        mean_difference: As of a level.
        resident_bytes: Bytes of the pages that must be resident at some time.
        seconds: Time that the engine took.
        bit_operations: Mean of an input: multiply-accumulates times bits of the weights times bits of the activation,
            with those of the controller.
        repeated: Share of the inputs that ran twice.
        limited: Share of a controller's choices that could not run as chosen.
        paged_bytes: Mean bytes that an input brings in, where only the pages that its predecessor needed are
            resident before.
        narrowed_activations: Mean elements that an input reads at fewer bits than they have, each by a shift.
        narrowed_weights: Mean weights that an input uses at fewer bits than are stored.
        requantization_macs: Multiply-accumulates of the dequantization and requantization that those shifts replace.
        operators: How often each operator ran with which widths.
        widths: The widths of every operator, run by run; no part of the JSON.
    """

    policy: str
    level: int
    top1: float | None
    agreement: float
    identical: float
    mean_difference: float
    resident_bytes: int | None
    seconds: float
    bit_operations: float
    repeated: float
    limited: float
    paged_bytes: float
    narrowed_activations: float
    narrowed_weights: float
    requantization_macs: float
    operators: tuple[OperatorWidths, ...]
    widths: Widths = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        document = {**vars(self), "operators": [operator.to_dict() for operator in self.operators]}
        del document["widths"]
        return document


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        model: Path of the model.
        data: Name of the data.
        samples: How many samples were run.
        engine: What ran them.
        file_bytes: Size of the model file.
        levels: One row per level, lowest first.
        policy: What a policy gives that decides for each input; None where none ran.
        calibration: How the threshold of a margin was chosen; None where it was given.
        fallbacks: Operators that the native engine left to the reference kernels, by label, with the reason.
    """

    model: str
    data: str
    samples: int
    engine: str
    file_bytes: int
    levels: tuple[LevelAccuracy, ...]
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    policy: PolicyAccuracy | None = None
    calibration: Calibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema_version": JSON_SCHEMA_VERSION,
            **{name: getattr(self, name) for name in ("model", "data", "samples", "engine", "file_bytes")},
            "levels": [vars(row) for row in self.levels],
            "fallbacks": dict(self.fallbacks),
            "policy": None if self.policy is None else self.policy.to_dict(),
            "calibration": None
            if self.calibration is None
            else {**vars(self.calibration), "policy": str(self.calibration.policy)},
        }


def evaluate(
    model: str | Path | Model,
    data: str | Path | Dataset,
    *,
    level: int | str | Sequence[int] | None = "all",
    limit: int | None = None,
    engine: str = "auto",
    policy: str | Policy | None = None,
    max_drop: float | None = None,
    max_cost: float | None = None,
    calibration: str | Path | Dataset | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Run a model over data at one level or several, or by a policy that decides for each input.

    Args:
        model: Plain or nested, int8 or float.
        data: Samples, or a `.npz` (key `x`; labels in `y` where there are any) or `.npy` with them.
        level: A level, several, or "all". The full-bit level always runs too: agreement is with it.
        limit: Only the first so many samples.
        engine: "reference", "native", "litert" or "auto"; see `Runner`.
        policy: "static", "dynamic", "margin:0.2" or "margin:auto". With the last three the levels are the one that is
            named, or the full-bit one: it is the highest that may run. None: all levels that are named, and, where
            the model has a controller and "all" are, the policy dynamic too.
        max_drop: For "margin:auto": points of accuracy that may be lost against the full-bit level.
        max_cost: For "margin:auto": mean bit operations, as a share of those of the full-bit level.
        calibration: For "margin:auto": data on which the threshold is chosen; None for the data that is measured on.
        progress: Told how many samples are done.

    Raises:
        UsageError: There is no such level or engine.
        FormatError: Model or data are not sound, or do not fit each other.
        UnsupportedError: The engine does not run the model, or the policy.
        BudgetError: No margin keeps to the cost.
    """
    loaded = model if isinstance(model, Model) else Model.load(model)
    dataset = (data if isinstance(data, Dataset) else load_dataset(data)).limited(limit)
    levels = model_levels(loaded)
    chosen = _chosen_policy(policy, loaded, level, engine)
    decides = policy is not None and chosen is not None
    wanted = _wanted_levels(levels[-1] if decides and level == "all" else level, levels)
    if decides and len(wanted) != 1:
        raise UsageError(f"the policy {chosen} runs with one level set, and {len(wanted)} are named")
    inputs = dataset.inputs_for(single_input(loaded))
    labels = _checked_labels(dataset, loaded)
    limits = _Limits(max_drop, max_cost, None if calibration is None else _dataset(calibration))
    chosen, calibrated = _calibrated(chosen, loaded, dataset, limits, engine, progress)
    rows: dict[int, LevelAccuracy] = {}
    full: NDArray[Any] | None = None
    runner = None
    for number in dict.fromkeys((levels[-1], *wanted)):
        runner = Runner(loaded, number if loaded.directory is not None else None, engine)
        start = time.perf_counter()
        outputs = runner.run(inputs, f"level {number}", progress)[0]
        seconds = time.perf_counter() - start
        full = outputs if full is None else full
        rows[number] = LevelAccuracy(
            level=number,
            **_score(outputs, full, labels),
            resident_bytes=_resident_bytes(loaded, number),
            seconds=seconds,
            bit_operations=_bit_operations(runner),
        )
    assert runner is not None and full is not None
    row = (
        None
        if chosen is None
        else _run_policy(chosen, loaded, wanted[-1], engine, inputs, full, labels, progress)
    )
    return Evaluation(
        model="" if isinstance(model, Model) else str(model),
        data=dataset.name,
        samples=len(dataset),
        engine=runner.engine,
        file_bytes=len(loaded.to_bytes()),
        levels=tuple(rows[number] for number in wanted),
        fallbacks=runner.fallbacks,
        policy=row,
        calibration=calibrated,
    )


@dataclass(frozen=True)
class _Limits:
    """What a margin is calibrated for, and on what."""

    max_drop: float | None
    max_cost: float | None
    data: Dataset | None


def _calibrated(
    policy: Policy | None,
    model: Model,
    dataset: Dataset,
    limits: _Limits,
    engine: str,
    progress: Progress,
) -> tuple[Policy | None, Calibration | None]:
    """The policy with its threshold, and how that was chosen."""
    if not isinstance(policy, Margin) or policy.threshold is not None:
        if limits != _Limits(None, None, None):
            raise UsageError(
                "a drop, a cost and calibration data are for the policy margin:auto",
                "add --policy margin:auto",
            )
        return policy, None
    source = dataset if limits.data is None else limits.data
    found = calibrate_margin(
        model,
        source.inputs_for(single_input(model)),
        _checked_labels(source, model),
        max_drop=limits.max_drop,
        max_cost=limits.max_cost,
        level=policy.level,
        engine=engine,
        progress=progress,
    )
    return found.policy, found


def _dataset(data: str | Path | Dataset) -> Dataset:
    return data if isinstance(data, Dataset) else load_dataset(data)


def _chosen_policy(
    policy: str | Policy | None, model: Model, level: int | str | Sequence[int] | None, engine: str
) -> Policy | None:
    """The policy to run beside the levels; None for none."""
    if policy is None:
        has_controller = model.controller is not None and engine != STOCK_ENGINE
        return Dynamic() if has_controller and level in (None, "all") else None
    parsed = parse_policy(policy)
    return None if isinstance(parsed, Static) else parsed


def _run_policy(
    policy: Policy,
    model: Model,
    level: int,
    engine: str,
    inputs: NDArray[Any],
    full: NDArray[Any],
    labels: NDArray[np.int64] | None,
    progress: Progress,
) -> PolicyAccuracy:
    """Measure a policy that decides for each input."""
    runner = Runner(model, level if model.directory is not None else None, engine, policy)
    start = time.perf_counter()
    outputs = runner.run(inputs, str(policy), progress)[0]
    seconds = time.perf_counter() - start
    widths, count = runner.widths, len(inputs)
    pages = _pages_needed(model, widths, count)
    activations = float(widths.narrowed_activations().sum() / count)
    weights = float(widths.narrowed_weights().sum() / count)
    return PolicyAccuracy(
        policy=str(policy),
        level=level,
        **_score(outputs, full, labels),
        resident_bytes=_page_bytes(model, int(pages.max()) + 1),
        seconds=seconds,
        bit_operations=float(widths.bit_operations().sum() / count),
        repeated=len(widths.samples) / count - 1.0,
        limited=_limited(model, widths),
        paged_bytes=_paged_bytes(model, pages) / count,
        narrowed_activations=activations,
        narrowed_weights=weights,
        requantization_macs=REQUANTIZATION_MACS * (activations + weights),
        operators=widths.of_operators(),
        widths=widths,
    )


def _limited(model: Model, widths: Widths) -> float:
    """Share of a controller's choices that could not run."""
    controlled = 0 if model.controller is None else len(model.controller.operators)
    return float(widths.limited.sum() / max(len(widths.samples) * controlled, 1))


def _pages_needed(model: Model, widths: Widths, samples: int) -> NDArray[np.int64]:
    """The highest page of each run, in the order in which a board runs them."""
    nested = {item.operator.index: item for _, item in nested_operators(model.graph)}
    needed = np.zeros(len(widths.samples), np.int64)
    for column, operator in enumerate(widths.operators):
        item = nested.get(operator.index)
        if item is not None:
            pages = {bits: item.page_of(own) for own, bits in enumerate(item.nesting.levels)}
            bits, places = np.unique(widths.weight_bits[:, column], return_inverse=True)
            needed = np.maximum(needed, np.array([pages[int(width)] for width in bits])[places.reshape(-1)])
    ordered: NDArray[np.int64] = needed[np.argsort(widths.samples, kind="stable")]
    return ordered


def _paged_bytes(model: Model, pages: NDArray[np.int64]) -> int:
    """Bytes of all page-ins where each run leaves the pages that it needs; the first one finds its own."""
    sizes = np.cumsum([page.size for page in model.directory.pages]) if model.directory else np.zeros(1)
    missing = sizes[pages[1:]] - sizes[pages[:-1]]
    return int(missing[missing > 0].sum())


def _bit_operations(runner: Runner) -> int | None:
    """Of one inference at the level that ran; None where the engine does not tell."""
    if runner.engine == STOCK_ENGINE:
        return None
    return int(runner.widths.bit_operations()[0])


def _wanted_levels(level: int | str | Sequence[int] | None, levels: tuple[int, ...]) -> tuple[int, ...]:
    if level is None or level == "all":
        return levels
    try:
        wanted = (int(level),) if isinstance(level, int | str) else tuple(level)
    except ValueError:
        raise UsageError(
            f"level {level!r} is no number", f"levels: {', '.join(map(str, levels))}, or all"
        ) from None
    for number in wanted:
        if number not in levels:
            raise UsageError(f"the model has no level {number}", f"levels: {', '.join(map(str, levels))}")
    return wanted


def _checked_labels(dataset: Dataset, model: Model) -> NDArray[np.int64] | None:
    """Labels that are classes of the model; None where the data has none."""
    labels = dataset.labels()
    if labels is None:
        return None
    shape = model.graph.main.output_tensors()[0].shape
    classes = math.prod(shape[1:] if shape[:1] == (1,) else shape)
    if labels.max() >= classes or labels.min() < 0:
        raise FormatError(
            f"{dataset.name}: the labels lie in {labels.min()}..{labels.max()}, "
            f"and the model has the classes 0..{classes - 1}",
            "store class numbers in y, or leave it out to measure agreement alone",
        )
    return labels


def _score(outputs: NDArray[Any], full: NDArray[Any], labels: NDArray[np.int64] | None) -> dict[str, Any]:
    """How good outputs are: the attributes that rows of levels and of policies share."""
    classes = outputs.argmax(axis=1)
    return {
        "top1": None if labels is None else float((classes == labels).mean()),
        "agreement": float((classes == full.argmax(axis=1)).mean()),
        "identical": float((outputs == full).all(axis=1).mean()),
        "mean_difference": float(np.abs(outputs.astype(np.float64) - full.astype(np.float64)).mean()),
    }


def _resident_bytes(model: Model, level: int) -> int | None:
    return _page_bytes(model, model_levels(model).index(level) + 1)


def _page_bytes(model: Model, count: int) -> int | None:
    """Bytes of the first pages; None of a plain model."""
    if model.directory is None:
        return None
    return sum(page.size for page in model.directory.pages[:count])
