"""Bias correction against a literal computation of what it is meant to do."""

from __future__ import annotations

import numpy as np
import pytest

from converters.correction import MAX_CORRECTION
from converters.fitting import fit_parameters
from converters.nest import nest
from converters.parameters import source_parameters
from converters.planning import plan_nesting, round_filters
from converters.recipe import Recipe, Rule
from tests.models import NetworkBuilder, everything, network, random_inputs
from tflnest.errors import FormatError, UnsupportedError
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model, pack_tree


def rounded_filters(model: Model, recipe: Recipe | None = None):
    return round_filters(plan_nesting(model.graph, recipe or everything()), 0)


def windows(x, size, stride, dilation, output, same):
    """For each output position the input values under the filter (samples, oh, ow, kh, kw, channels); 0 outside."""
    samples, height, width, channels = x.shape
    pads = []
    for length, taps, step, spread, out in zip((height, width), size, stride, dilation, output, strict=True):
        reach = (taps - 1) * spread + 1
        pads.append(max((out - 1) * step + reach - length, 0) // 2 if same else 0)
    seen = np.zeros((samples, *output, *size, channels))
    for row in range(output[0]):
        for column in range(output[1]):
            for i in range(size[0]):
                for j in range(size[1]):
                    y = row * stride[0] + i * dilation[0] - pads[0]
                    z = column * stride[1] + j * dilation[1] - pads[1]
                    if 0 <= y < height and 0 <= z < width:
                        seen[:, row, column, i, j] = x[:, y, z]
    return seen


def mean_accumulators(operator, weights, x, zero_point, output_shape):
    """Mean of every channel's accumulator, literally: every window, every sample."""
    weights = weights.astype(float)
    shifted = x.astype(float) - zero_point
    if operator.name == "FULLY_CONNECTED":
        return (shifted.reshape(-1, weights.shape[1]) @ weights.T).mean(axis=0)
    options = operator.options
    size = weights.shape[1:3]
    stride = (options["stride_h"], options["stride_w"])
    dilation = (options["dilation_h_factor"], options["dilation_w_factor"])
    seen = windows(shifted, size, stride, dilation, output_shape[1:3], options["padding"] == "SAME")
    if operator.name == "DEPTHWISE_CONV_2D":
        multiplier = weights.shape[3] // x.shape[3]
        return (np.repeat(seen, multiplier, axis=5) * weights[0]).sum(axis=(3, 4)).mean(axis=(0, 1, 2))
    groups = x.shape[3] // weights.shape[3]
    sums = []
    for channel in range(len(weights)):
        group = channel // (len(weights) // groups)
        part = seen[..., group * weights.shape[3] : (group + 1) * weights.shape[3]]
        sums.append((part * weights[channel]).sum(axis=(3, 4, 5)).mean())
    return np.array(sums)


def one_layer(kind: str, padding: str, stride: int, dilation: int) -> Model:
    net = NetworkBuilder(7)
    x = net.start((1, 7, 6, 4))
    if kind == "dense":
        return net.finish(net.dense(net.flatten(x), 5, per_channel=True))
    if kind == "depthwise":
        y = net.depthwise(x)
    else:
        y = net.convolution(x, 8, groups=2 if kind == "grouped" else 1)
    options = net.subgraph.operators[0].builtinOptions
    options.padding = 0 if padding == "SAME" else 1
    options.strideW = options.strideH = stride
    options.dilationWFactor = options.dilationHFactor = dilation
    reach = 2 * dilation + 1
    shape = net.subgraph.tensors[y].shape
    for axis, length in ((1, 7), (2, 6)):
        shape[axis] = -(-length // stride) if padding == "SAME" else (length - reach) // stride + 1
    return net.finish(y)


@pytest.mark.parametrize("kind", ["conv", "grouped", "depthwise", "dense"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 1)])
def test_the_mean_of_every_channel_is_restored(kind, padding, stride, dilation):
    source = one_layer(kind, padding, stride, dilation)
    x = random_inputs(source, 5)
    filters = rounded_filters(source)
    (vectors,) = fit_parameters(source.graph, filters, 3, [x]).values()
    operator = source.graph.main.operators[-1]
    main = source.graph.main
    weights, bias = (main.tensors[index].data for index in operator.inputs[1:])
    arguments = (x, main.input_tensors()[0].zero_point, main.tensors[operator.outputs[0]].shape)
    wanted = mean_accumulators(operator, weights, *arguments) + bias
    for values, corrected in zip(filters[0].levels, vectors, strict=True):
        got = mean_accumulators(operator, values, *arguments) + corrected.bias
        np.testing.assert_allclose(got, wanted, rtol=0, atol=0.5 + 1e-6)
    np.testing.assert_array_equal(vectors[-1].bias, bias)


def test_biases_of_the_source_are_repeated():
    source = network()
    filters = rounded_filters(source)
    parameters = source_parameters(source.graph, filters)
    assert sorted(parameters) == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 5)]
    for (_, index), levels in parameters.items():
        bias = source.graph.main.tensors[source.graph.main.operators[index].inputs[2]].data
        assert len(levels) == 3
        for level in levels:
            np.testing.assert_array_equal(level.bias, bias)
            assert level.scales is None


