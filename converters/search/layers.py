"""What a search knows of each filter before it tries anything: size, work, sigma, divergence at every width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converters.planning import PlannedFilter
from tflnest.graph import Subgraph
from tflnest.nesting import Nesting
from tflnest.widths import multiply_accumulates

#: Bins of the histograms, over the range of the weights.
BINS = 2048

#: Added to every bin, so that logarithms stay finite.
_EPSILON = 1e-8


@dataclass(frozen=True)
class Layer:
    """One filter.

    Attributes:
        name: Name of the filter tensor.
        weights: Number of weights.
        macs: Multiply-accumulates of an inference.
        sigma: Standard deviation of the weights.
        divergence: By width, the Kullback-Leibler divergence of the quantized weights' histogram from that of the
            weights, divided by that of the narrowest width: 0 to about 1.
        loss: By width, what the model's outputs lose on calibration samples with this layer alone at that width
            (`converters.sensitivity`); None where that was not measured.
    """

    name: str
    weights: int
    macs: int
    sigma: float
    divergence: Mapping[int, float]
    loss: Mapping[int, float] | None = None


@dataclass(frozen=True)
class Rest:
    """What the filters cost that are not searched.

    Attributes:
        bytes: In the file.
        macs: Multiply-accumulates of an inference.
    """

    bytes: int = 0
    macs: int = 0


def describe_layers(
    subgraph: Subgraph,
    planned: Sequence[PlannedFilter],
    widths: Sequence[int],
    float_weights: Mapping[str, NDArray[np.float64]] | None = None,
    losses: Mapping[str, Mapping[int, float]] | None = None,
) -> list[Layer]:
    """Describe the filters of a model that may nest.

    Args:
        subgraph: Main subgraph of the int8 model.
        planned: All its filters.
        widths: Bit-widths of the search, increasing.
        float_weights: Float weights in steps of the int8 ones, by name; the int8 ones stand in.
        losses: Loss of the model by name of the filter and width, where it was measured.
    """
    layers = []
    for plan in searched(subgraph, planned):
        assert plan.tensor.data is not None and plan.tensor.quantization is not None
        steps = (float_weights or {}).get(plan.tensor.name, plan.tensor.data.astype(np.float64))
        scale = _scale_of(plan)
        layers.append(
            Layer(
                name=plan.tensor.name,
                weights=plan.tensor.size,
                macs=sum(
                    multiply_accumulates(subgraph, subgraph.operators[index]) for index in plan.operators
                ),
                sigma=float((steps * scale).std()),
                divergence=_divergences(steps, scale, plan.tensor.data, widths),
                loss=None if losses is None else losses[plan.tensor.name],
            )
        )
    return layers


def searched(subgraph: Subgraph, planned: Sequence[PlannedFilter]) -> list[PlannedFilter]:
    """The filters of the main subgraph that may nest."""
    return [plan for plan in planned if plan.nesting is not None and plan.subgraph == subgraph.index]


def describe_rest(subgraph: Subgraph, planned: Sequence[PlannedFilter]) -> Rest:
    """What the other filters cost; those of other subgraphs count as bytes alone."""
    others = [plan for plan in planned if plan not in searched(subgraph, planned)]
    own = [plan for plan in others if plan.subgraph == subgraph.index]
    return Rest(
        bytes=sum(plan.tensor.bytes for plan in others),
        macs=sum(
            multiply_accumulates(subgraph, subgraph.operators[index])
            for plan in own
            for index in plan.operators
        ),
    )


def _scale_of(plan: PlannedFilter) -> NDArray[np.float64]:
    assert plan.tensor.quantization is not None
    scales = plan.tensor.quantization.scale.astype(np.float64)
    shape = [1] * len(plan.tensor.shape)
    if scales.size > 1:
        shape[plan.tensor.quantization.axis] = -1
    return scales.reshape(shape)


def _divergences(
    steps: NDArray[np.float64], scale: NDArray[np.float64], codes: NDArray[np.int8], widths: Sequence[int]
) -> dict[int, float]:
    real = (steps * scale).reshape(-1)
    edges = np.histogram_bin_edges(real, BINS)
    original = _histogram(real, edges)
    raw = {}
    for width in widths:
        nesting = Nesting((width,))
        quantized = nesting.join(nesting.split(nesting.truncate(codes)), width)
        raw[width] = _divergence(original, _histogram((quantized * scale).reshape(-1), edges))
    worst = max(raw[widths[0]], _EPSILON)
    return {width: value / worst for width, value in raw.items()}


def _histogram(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the bins; what lies outside counts to the outermost ones."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    shares: NDArray[np.float64] = counts / max(values.size, 1) + _EPSILON
    shares /= shares.sum()
    return shares


def _divergence(original: NDArray[np.float64], quantized: NDArray[np.float64]) -> float:
    return float(np.sum(original * np.log(original / quantized)))


def mean_bits(layers: Sequence[Layer], widths: Sequence[int]) -> float:
    """Bits per weight of an assignment."""
    total = sum(layer.weights for layer in layers)
    return sum(layer.weights * width for layer, width in zip(layers, widths, strict=True)) / max(total, 1)
