"""Figures that compare a model's outputs with those of its source, and with labels.

Where several classes share the highest output (int8 outputs saturate), a model's vote is split evenly among them.
"top-1" and "agreement" take the first of them, as argmax does; "split" counts the share of votes that two models,
or a model and the label, have in common; "unique" leaves out the samples on which the source itself is undecided,
"settled" those on which two engines that both run the int8 source as specified already disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tflnest.model import Model
from tflnest.nested import nested_operators

#: Probabilities of int8 outputs end at half of their step.
LEAST_PROBABILITY = 1 / 512

Outputs = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A model's outputs against the source's and the labels.

    Attributes:
        top1: Share of samples whose first highest output is the label's; None without labels.
        split_top1: The label's share of the votes.
        agreement: Share of samples whose first highest output is that of the source.
        unique_agreement: The same among samples on which the source has one highest output; None where there are
            none.
        settled_agreement: Agreement among the samples that are settled; None where that is not known, or there are none.
        split_agreement: Share of votes that coincide with the source's.
        divergence: Kullback-Leibler divergence of the class probabilities from the source's, in nats.
    """

    top1: float | None
    split_top1: float | None
    agreement: float
    unique_agreement: float | None
    settled_agreement: float | None
    split_agreement: float
    divergence: float


def votes(outputs: Outputs) -> Outputs:
    """One vote per sample, split evenly among the classes with the highest output."""
    highest: Outputs = (outputs == outputs.max(axis=1, keepdims=True)).astype(np.float64)
    highest /= highest.sum(axis=1, keepdims=True)
    return highest


def common_votes(first: Outputs, second: Outputs) -> float:
    """Share of two models' votes that coincide."""
    return float(np.minimum(votes(first), votes(second)).sum(axis=1).mean())


def is_tied(outputs: Outputs) -> NDArray[np.bool_]:
    """Which samples have several classes at the top, (samples,)."""
    several: NDArray[np.bool_] = (outputs == outputs.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return several


def log_probabilities(outputs: Outputs, are_probabilities: bool) -> Outputs:
    """Logarithms of class probabilities, from probabilities or from logits."""
    values = np.log(np.maximum(outputs, LEAST_PROBABILITY)) if are_probabilities else outputs
    logs: Outputs = values - values.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return logs


def are_probabilities(outputs: Outputs) -> bool:
    """Whether outputs look like probabilities: none is negative, and they add up to about 1."""
    return bool(outputs.min() >= 0 and np.abs(outputs.sum(axis=1) - 1).mean() < 0.05)


def score(
    outputs: Outputs,
    source: Outputs,
    labels: NDArray[np.int64] | None,
    settled: NDArray[np.bool_] | None = None,
) -> Score:
    """Compare outputs, (samples, classes), real numbers.

    Args:
        outputs: Of the model.
        source: Of its source.
        labels: Classes, (samples,).
        settled: Which samples are settled, (samples,).
    """
    kind = are_probabilities(source)
    reference, other = log_probabilities(source, kind), log_probabilities(outputs, kind)
    classes = outputs.argmax(axis=1)
    agree, unique = classes == source.argmax(axis=1), ~is_tied(source)
    return Score(
        top1=None if labels is None else float((classes == labels).mean()),
        split_top1=None if labels is None else float(votes(outputs)[np.arange(len(labels)), labels].mean()),
        agreement=float(agree.mean()),
        unique_agreement=float(agree[unique].mean()) if unique.any() else None,
        settled_agreement=float(agree[settled].mean()) if settled is not None and settled.any() else None,
        split_agreement=common_votes(outputs, source),
        divergence=float(np.sum(np.exp(reference) * (reference - other), axis=1).mean()),
    )


def bits_per_weight(model: Model, level: int) -> float:
    """Bits per weight that a level keeps resident, by the bytes of the planes; flat filters have all of theirs."""
    assert model.directory is not None
    position = model.directory.levels.index(level)
    nested = {item.planes: item for _, item in nested_operators(model.graph)}
    bits = weights = 0
    for planes, item in nested.items():
        bits += 8 * sum(plane.size for plane in planes[: item.model_levels[position] + 1])
        weights += item.weights
    flat = {
        (subgraph.index, operator.inputs[1]): subgraph.tensors[operator.inputs[1]].size
        for subgraph in model.graph.subgraphs
        for operator in subgraph.operators
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
    }
    total = weights + sum(flat.values())
    return (bits + 8 * sum(flat.values())) / max(total, 1)
