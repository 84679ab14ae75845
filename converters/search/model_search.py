"""`search`: from a model, data and budgets to a recipe, and to the model that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.conversion import float_steps
from converters.folding import fix_batch
from converters.nest import nest
from converters.parameters import source_parameters
from converters.planning import PlannedFilter, plan_nesting, round_filters
from converters.quantization import quantize
from converters.recipe import Keep, Recipe, load_recipe
from converters.search.budgets import BUFFERS, Budgets
from converters.search.costs import CostModel, Costs, Cycles, OperatorCycles
from converters.search.layers import describe_layers, describe_rest, mean_bits, searched
from converters.search.measures import (
    CALIBRATION_SAMPLES,
    RoundedAccuracy,
    TrainedAccuracy,
    recipe_for,
)
from converters.search.samples import check_samples
from converters.search.searching import (
    CHOICES,
    MAX_STEPS,
    Goal,
    Method,
    SearchResult,
    check_choices,
    check_searchable,
    search_widths,
)
from converters.search.trials import Trials
from converters.sensitivity import measure_sensitivities
from converters.sources import Source, load_source
from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import UsageError
from tflnest.model import Model
from tflnest.nesting import MASTER_BITS
from tflnest.progress import Progress, silent


@dataclass(frozen=True)
class Search:
    """The result of `search`.

    Attributes:
        result: Widths, budgets, trajectory.
        recipe: Makes the model with `convert`.
        model: The model of the best assignment: the searched widths at its lowest level.
        full: Costs of the int8 model.
        notes: Reasons to doubt the samples.
    """

    result: SearchResult
    recipe: Recipe
    model: Model
    full: Costs
    notes: tuple[str, ...] = ()

    @property
    def mean_bits(self) -> float:
        """Bits per searched weight at the lowest level."""
        return mean_bits(self.result.layers, self.result.best.widths)

    @property
    def page_bytes(self) -> int:
        """Bytes of the base page: the filters at the searched widths, biases, and every other constant."""
        directory = self.model.directory
        return len(self.model.to_bytes()) if directory is None else directory.pages[0].size

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.result.to_dict(),
            "int8": self.full.to_dict(),
            "mean_bits": self.mean_bits,
            "base_page_bytes": self.page_bytes,
            "file_bytes": len(self.model.to_bytes()),
            "recipe": self.recipe.to_toml(),
            "notes": list(self.notes),
        }


def search(
    source: str | Path,
    calibration: str | Path | Dataset,
    validation: str | Path | Dataset,
    *,
    max_drop: float = 1.0,
    max_bytes: int | str = "75%",
    max_bit_operations: int | str | None = None,
    buffer: float = BUFFERS["balanced"],
    epochs: int = 0,
    recipe: str | Path | Recipe | None = "uniform",
    widths: Sequence[int] = CHOICES,
    single: bool = False,
    methods: Sequence[Method | str] = tuple(Method),
    goal: Goal | str = Goal.ACCURACY,
    max_steps: int = MAX_STEPS,
    operator_cycles: OperatorCycles | None = None,
    jobs: int = 1,
    backend: str = "loky",
    cluster: str | None = None,
    journal: str | Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Search:
    """Find a width for every filter under budgets of accuracy and cost.

    Args:
        source: `.keras`, `.h5`, SavedModel folder, float or int8 `.tflite`.
        calibration: Samples for rounding; labelled ones where `epochs` asks for training, whose first 256 then give
            scales and losses of single filters.
        validation: Labelled samples that decide, others than those.
        max_drop: Points of accuracy that may be lost against the int8 model.
        max_bytes: Bytes of the filters, or a share of their int8 bytes ("40%").
        max_bit_operations: Multiply-accumulates times weight bits times 8, or a share of those of int8; None for no
            limit.
        buffer: Share of the int8 costs up to which an attempt counts as near.
        epochs: Length of the training of each attempt; 0 rounds without training.
        recipe: Says which filters may nest; those that stay flat are not searched.
        widths: Bit-widths to choose from, increasing to 8.
        single: Whether the model gets the searched widths alone; otherwise it also has a full-bit level of 8 bits.
        methods: What proposes assignments: "sigma" and "divergence" are the paper's; see `Method`.
        goal: What is best among attempts that meet all budgets: "accuracy", "bytes", or the "first" one.
        max_steps: Steps of the second phase.
        operator_cycles: Estimates the cycles of a model's operators on a board, for the report; None leaves them
            out.
        jobs: Attempts that are measured at a time; -1 for one per core.
        backend: "loky" (processes), "threading", "dask" or "ray".
        cluster: Address of the Dask or Ray cluster; None for the one that this process or the environment names.
        journal: File that keeps the attempts, so that the search can go on after it was stopped.
        seed: For everything that is drawn at random.
        progress: Told of every attempt.

    Raises:
        BudgetError: No assignment can meet the budgets of cost.
        UsageError: An argument makes no sense, training is asked of an int8 source, or the samples are not fit for a
            search (`converters.search.samples`).
        FormatError: Model or data are not sound, or do not fit each other.
        UnsupportedError: The source has something that can't be converted or measured.
    """
    tune = load_dataset(calibration) if isinstance(calibration, str | Path) else calibration
    check = load_dataset(validation) if isinstance(validation, str | Path) else validation
    check_choices(widths)
    loaded = load_source(source)
    if epochs and not loaded.is_float:
        raise UsageError(
            f"{loaded.path}: training starts from float weights, and this model is int8",
            "search without training (--ptq), or start from the float model",
        )
    notes = check_samples(tune, check, loaded.model, epochs > 0)
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    # What is trained on is far more than scales and losses of single filters need.
    first = tune.limited(CALIBRATION_SAMPLES) if epochs else tune
    subject = _Subject.of(loaded, first, chosen, progress)
    model = subject.cost_model(widths, operator_cycles)
    budgets = Budgets(
        max_drop,
        _amount(max_bytes, model.full.bytes, "bytes"),
        None
        if max_bit_operations is None
        else _amount(max_bit_operations, model.full.bit_operations, "bit operations"),
        cost_buffer=buffer,
    )
    check_searchable(model, budgets, widths)
    names = tuple(layer.name for layer in model.layers)
    # Attempts run in processes of their own, or on other machines: they read TFLite, which takes no TensorFlow.
    content = loaded.model.to_bytes()
    measure: RoundedAccuracy | TrainedAccuracy
    if epochs:
        measure = TrainedAccuracy(content, names, tune, check, epochs, single=single, seed=seed)
    else:
        measure = RoundedAccuracy(content, names, tune, check, single, seed)
    trials = Trials(measure, jobs=jobs, backend=backend, cluster=cluster, journal=journal, progress=progress)
    if Method.SENSITIVITY in methods:
        model = subject.with_losses(model, first, widths, progress)
    result = search_widths(
        model, budgets, trials, choices=widths, methods=methods, goal=goal, max_steps=max_steps
    )
    best = result.best.widths
    return Search(
        result, recipe_for(names, best, single), measure.build(best), model.full, tuple(dict.fromkeys(notes))
    )


@dataclass(frozen=True)
class _Subject:
    """What is searched.

    Attributes:
        model: The int8 model.
        planned: All its filters.
        weights: Float weights in int8 steps by name; None where the source has none.
    """

    model: Model
    planned: tuple[PlannedFilter, ...]
    weights: Mapping[str, NDArray[np.float64]] | None

    @classmethod
    def of(cls, source: Source, data: Dataset, recipe: Recipe, progress: Progress) -> _Subject:
        model, weights = fix_batch(source.model), None
        if source.is_float:
            quantized = quantize(model, data, progress=progress)
            model, weights = quantized.model, float_steps(quantized)
        return cls(model, tuple(plan_nesting(model.graph, recipe)), weights)

    def cost_model(self, widths: Sequence[int], operator_cycles: OperatorCycles | None) -> CostModel:
        """What assignments cost."""
        main = self.model.graph.main
        layers = tuple(describe_layers(main, self.planned, widths, self.weights))
        costs = CostModel(layers, describe_rest(main, self.planned))
        if operator_cycles is None or not layers:
            return costs
        return replace(
            costs, cycles=_cycles(self.model, searched(main, self.planned), widths, operator_cycles)
        )

    def with_losses(
        self, costs: CostModel, data: Dataset, widths: Sequence[int], progress: Progress
    ) -> CostModel:
        """The same with the loss of the model where one filter alone has a width."""
        main = self.model.graph.main
        inputs = [data.inputs_for(main.input_tensors()[0])]
        # One width above those that count tells what any change at all costs.
        asked = sorted({*widths[:-1], MASTER_BITS - 1})
        found = measure_sensitivities(main, searched(main, self.planned), inputs, asked, progress)
        losses = {item.plan.tensor.name: item.losses for item in found}
        return replace(costs, layers=tuple(replace(layer, loss=losses[layer.name]) for layer in costs.layers))


def _cycles(
    model: Model, planned: Sequence[PlannedFilter], widths: Sequence[int], operator_cycles: OperatorCycles
) -> Cycles:
    """Cycles of every filter's operators at every width, from models that have it throughout."""
    names = [plan.tensor.name for plan in planned]
    by_width = {}
    for width in widths:
        nested = model
        if width < MASTER_BITS:
            recipe = recipe_for(names, (width,) * len(names), single=True).with_options(keep=Keep.FULL_BIT)
            filters = round_filters(plan_nesting(model.graph, recipe), 0)
            nested = nest(model, filters, source_parameters(model.graph, filters), recipe)
        by_width[width] = operator_cycles(nested)
    own = {index for plan in planned for index in plan.operators}
    others = sum(cycles for index, cycles in enumerate(by_width[widths[-1]]) if index not in own)
    return Cycles(
        tuple(
            {width: sum(cycles[index] for index in plan.operators) for width, cycles in by_width.items()}
            for plan in planned
        ),
        others,
    )


def _amount(budget: int | str, full: int, unit: str) -> int:
    """A budget as a number; "40%" is a share of what int8 takes.

    Raises:
        UsageError: It is neither.
    """
    text = str(budget).strip()
    try:
        if text.endswith("%"):
            return int(full * float(text[:-1]) / 100)
        return int(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"the budget {text!r} is no number of {unit}", f"write {unit}, or a share of those of int8: 40%"
        ) from None
