"""Which filters nest, in which levels, and why others do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converters.planning import PlannedFilter, plan_nesting, round_filters, source_bias
from converters.recipe import Recipe, Rule, load_recipe, parse_recipe
from tests.models import (
    NetworkBuilder,
    everything,
    nested,
    network,
    operators_of,
    random_inputs,
    signature,
    small_network,
)
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model, add_buffer, pack_tree
from tflnest.nesting import Nesting
from tflnest.schema import enum_value


def plans(model: Model, recipe: Recipe | None = None) -> dict[str, PlannedFilter]:
    return {plan.tensor.name: plan for plan in plan_nesting(model.graph, recipe or everything())}


def test_every_filter_is_planned_in_file_order():
    planned = plan_nesting(network().graph, everything())
    assert [plan.tensor.name for plan in planned] == [
        "stem/weights",
        "depthwise/weights",
        "point/weights",
        "grouped/weights",
        "head/weights",
    ]
    assert [plan.operator_name for plan in planned] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
        "CONV_2D",
        "FULLY_CONNECTED",
    ]
    assert all(plan.nesting == Nesting((4, 6, 8)) and plan.model_levels == (0, 1, 2) for plan in planned)


def test_the_default_recipe_keeps_fragile_filters_flat():
    planned = plans(network(), load_recipe("default"))
    nested_names = {name for name, plan in planned.items() if plan.nesting is not None}
    assert nested_names == {"point/weights", "grouped/weights", "head/weights"}
    assert planned["stem/weights"].reason == "recipe: first convolution stays flat"
    assert planned["depthwise/weights"].reason == "recipe: operator DEPTHWISE_CONV_2D stays flat"


@pytest.mark.parametrize(
    ("own", "levels", "used", "model_levels", "pages"),
    [
        ((4, 6, 8), (4, 6, 8), (4, 6, 8), (0, 1, 2), (0, 1, 2)),
        ((6, 8), (4, 6, 8), (6, 8), (0, 0, 1), (0, 2)),
        ((8,), (4, 6, 8), (8,), (0, 0, 0), (0,)),
        ((2, 4, 6, 8), (4, 8), (4, 8), (0, 1), (0, 1)),
        ((3, 8), (4, 6, 8), (3, 8), (0, 0, 1), (0, 2)),
        ((5,), (4, 6, 8), (5,), (0, 0, 0), (0,)),
        ((5, 7), (4, 6, 8), (5, 7), (0, 0, 1), (0, 2)),
        ((1, 2, 3), (4, 8), (3,), (0, 0), (0,)),
        ((4, 6, 8), (6,), (6,), (0,), (0,)),
    ],
)
def test_chains_that_differ_from_the_levels_of_the_model(own, levels, used, model_levels, pages):
    """A model level runs the highest own level that is not above it, or else the own base."""
    recipe = Recipe(levels=levels, rules=(Rule(scope="point", levels=own),))
    plan = plans(network(), recipe)["point/weights"]
    assert plan.nesting.levels == used
    assert plan.model_levels == model_levels
    assert tuple(plan.page_of(position) for position in range(len(used))) == pages
    model = nested(network(), recipe)
    operator = next(item for item in operators_of(model) if item.scope == "point/weights")
    assert (operator.nesting.levels, operator.model_levels) == (used, model_levels)
    assert tuple(operator.page_of(position) for position in range(len(used))) == pages
    x = random_inputs(model, 2)
    for level in levels:
        expected = Interpreter(model=materialize(model, level)).run(x)
        np.testing.assert_array_equal(Interpreter(model=model, level=level).run(x), expected)


def test_schemes_and_chains_may_differ_from_filter_to_filter():
    recipe = parse_recipe(
        """
        levels = [4, 6, 8]
        [[rules]]
        scope = "stem"
        scheme = "compensated"
        [[rules]]
        scope = "head"
        levels = [3, 8]
        [[rules]]
        scope = "depthwise"
        flat = true
        """
    )
    model = nested(network(), recipe)
    found = {item.scope: item.nesting for item in operators_of(model)}
    assert found == {
        "stem/weights": Nesting((4, 6, 8), "compensated"),
        "point/weights": Nesting((4, 6, 8)),
        "grouped/weights": Nesting((4, 6, 8)),
        "head/weights": Nesting((3, 8)),
    }
    x = random_inputs(model, 3)
    np.testing.assert_array_equal(Interpreter(model=model).run(x), Interpreter(model=network()).run(x))


def test_a_filter_of_several_operators_is_planned_once():
    net = NetworkBuilder()
    x = net.start((1, 4, 4, 8))
    weights = net.filter((8, 3, 3, 8), name="shared")
    y = net.convolution(net.convolution(x, 8, weights=weights), 8, weights=weights)
    planned = plan_nesting(net.finish(y).graph, everything())
    assert [plan.operators for plan in planned] == [(0, 1)]


def test_rounded_filters_hold_planes_and_levels():
    source = network()
    for rounded in round_filters(plan_nesting(source.graph, everything()), 0):
        nesting = rounded.plan.nesting
        assert len(rounded.planes) == len(rounded.levels) == 3
        for level, values in zip(nesting.levels, rounded.levels, strict=True):
            np.testing.assert_array_equal(nesting.join(rounded.planes, level), values)
        np.testing.assert_array_equal(rounded.levels[-1], rounded.plan.tensor.data)


def test_a_missing_bias_counts_as_zeros():
    net = NetworkBuilder()
    model = net.finish(net.convolution(net.start(), 5, bias=-1))
    operator = model.graph.main.operators[0]
    assert operator.inputs[2] == -1
    bias = source_bias(model.graph.main, operator)
    assert (bias.dtype, bias.tolist()) == (np.int32, [0] * 5)


Change = Callable[[Any, Any], None]


def _tensor(number: int, **values: Any) -> Change:
    """Set attributes of a tensor: 0 input, 1 filter, 2 bias of the first operator."""

    def change(tree: Any, subgraph: Any) -> None:
        for name, value in values.items():
            setattr(subgraph.tensors[int(subgraph.operators[0].inputs[number])], name, value)

    return change


def _scale(number: int, value: float) -> Change:
    def change(tree: Any, subgraph: Any) -> None:
        tensor = subgraph.tensors[int(subgraph.operators[0].inputs[number])]
        tensor.quantization.scale = np.full(len(tensor.quantization.scale), value, np.float32)

    return change


def _asymmetric(tree: Any, subgraph: Any) -> None:
    quantization = subgraph.tensors[1].quantization
    quantization.zeroPoint = np.ones(len(quantization.scale), np.int64)


def _unquantized_output(tree: Any, subgraph: Any) -> None:
    subgraph.tensors[int(subgraph.operators[0].outputs[0])].quantization = None


def _too_few_scales(tree: Any, subgraph: Any) -> None:
    quantization = subgraph.tensors[1].quantization
    quantization.scale, quantization.zeroPoint = quantization.scale[:2], quantization.zeroPoint[:2]


def _float_bias(tree: Any, subgraph: Any) -> None:
    subgraph.tensors[2].type = enum_value("TensorType", "FLOAT32")


def _short_bias(tree: Any, subgraph: Any) -> None:
    subgraph.tensors[2].shape = [1]
    subgraph.tensors[2].buffer = add_buffer(tree, bytes(4))


def _filter_is_output(tree: Any, subgraph: Any) -> None:
    subgraph.outputs = [*subgraph.outputs, 1]


def _filter_is_bias(tree: Any, subgraph: Any) -> None:
    subgraph.operators[1].inputs = [*list(subgraph.operators[1].inputs), 1]


def _filter_is_activation(tree: Any, subgraph: Any) -> None:
    subgraph.operators[0].inputs = [1, 1, 2]


def _option(name: str, value: int) -> Change:
    def change(tree: Any, subgraph: Any) -> None:
        setattr(subgraph.operators[0].builtinOptions, name, value)

    return change


def _inputs(values: list[int]) -> Change:
    def change(tree: Any, subgraph: Any) -> None:
        subgraph.operators[0].inputs = values

    return change


def _outputs(values: list[int]) -> Change:
    def change(tree: Any, subgraph: Any) -> None:
        subgraph.operators[0].outputs = values

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_tensor(1, type=3), "the filter is UINT8, only INT8 nests"),
        (_asymmetric, "the filter is not symmetrically quantized"),
        (_tensor(1, quantization=None), "the filter is not symmetrically quantized"),
        (_filter_is_output, "the filter is an output of the graph"),
        (_filter_is_bias, "operator 1 (RESHAPE) uses the same tensor in another way"),
        (_filter_is_activation, "operator 0 (CONV_2D): its activations are not quantized"),
        (_tensor(0, type=3), "it computes UINT8 to INT8, only INT8 to INT8 nests"),
        (_tensor(0, quantization=None), "its activations are not quantized"),
        (_unquantized_output, "its activations are not quantized"),
        (_too_few_scales, "2 scales for 4 channels"),
        (_float_bias, "its bias is no INT32 constant with 4 elements"),
        (_short_bias, "its bias is no INT32 constant with 4 elements"),
        (_scale(0, float("nan")), "a scale is not a positive number"),
        (_scale(0, 0.0), "a scale is not a positive number"),
        (_scale(1, -1.0), "a scale is not a positive number"),
        (_scale(1, float("inf")), "a scale is not a positive number"),
        (_option("padding", 9), "padding 9 makes no sense"),
        (_option("strideW", 0), "stride_w 0 makes no sense"),
        (_option("fusedActivationFunction", 77), "fused_activation_function 77 makes no sense"),
        (_inputs([-1, 1, 2]), "it has inputs [-1, 1, 2] and outputs"),
        (_inputs([0, 1, 2, 2]), "it has inputs [0, 1, 2, 2] and outputs"),
        (_outputs([]), "and outputs []"),
        (_outputs([3, 3]), "and outputs [3, 3]"),
        (_tensor(1, shape=[16]), "its filter has shape [16]"),
        (_tensor(1, shape=[2, 2, 2, 2, 1]), "its filter has shape [2, 2, 2, 2, 1]"),
    ],
)
def test_what_cannot_nest_stays_flat_and_says_why(change, reason):
    model = small_network().copy()
    change(model.tree, model.tree.subgraphs[0])
    model = Model.from_bytes(pack_tree(model.tree))
    plan = plans(model)["a/weights"]
    assert plan.nesting is None
    assert reason in plan.reason
    again = nested(model)  # the rest of the model nests all the same
    assert [item.scope for item in operators_of(again)] == ["b/weights"]


def test_a_filter_that_is_computed_is_not_planned():
    net = NetworkBuilder()
    x = net.start((1, 4, 4, 8))
    weights = net.tensor((8, 1, 1, 8), scale=np.full(8, 0.1), zero_point=0)
    net._inputs.append(weights)
    assert (
        plan_nesting(net.finish(net.convolution(x, 8, kernel=1, weights=weights)).graph, everything()) == []
    )


def test_float_models_plan_nothing_to_nest():
    net = NetworkBuilder()
    x = net.input((1, 4), "FLOAT32")
    weights = net.constant(np.ones((3, 4), np.float32))
    y = net.tensor((1, 3), "FLOAT32")
    net.operator("FULLY_CONNECTED", [x, weights, -1], [y])
    (plan,) = plan_nesting(net.finish(y).graph, everything())
    assert plan.nesting is None
    assert plan.reason == "the filter is FLOAT32, only INT8 nests"


def test_the_first_convolution_is_found_through_padding_and_in_every_subgraph():
    net = NetworkBuilder()
    x = net.start((1, 4, 4, 8))
    padded = net.tensor((1, 6, 6, 8), scale=0.05, zero_point=-3)
    paddings = net.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    net.operator("PAD", [x, paddings], [padded])
    y = net.convolution(padded, 8, name="first")
    y = net.convolution(y, 8, name="second")
    model = net.finish(y).copy()
    model.tree.subgraphs.append(Model.from_bytes(model.to_bytes()).tree.subgraphs[0])
    model.changed()
    recipe = Recipe(rules=(Rule(first_convolution=True, flat=True),))
    planned = plan_nesting(Model.from_bytes(model.to_bytes()).graph, recipe)
    assert [(plan.subgraph, plan.tensor.name, plan.nesting is None) for plan in planned] == [
        (0, "first/weights", True),
        (0, "second/weights", False),
        (1, "first/weights", True),
        (1, "second/weights", False),
    ]


def test_signatures_of_a_second_subgraph_survive():
    model = network().copy()
    model.tree.subgraphs.append(network(1).tree.subgraphs[0])
    base = len(model.tree.buffers)
    model.tree.buffers += network(1).tree.buffers
    for tensor in model.tree.subgraphs[1].tensors:
        tensor.buffer += base
    codes = {code.builtinCode: index for index, code in enumerate(model.tree.operatorCodes)}
    assert len(codes) == len(network(1).tree.operatorCodes)
    model.tree.signatureDefs.append(signature("second", {"a": 0}, {"b": 1}, subgraph=1))
    again = nested(Model.from_bytes(pack_tree(model.tree)))
    assert {item.key: item.subgraph for item in again.graph.signatures} == {"serve": 0, "second": 1}
    assert len(operators_of(again)) == 10
