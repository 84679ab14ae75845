"""`convert`: from any source to one nested `.tflite`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.allocation import mix_widths
from converters.calibration_checks import check_calibration, check_layers
from converters.fitting import FittedLevels
from converters.folding import fix_batch
from converters.guard import fit_guarded
from converters.nest import drop_names, nest
from converters.parameters import source_parameters
from converters.planning import PlannedFilter, RoundedFilter, plan_nesting, round_filters
from converters.quantization import QuantizationResult, quantize
from converters.recipe import DEFAULT_PRESET, Bias, Keep, Recipe, load_recipe
from converters.report import FilterReport, report_filters
from converters.sources import Source, load_source
from converters.synthetic import synthetic_samples, varied_samples
from converters.tuning import tune_levels
from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import UnsupportedError, UsageError
from tflnest.files import check_writable
from tflnest.graph import Graph
from tflnest.model import Model
from tflnest.nesting import Scheme
from tflnest.progress import Progress, silent
from tflnest.version import JSON_SCHEMA_VERSION


@dataclass(frozen=True)
class Conversion:
    """The result of `convert`.

    Attributes:
        model: The nested model.
        int8: The int8 model that it nests: the source itself, or what quantization made of it.
        source: Path of the source.
        source_kind: "keras", "saved_model", "float_tflite" or "int8_tflite".
        source_bytes: Size of the source; of a folder, all its files.
        recipe: What was used.
        filters: One report per filter.
        notes: What the user should know: what was skipped or estimated, and why.
        output: Where it was written; None for a dry run.
        level_bits: Bits per weight that each level keeps resident.
        errors_of: What the errors of the filters were measured on: "calibration data", "synthetic inputs", or
            "weights" alone.
    """

    model: Model
    int8: Model
    source: str
    source_kind: str
    source_bytes: int
    recipe: Recipe
    filters: tuple[FilterReport, ...]
    notes: tuple[str, ...] = ()
    output: str | None = None
    level_bits: dict[int, float] = field(default_factory=dict)
    errors_of: str = "weights"

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the model."""
        return self.recipe.levels

    @property
    def nested(self) -> int:
        """Number of filters that nest."""
        return sum(bool(item.levels) for item in self.filters)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        directory = self.model.directory
        assert directory is not None
        resident = np.cumsum([page.size for page in directory.pages]).tolist()
        return {
            "schema_version": JSON_SCHEMA_VERSION,
            "source": {"path": self.source, "kind": self.source_kind, "bytes": self.source_bytes},
            "int8_bytes": len(self.int8.to_bytes()),
            "output": {
                "path": self.output,
                "bytes": len(self.model.to_bytes()),
                "identity": directory.identity.hex(),
            },
            "levels": [
                {
                    "level": page.level,
                    "page_bytes": page.size,
                    "resident_bytes": total,
                    "bits_per_weight": self.level_bits[page.level],
                }
                for page, total in zip(directory.pages, resident, strict=True)
            ],
            "recipe": self.recipe.to_toml(),
            "errors_of": self.errors_of,
            "filters": [item.to_dict() for item in self.filters],
            "notes": list(self.notes),
        }