def test_correction_looks_at_what_the_level_really_sees():
    """The second layer's correction is measured on the first layer's part-bit output, not on the source's."""
    net = NetworkBuilder(5)
    y = net.convolution(net.start((1, 4, 4, 4)), 6, kernel=1, name="one")
    source = net.finish(net.convolution(y, 5, kernel=1, name="two"))
    x = random_inputs(source, 6)
    filters = rounded_filters(source)
    parameters = fit_parameters(source.graph, filters, 3, [x])
    model = nest(source, filters, parameters, everything())
    first, second = source.graph.main.operators
    inner = first.outputs[0]
    tensors = source.graph.main.tensors
    wanted = None
    for position, level in [(2, 8), (0, 4), (1, 6)]:
        stock = Interpreter(model=materialize(model, level))
        stock.allocate_tensors()
        middle = next(item["index"] for item in stock.get_tensor_details() if item["name"] == "one/out")
        outputs = []
        for sample in x:
            stock.set_tensor(stock.get_input_details()[0]["index"], sample[None])
            stock.invoke()
            outputs.append(stock.get_tensor(middle))
        seen = np.concatenate(outputs)
        weights = filters[1].levels[position]
        got = mean_accumulators(
            second, weights, seen, tensors[inner].zero_point, tensors[second.outputs[0]].shape
        )
        got = got + parameters[0, 1][position].bias
        wanted = got if wanted is None else wanted
        np.testing.assert_allclose(got, wanted, rtol=0, atol=0.5 + 1e-6)


def test_an_own_level_that_serves_several_levels_of_the_model_is_decided_by_the_lowest():
    source = network()
    recipe = Recipe(levels=(4, 6, 8), rules=(Rule(scope="stem", levels=(5, 8)), Rule(flat=True)))
    filters = rounded_filters(source, recipe)
    x = random_inputs(source, 3)
    assert filters[0].plan.model_levels == (0, 0, 1)
    parameters = fit_parameters(source.graph, filters, 3, [x])
    assert {place: len(levels) for place, levels in parameters.items()} == {(0, 0): 2}


def test_corrections_stay_within_bounds():
    """An absurd bias neither wraps nor runs away."""
    net = NetworkBuilder(2)
    x = net.start((1, 2, 2, 4))
    bias = net.name(net.constant(np.array([2**31 - 1, -(2**31)], np.int32), np.ones(2), 0), "bias")
    source = net.finish(net.convolution(x, 2, kernel=1, bias=bias))
    (vectors,) = fit_parameters(source.graph, rounded_filters(source), 3, [random_inputs(source, 2)]).values()
    for vector in (level.bias for level in vectors):
        assert vector.dtype == np.int32
        assert abs(int(vector[0]) - (2**31 - 1)) <= MAX_CORRECTION
        assert abs(int(vector[1]) + 2**31) <= MAX_CORRECTION


def test_the_result_does_not_depend_on_how_often_it_is_computed():
    source = network()
    filters = rounded_filters(source)
    x = [random_inputs(source, 4)]
    first = fit_parameters(source.graph, filters, 3, x)
    second = fit_parameters(source.graph, filters, 3, x)
    for place, vectors in first.items():
        for a, b in zip(vectors, second[place], strict=True):
            np.testing.assert_array_equal(a.bias, b.bias)


def test_progress_is_told_of_every_operator():
    source = network()
    told = []
    fit_parameters(
        source.graph,
        rounded_filters(source),
        3,
        [random_inputs(source, 1)],
        progress=lambda *step: told.append(step),
    )
    assert [done for _, done, _ in told] == list(range(7))
    assert {(what, total) for what, _, total in told} == {("fitting levels", 6)}


def test_models_that_cannot_be_run_as_a_stream_are_refused_with_a_reason():
    source = network().copy()
    operators = source.tree.subgraphs[0].operators
    operators[1].inputs = [int(operators[1].outputs[0]), *list(operators[1].inputs)[1:]]
    broken = Model.from_bytes(pack_tree(source.tree))
    with pytest.raises(FormatError, match="which no earlier operator writes"):
        fit_parameters(broken.graph, rounded_filters(broken), 3, [random_inputs(broken, 1)])
    source = network().copy()
    source.tree.subgraphs[0].outputs = []
    silent_model = Model.from_bytes(pack_tree(source.tree))
    with pytest.raises(UnsupportedError, match=r"the outputs \[\] are not all computed"):
        fit_parameters(silent_model.graph, rounded_filters(silent_model), 3, [random_inputs(silent_model, 1)])
    source = network().copy()
    source.tree.subgraphs[0].tensors[0].isVariable = True
    stateful = Model.from_bytes(pack_tree(source.tree))
    with pytest.raises(UnsupportedError, match="keeps its value between invokes"):
        fit_parameters(stateful.graph, rounded_filters(stateful), 3, [random_inputs(stateful, 1)])
