"""Controllers with random weights, and models that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tests.models import everything, nested, network
from tests.single_operator import GraphBuilder
from tflnest.controller import attach
from tflnest.controller_entry import Choice, has_filter
from tflnest.graph import Tensor
from tflnest.model import Model
from tflnest.nested import encode_options, nested_operators
from tflnest.parts import Part

#: What the controllers of tests choose from.
CHOICES = (Choice(4, 4), Choice(6, 8), Choice(8, 8))

HIDDEN = 16


def controller_model(stem: Tensor, logits: int, seed: int = 0) -> Model:
    """MEAN over height and width -> FULLY_CONNECTED with RELU -> FULLY_CONNECTED, as a plain model.

    Args:
        stem: What it reads, (1, height, width, channels).
        logits: Outputs.
        seed: Of the weights.
    """
    rng = np.random.default_rng(seed)
    graph = GraphBuilder()
    x = graph.input(stem.shape, scale=stem.scale, zero_point=stem.zero_point)
    channels = stem.shape[-1]
    pooled = graph.tensor((1, channels), scale=stem.scale / 4, zero_point=stem.zero_point)
    graph.operator(
        "MEAN", [x, graph.constant(np.array([1, 2], np.int32))], [pooled], version=2, keep_dims=False
    )
    hidden = graph.tensor((1, HIDDEN), scale=stem.scale / 4, zero_point=-128)
    output = graph.tensor((1, logits), scale=stem.scale / 4, zero_point=3)
    sizes = ((pooled, channels, hidden, HIDDEN, "RELU"), (hidden, HIDDEN, output, logits, "NONE"))
    for source, width, target, count, activation in sizes:
        weights = graph.constant(rng.integers(-127, 128, (count, width)).astype(np.int8), 0.02)
        bias = graph.constant(rng.integers(-200, 200, count).astype(np.int32), stem.scale / 200)
        graph.operator(
            "FULLY_CONNECTED",
            [source, weights, bias],
            [target],
            version=4,
            fused_activation_function=activation,
        )
    return Model.from_bytes(graph.build([output]))


def controlled(model: Model | None = None, choices: Sequence[Choice] = CHOICES, seed: int = 0) -> Model:
    """A nested model whose first operator is the stem and whose other filters are all controlled.

    Args:
        model: Nested at the levels of `choices`; None for the network of `tests.models`.
        choices: What its controller chooses from.
        seed: Of the controller.
    """
    source = nested(network(), everything()) if model is None else model
    main = source.graph.main
    stem = main.tensors[main.operators[0].outputs[0]]
    operators = [operator.index for operator in main.operators[1:] if has_filter(operator)]
    network_ = controller_model(stem, len(operators) * len(choices), seed)
    return attach(source, network_, stem.index, operators, choices)


def narrow_levels(model: Model, bits: Sequence[int]) -> Model:
    """The model with operators that read their activations at these bits, one for each own level."""
    return _rewritten(model, {item.operator.index: bits for _, item in nested_operators(model.graph)})


def with_activation_bits(model: Model, bits: Mapping[int, int]) -> Model:
    """The model with operators that read their activations at these bits at all levels, by index."""
    levels = {item.operator.index: len(item.nesting.levels) for _, item in nested_operators(model.graph)}
    return _rewritten(model, {index: [width] * levels[index] for index, width in bits.items()})


def _numbers(parts: Sequence[Part]) -> list[int]:
    known = list(dict.fromkeys(parts))
    return [known.index(part) for part in parts]


def _rewritten(model: Model, bits: Mapping[int, Sequence[int]]) -> Model:
    result = model.copy()
    for subgraph, item in nested_operators(model.graph):
        options = encode_options(
            item.stock,
            item.stock_version,
            item.options,
            item.nesting,
            item.model_levels,
            item.filter_shape,
            bias=_numbers(item.biases),
            requantization=_numbers(item.multipliers),
            activation_bits=bits[item.operator.index],
            is_separate=len(item.operator.inputs) > 1 + len(item.planes),
        )
        tree = result.tree.subgraphs[subgraph.index].operators[item.operator.index]
        tree.customOptions = np.frombuffer(options, np.uint8)
    result.changed()
    return Model.from_bytes(result.to_bytes())