def convert(
    source: str | Path,
    output: str | Path | None = None,
    *,
    levels: Sequence[int] | None = None,
    scheme: Scheme | str | None = None,
    rounding: str | None = None,
    base_bits: float | None = None,
    base_bytes: int | None = None,
    keep: Keep | str | None = None,
    calibration: str | Path | Dataset | None = None,
    recipe: str | Path | Recipe | None = None,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Conversion:
    """Convert a model to a nested `.tflite`.

    The same source, options and seed give the same bytes.

    Args:
        source: `.keras`, `.h5`, SavedModel folder, float or int8 `.tflite`.
        output: Where to write; None writes nothing.
        levels: Chain of levels, for example (4, 6, 8); None leaves it to the recipe.
        scheme: "bucket" or "compensated"; None leaves it to the recipe.
        rounding: Rounding method; None leaves it to the recipe.
        base_bits: Budget of the lowest level in mean bits per weight; each filter gets the width that its
            sensitivity deserves. None leaves it to the recipe.
        base_bytes: The same budget in bytes of all filters; not together with `base_bits`.
        keep: "full-bit": the top level stays the int8 source, bit for bit (truncation). "base": the codes of all
            levels are chosen together for the lowest one's sake (joint rounding, scales per level), which takes
            calibration data. None leaves it to the recipe; with the default preset "base" where the chain starts below
            4 bits and there are calibration data, else "full-bit". Not together with `rounding`.
        calibration: Samples, or a `.npz` (key `x`) or `.npy` with them. Needed by float sources; for int8
            sources it improves the part-bit levels.
        recipe: Recipe, preset name or path of a TOML file; None for the default preset.
        seed: For everything that is drawn at random.
        force: Overwrite the output.
        dry_run: Do everything but write.
        progress: Told how far it is.

    Raises:
        UsageError: Options, recipe or seed make no sense, the output exists, or a float source has no
            calibration.
        FormatError: The source or the calibration data is not sound.
        UnsupportedError: The source has something that can't be converted.
        MissingExtraError: The source needs TensorFlow, and it is not installed.
    """
    if seed < 0:
        raise UsageError(f"the seed is {seed}, 0 or more was expected")
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    chosen = safe = chosen.with_options(levels, scheme, rounding, base_bits, base_bytes, keep)
    open_choice = recipe in (None, DEFAULT_PRESET) and rounding is None and keep is None
    if open_choice and chosen.best_keep(calibration is not None) is Keep.BASE:
        chosen = chosen.with_options(keep=Keep.BASE)
    if output is not None and not dry_run:
        check_writable(output, force)
    data = load_dataset(calibration) if isinstance(calibration, str | Path) else calibration
    loaded = load_source(source)
    if chosen.needs_data and data is None:
        raise UsageError(
            f"{loaded.path}: joint rounding needs calibration data; without data only truncation is safe",
            "give some training samples with --calibration FILE (.npz with key x, or .npy), or use --rounding truncate",
        )
    int8, targets, notes = _to_int8(loaded, data, progress)
    model_inputs = loaded.model.graph.main.input_tensors()
    if data is not None and len(model_inputs) == 1:
        notes += check_calibration(data, model_inputs[0])
    try:
        result = _nest(loaded, int8, chosen, data, targets, seed, list(notes), progress)
    except UnsupportedError:
        if chosen is safe:
            raise
        result = _nest(loaded, int8, safe, data, targets, seed, notes, progress)
    if output is None or dry_run:
        return result
    result.model.save(output, force)
    return Conversion(**{**vars(result), "output": str(output)})


def _to_int8(
    source: Source, data: Dataset | None, progress: Progress
) -> tuple[Model, dict[str, NDArray[np.float64]], list[str]]:
    """The int8 model of a source, batch fixed to 1; its float weights in int8 steps where it had some; notes."""
    notes = list(source.notes)
    model = fix_batch(source.model)
    if not source.is_float:
        return model, {}, notes
    if data is None:
        raise UsageError(
            f"{source.path}: a float model needs calibration data to become int8",
            "give some training samples with --calibration FILE (.npz with key x, or .npy; samples first)",
        )
    result = quantize(model, data, progress=progress)
    return result.model, float_steps(result), notes


def float_steps(result: QuantizationResult) -> dict[str, NDArray[np.float64]]:
    """The float filters of a quantized model in steps of the int8 ones, by name."""
    steps: dict[str, NDArray[np.float64]] = {}
    for subgraph in result.model.graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.name in result.weights and tensor.quantization is not None:
                shape = [1] * len(tensor.shape)
                if tensor.quantization.scale.size > 1:
                    shape[tensor.quantization.axis] = -1
                scale = tensor.quantization.scale.astype(np.float64).reshape(shape)
                steps[tensor.name] = result.weights[tensor.name] / scale
    return steps


def _nest(
    source: Source,
    int8: Model,
    recipe: Recipe,
    data: Dataset | None,
    targets: Mapping[str, NDArray[np.float64]],
    seed: int,
    notes: list[str],
    progress: Progress,
) -> Conversion:
    graph = int8.graph
    planned = plan_nesting(graph, recipe)
    inputs: list[NDArray[Any]] = []
    needed = recipe.bias is Bias.CORRECTED or recipe.mixes_widths
    useful = data is not None and len(graph.main.inputs) == 1
    if any(plan.nesting for plan in planned) and (needed or useful):
        inputs = _calibration_inputs(int8, data, seed, notes)
    losses: dict[tuple[int, int], float] = {}
    if inputs and recipe.mixes_widths:
        try:
            seen = inputs if data is not None else varied_samples(graph.main, seed)
            mixed = mix_widths(graph.main, planned, recipe, seen, progress)
            planned, losses = mixed.filters, mixed.losses
        except UnsupportedError as error:
            notes.append(
                f"all filters have the same base width, sensitivity was not measured: {error.message}"
            )
    notes += check_layers(graph.main, planned, inputs)
    fitted = _fit(graph, planned, recipe, inputs, targets, seed, notes, progress)
    if recipe.tuned and data is not None and inputs and not recipe.needs_data:
        fitted = _tuned(graph, fitted, recipe, inputs, seed, progress)
    model = nest(int8, fitted.filters, fitted.parameters, recipe)
    model = _small(model, int8, bool(fitted.filters), notes)
    reports, of_outputs = report_filters(graph, planned, fitted, recipe, inputs, losses, progress)
    measured_on = "synthetic inputs" if data is None else "calibration data"
    return Conversion(
        model=model,
        int8=int8,
        source=str(source.path),
        source_kind=source.kind,
        source_bytes=_source_bytes(source.path),
        recipe=recipe,
        filters=tuple(reports),
        notes=tuple(notes),
        level_bits=_level_bits(planned, recipe),
        errors_of=measured_on if of_outputs else "weights",
    )


def _small(model: Model, int8: Model, nests: bool, notes: list[str]) -> Model:
    """The nested model, without names where it is larger than the int8 model; notes tell."""
    if nests and len(model.to_bytes()) > len(int8.to_bytes()):
        model = drop_names(model)
        notes.append("names of inner activations were dropped to keep the file small")
    grown = len(model.to_bytes()) - len(int8.to_bytes())
    if not nests:
        notes.append("nothing was nested; the reasons stand with the filters")
    elif grown > 0:
        notes.append(
            f"the nested file is {grown:,} bytes larger than the int8 file: its filters are small, its biases many"
        )
    return model


def _fit(
    graph: Graph,
    planned: Sequence[PlannedFilter],
    recipe: Recipe,
    inputs: Sequence[NDArray[Any]],
    targets: Mapping[str, NDArray[np.float64]],
    seed: int,
    notes: list[str],
    progress: Progress,
) -> FittedLevels:
    """Codes, biases and scales of all levels; without usable inputs, biases and scales are the source's."""
    if inputs and recipe.bias is Bias.CORRECTED:
        try:
            return fit_guarded(
                graph, planned, recipe, inputs, seed=seed, targets=targets, notes=notes, progress=progress
            )
        except UnsupportedError as error:
            if recipe.needs_data:
                raise
            notes.append(f"biases are the source's, not corrected: {error.message}")
    filters = round_filters(planned, seed)
    return FittedLevels(filters, source_parameters(graph, filters))


def _tuned(
    graph: Graph,
    fitted: FittedLevels,
    recipe: Recipe,
    inputs: Sequence[NDArray[Any]],
    seed: int,
    progress: Progress,
) -> FittedLevels:
    """The levels with tuned biases, where the model can be run; elsewhere the fitting has told why not."""
    try:
        return tune_levels(graph.main, fitted, len(recipe.levels), inputs, seed=seed, progress=progress)
    except UnsupportedError:
        return fitted


def _calibration_inputs(
    model: Model, data: Dataset | None, seed: int, notes: list[str]
) -> list[NDArray[Any]]:
    tensors = model.graph.main.input_tensors()
    if data is not None:
        if len(tensors) != 1:
            raise UnsupportedError(f"the model has {len(tensors)} inputs, calibration data feeds exactly one")
        return [data.inputs_for(tensors[0])]
    notes.append("part-bit levels were fitted to synthetic inputs; --calibration FILE makes them better")
    return synthetic_samples(model.graph.main, seed)


def _level_bits(planned: Sequence[PlannedFilter], recipe: Recipe) -> dict[int, float]:
    """Resident bits per weight of every level, flat filters at 8 bits included."""
    weights = max(1, sum(plan.tensor.size for plan in planned))
    bits = {}
    for position, level in enumerate(recipe.levels):
        total = 0
        for plan in planned:
            own = 8
            if plan.nesting is not None:
                own = plan.nesting.stored_bits(plan.nesting.levels[plan.model_levels[position]])
            total += own * plan.tensor.size
        bits[level] = total / weights
    return bits


def _source_bytes(path: Path) -> int:
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return path.stat().st_size


__all__ = ["Conversion", "FilterReport", "RoundedFilter", "convert"]
