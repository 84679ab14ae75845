"""How many instructions a kernel takes on a core: a model that was fitted to exact counts on emulated boards.

Every kernel has a few features that follow from its parameters: multiply-accumulates, outputs, weights that are
decoded, pixels that are gathered once per tile, and so on. An instruction count is the sum of the features times
coefficients, which are never negative. `python -m benchmarks.instruction_model --fit` counts networks of random
shapes on emulated boards, fits the coefficients and writes them; without `--fit` it prints the error on models
that were not used. Instructions are not cycles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

from firmware_sim.firmware.plan import FirmwarePlan
from tflnest.device import Call, Core
from tflnest.device.parameters import ConvParams, DepthwiseConvParams, Filter, FullyConnectedParams
from tflnest.files import read_file
from tflnest.graph import Tensor

#: Coefficients by core and kind of kernel.
COSTS = Path(__file__).with_name("instruction_costs.json")

#: The core whose compiled kernels a core runs, or comes nearest to; the others have no model.
MODELS = {
    "cortex-m0": "cortex-m0",
    "cortex-m0plus": "cortex-m0",
    "cortex-m3": "cortex-m3",
    "cortex-m4": "cortex-m4",
    "cortex-m7": "cortex-m4",
    "cortex-m33": "cortex-m3",
    "cortex-m55": "cortex-m55",
    "xtensa-lx7": "cortex-m3",
}


#: Dense rows of whole units of so many weights are multiplied as they lie; others take a slower way.
_PACKED_UNIT = {Core.PORTABLE: 32, Core.DSP: 32, Core.MVE: 64}
_FLAT_UNIT = 16

#: Name of the feature that counts decoded weights, before the bits of their planes.
_DECODING = "weights "

Features = dict[str, float]


@dataclass(frozen=True)
class KernelFeatures:
    """What the instructions of one call depend on.

    Attributes:
        kind: The kernel and the way through it; calls of one kind share coefficients.
        values: Features by name.
    """

    kind: str
    values: Mapping[str, float]


def features_of(call: Call, weights: Filter | None, tensors: Sequence[Tensor], core: Core) -> KernelFeatures:
    """Features of a call.

    Args:
        call: A kernel with the tile that was planned for it.
        weights: Its filter at the level that runs; None where it has none.
        tensors: Of the subgraph, for the sizes of what is read and written.
        core: Variant of the kernels.
    """
    make = _WITH_WEIGHTS.get(call.function.name)
    if make is not None and weights is not None:
        return make(call.params, weights, core)
    name = call.function.name
    values: Features = {
        "calls": 1,
        "inputs": sum(tensors[argument.tensor].size for argument in call.inputs),
        "outputs": sum(tensors[argument.tensor].size for argument in call.outputs),
    }
    window = getattr(call.params, "filter", None)
    if window is not None:
        values["taps"] = values["outputs"] * window.height * window.width
    return KernelFeatures(name, values)


def _decoding(weights: Filter, count: int) -> Features:
    """Weights that are decoded, named by the bits of their planes; every combination has its own cost."""
    planes = [str(field.bits) for field in weights.fields[: weights.field_count]]
    return {_DECODING + ("+".join(planes) or "int8"): count}


def _conv(params: ConvParams, weights: Filter, _: Core) -> KernelFeatures:
    taps = params.filter.height * params.filter.width
    is_pointwise = taps == params.stride.height * params.stride.width == 1
    return _pixelwise("conv pointwise" if is_pointwise else "conv", params, params.groups, weights)


def _depthwise(params: DepthwiseConvParams, weights: Filter, _: Core) -> KernelFeatures:
    channels = params.output.channels
    if params.input.channels == 1:
        return _pixelwise("depthwise single", params, 1, weights)
    kind = "depthwise" if params.input.channels == channels else "depthwise multiplied"
    found = _pixelwise(kind, params, 1, weights)
    if params.tile_channels:
        tiles, taps = ceil(channels / params.tile_channels), params.products
        extra = {"tile_taps": tiles * params.output.height * params.output.width * taps, "channels": channels}
        return replace(found, values={**found.values, **extra})
    return found


def _pixelwise(
    kind: str, params: ConvParams | DepthwiseConvParams, groups: int, weights: Filter
) -> KernelFeatures:
    """What runs a tile of channels over all pixels."""
    pixels = params.output.batches * params.output.height * params.output.width
    channels, products = params.output.channels, params.products
    features: Features = {"calls": 1, "macs": pixels * channels * products, "outputs": pixels * channels}
    if not params.tile_channels:
        decoding = _decoding(weights, pixels * channels * products)
        return KernelFeatures(f"{kind} unbuffered", features | decoding)
    tiles = groups * ceil(channels // groups / params.tile_channels)
    features |= {"tiles": tiles, "tile_pixels": tiles * pixels, "channels": channels}
    if kind != "conv pointwise":
        features["gathered"] = tiles * pixels * products
        features["gathered_rows"] = tiles * pixels * params.filter.height
    return KernelFeatures(kind, features | _decoding(weights, channels * products))


def _fully_connected(params: FullyConnectedParams, weights: Filter, core: Core) -> KernelFeatures:
    products = params.inputs * params.outputs
    features: Features = {
        "calls": 1,
        "macs": params.batches * products,
        "outputs": params.batches * params.outputs,
        "inputs": params.batches * params.inputs,
    }
    unit = _PACKED_UNIT[core] if weights.field_count else _FLAT_UNIT
    kind = "fully connected" if params.inputs % unit == 0 else "fully connected ragged"
    if not params.tile_channels:
        kind = "fully connected unbuffered"
    return KernelFeatures(kind, features | _decoding(weights, products))


_WITH_WEIGHTS: dict[str, Callable[[Any, Filter, Core], KernelFeatures]] = {
    "tflnest_conv_s8": _conv,
    "tflnest_depthwise_conv_s8": _depthwise,
    "tflnest_fully_connected_s8": _fully_connected,
}


def step_features(plan: FirmwarePlan, position: int, level: int) -> list[KernelFeatures]:
    """Features of the calls of one operator.

    Args:
        plan: Of the firmware.
        position: Of the step in its program.
        level: Position of the model's level.
    """
    step = plan.program.steps[position]
    own = 0 if step.nested is None else step.nested.model_levels[level]
    found = []
    for call in plan.calls[position]:
        weights = call.filters[min(own, len(call.filters) - 1)].filter if call.filters else None
        found.append(features_of(call, weights, plan.program.tensors, plan.core))
    return found


class InstructionModel:
    """Coefficients of one core.

    Args:
        kinds: Coefficients by kind of kernel and name of the feature.
    """

    def __init__(self, kinds: Mapping[str, Mapping[str, float]]) -> None:
        self._kinds = kinds

    def instructions(self, features: KernelFeatures) -> float | None:
        """Instructions of a call; None where nothing of its kind was counted."""
        coefficients = self._kinds.get(features.kind)
        if coefficients is None:
            return None
        return sum(_coefficient(coefficients, name) * value for name, value in features.values.items())

    def step(self, plan: FirmwarePlan, position: int, level: int) -> float | None:
        """Instructions of an operator; arguments as in `step_features`. None where a kernel was not counted."""
        total = 0.0
        for features in step_features(plan, position, level):
            instructions = self.instructions(features)
            if instructions is None:
                return None
            total += instructions
        return total


def _coefficient(coefficients: Mapping[str, float], name: str) -> float:
    """The coefficient of a feature; for planes that were not counted the mean of those that were."""
    if name in coefficients or not name.startswith(_DECODING):
        return coefficients.get(name, 0.0)
    known = [value for key, value in coefficients.items() if key.startswith(_DECODING)]
    return sum(known) / len(known) if known else 0.0


@cache
def _costs() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(read_file(COSTS))
    return table


def instruction_model(core: str) -> InstructionModel | None:
    """The model of a core, for example "cortex-m4"; None where none was counted."""
    name = MODELS.get(core)
    return None if name is None else InstructionModel(_costs()["cores"][name])
