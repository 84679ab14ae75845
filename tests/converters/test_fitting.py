"""Fitting levels: scales that follow what a level sees, and codes that are chosen on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters.conversion import convert, float_steps
from converters.correction import RATIO_LIMITS, fitted_scales
from converters.fitting import fit_levels, fit_parameters
from converters.nest import nest
from converters.patches import PatchSampler
from converters.planning import plan_nesting, round_filters
from converters.quantization import quantize
from converters.recipe import Bias, Recipe, Scale, parse_recipe
from converters.sources import load_source
from tests.converters.test_correction import one_layer
from tests.models import NetworkBuilder, everything, network, operators_of, random_inputs
from tests.tflnest.cli.conftest import float_network
from tflnest.comparison import compare
from tflnest.dataset import Dataset
from tflnest.errors import UsageError
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize

SCALED = replace(everything((3, 5, 8)), scale=Scale.CORRECTED)


def fitted_network(recipe=SCALED, seed=0, samples=24):
    source = network()
    plans = plan_nesting(source.graph, recipe)
    inputs = [random_inputs(source, samples)]
    fitted = fit_levels(source.graph, plans, 3, inputs, scale=recipe.scale, seed=seed)
    return source, fitted


def sampled(source, level_factor=1.0):
    operator = source.graph.main.operators[-1]
    tensor = source.graph.main.tensors[operator.inputs[1]]
    x = random_inputs(source, 6)
    rows = PatchSampler(operator, tensor.shape, source.graph.main.input_tensors()[0], x, 0).rows(x)
    return operator, tensor, rows, (rows * np.float32(level_factor)).astype(np.float32)


@pytest.mark.parametrize("kind", ["conv", "grouped", "depthwise"])
def test_the_scale_restores_what_varies(kind):
    """Inputs that are smaller need scales that are larger, within the limits."""
    source = one_layer(kind, "SAME", 1, 1)
    operator, tensor, rows, halved = sampled(source, 0.8)
    scales = fitted_scales(source.graph.main, operator, tensor.data, rows, halved)
    np.testing.assert_allclose(scales, tensor.quantization.scale / 0.8, rtol=1e-5)
    tiny = (rows * np.float32(0.01)).astype(np.float32)
    limited = fitted_scales(source.graph.main, operator, tensor.data, rows, tiny)
    np.testing.assert_allclose(limited, tensor.quantization.scale * RATIO_LIMITS[1], rtol=1e-6)


def test_one_scale_for_all_channels_is_pooled():
    net = NetworkBuilder(1)
    x = net.start((1, 4, 4, 2))
    source = net.finish(net.dense(net.flatten(x), 5))
    operator = source.graph.main.operators[-1]
    tensor = source.graph.main.tensors[operator.inputs[1]]
    rows = np.random.default_rng(0).normal(0, 20, (1, 40, 32)).astype(np.float32)
    factors = np.array([0.7, 0.8, 0.9, 1.0, 1.1])[:, None]
    weights = np.clip(np.rint(tensor.data * factors), -128, 127).astype(np.int8)
    scales = fitted_scales(source.graph.main, operator, weights, rows, rows)
    assert scales.shape == (1,)
    full, part = ((rows[0] - rows[0].mean(axis=0)) @ item.T.astype(float) for item in (tensor.data, weights))
    assert scales[0] == pytest.approx(
        tensor.quantization.scale[0] * (full.var(axis=0).sum() / part.var(axis=0).sum()) ** 0.5, rel=1e-5
    )


def test_a_channel_that_sees_nothing_keeps_the_scale_of_the_source():
    source = one_layer("depthwise", "SAME", 1, 1)
    operator, tensor, rows, level = sampled(source)
    rows[1], level[1] = 0, 0
    scales = fitted_scales(source.graph.main, operator, tensor.data, rows, level)
    np.testing.assert_allclose(scales, tensor.quantization.scale, rtol=1e-6)


def test_scales_without_a_multiplier_are_those_of_the_source():
    """The smallest scale that has a multiplier can't be halved."""
    source = one_layer("conv", "SAME", 1, 1).copy()
    quantization = source.tree.subgraphs[0].tensors[1].quantization
    factor = 0.05 / source.tree.subgraphs[0].tensors[-1].quantization.scale[0]
    quantization.scale = np.array(quantization.scale, np.float32)
    quantization.scale[2] = np.float32(2.0**-32 * 1.01 / factor)
    source.changed()
    operator, tensor, rows, doubled = sampled(source, 2.0)
    scales = fitted_scales(source.graph.main, operator, tensor.data, rows, doubled)
    own = tensor.quantization.scale
    expected = own / 2
    expected[2] = own[2]
    np.testing.assert_allclose(scales, expected, rtol=1e-5)


def test_the_mean_is_restored_in_the_units_of_the_level():
    source = one_layer("conv", "SAME", 1, 1)
    filters = round_filters(plan_nesting(source.graph, SCALED), 0)
    x = random_inputs(source, 8)
    (levels,) = fit_parameters(source.graph, filters, 3, [x], scale=Scale.CORRECTED).values()
    operator = source.graph.main.operators[0]
    weights, bias = (source.graph.main.tensors[index] for index in operator.inputs[1:])
    sampler = PatchSampler(operator, weights.shape, source.graph.main.input_tensors()[0], x, 0)
    rows = sampler.rows(x)[0].astype(float)
    assert len(rows) == 8 * 42  # all positions of all samples
    wanted = (rows @ weights.data.reshape(8, -1).T + bias.data).mean(axis=0) * weights.quantization.scale
    for values, level in zip(filters[0].levels[:2], levels[:2], strict=True):
        got = (rows @ values.reshape(8, -1).T.astype(float) + level.bias).mean(axis=0) * level.scales
        np.testing.assert_allclose(got, wanted, atol=float(level.scales.max()))
        assert not np.array_equal(level.scales, weights.quantization.scale)
    assert levels[2].scales is None
    np.testing.assert_array_equal(levels[2].bias, bias.data)


def test_files_with_scales_keep_the_full_bit_level_and_run_as_they_are_materialized():
    source, fitted = fitted_network()
    model = nest(source, fitted.filters, fitted.parameters, SCALED)
    assert any(len(set(item.multipliers)) == 3 for item in operators_of(model))
    x = random_inputs(source, 4, seed=3)
    np.testing.assert_array_equal(Interpreter(model=model).run(x), Interpreter(model=source).run(x))
    for level in (3, 5):
        twin = materialize(model, level)
        np.testing.assert_array_equal(
            Interpreter(model=model, level=level).run(x), Interpreter(model=twin).run(x)
        )


@pytest.mark.parametrize("rounding", ["truncate", "joint"])
def test_equal_seeds_give_equal_levels(rounding):
    recipe = replace(SCALED, rounding=rounding)
    (_, first), (source, second) = (fitted_network(recipe) for _ in range(2))
    contents = [nest(source, item.filters, item.parameters, recipe).to_bytes() for item in (first, second)]
    assert contents[0] == contents[1]


def test_a_filter_of_several_operators_has_one_set_of_codes_and_parameters_of_each():
    net = NetworkBuilder(3)
    x = net.start((1, 4, 4, 8))
    weights = net.filter((8, 3, 3, 8), name="shared")
    y = net.convolution(net.convolution(x, 8, weights=weights, name="a"), 8, weights=weights, name="b")
    source = net.finish(y)
    recipe = replace(SCALED, rounding="joint")
    fitted = fit_levels(
        source.graph,
        plan_nesting(source.graph, recipe),
        3,
        [random_inputs(source, 16)],
        scale=Scale.CORRECTED,
    )
    assert len(fitted.filters) == 1
    first, second = fitted.parameters[0, 0], fitted.parameters[0, 1]
    assert not np.array_equal(first[0].bias, second[0].bias)
    assert compare(nest(source, fitted.filters, fitted.parameters, recipe), source, limit=4) is not None


def test_convert_rounds_jointly_from_data(tmp_path):
    path = tmp_path / "source.tflite"
    network().save(path)
    x = np.random.default_rng(3).uniform(-5, 5, (64, 8, 8, 3)).astype(np.float32)
    options = {"calibration": Dataset(x, name="x"), "recipe": "uniform", "rounding": "joint"}
    result = convert(path, levels=(4, 6, 8), **options)
    assert {item.rounding for item in result.filters} == {"joint"}
    assert result.model.to_bytes() == convert(path, levels=(4, 6, 8), **options).model.to_bytes()
    assert result.level_bits == {4: 4.0, 6: 6.0, 8: 8.0}
    with pytest.raises(UsageError, match="joint rounding needs calibration data"):
        convert(path, rounding="joint")


@pytest.mark.parametrize("rounding", ["joint", "hierarchical", "truncate"])
def test_float_sources_round_from_their_float_weights(tmp_path, rounding):
    """Full-bit codes differ from those of the int8 model made of them, towards the float weights."""
    path, int8 = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    path.write_bytes(float_network())
    x = np.random.default_rng(3).uniform(-1, 1, (64, 8, 8, 3)).astype(np.float32)
    options = {
        "levels": (4, 8),
        "recipe": "uniform",
        "rounding": rounding,
        "calibration": Dataset(x, name="x"),
    }
    result = convert(path, **options)
    result.int8.save(int8)
    again = convert(int8, **options)
    own, other = (
        {item.name: item.data for item in materialize(model, 8).graph.main.tensors if item.is_constant}
        for model in (result.model, again.model)
    )
    steps = float_steps(quantize(load_source(path).model, options["calibration"]))
    assert len(steps) == result.nested == 2
    for name, target in steps.items():
        if rounding == "truncate":
            np.testing.assert_array_equal(own[name], other[name])
        else:
            move, wanted = (values - other[name].astype(float) for values in (own[name], target))
            assert np.sum(move * wanted) > 0.1 * np.sum(move**2) > 0


def test_recipes_say_where_scales_come_from():
    recipe = parse_recipe('extends = "default"\nscale = "corrected"\n')
    assert recipe.scale is Scale.CORRECTED
    assert parse_recipe(recipe.to_toml()) == recipe
    assert "scale" not in Recipe().to_toml()
    with pytest.raises(UsageError, match="scale of the recipe is 'fitted'"):
        parse_recipe('scale = "fitted"')
    with pytest.raises(UsageError, match='scale is "corrected" and bias is "source"'):
        Recipe(bias=Bias.SOURCE, scale=Scale.CORRECTED)
    with pytest.raises(UsageError, match="needs data is used"):
        Recipe(bias=Bias.SOURCE, rounding="joint")
    assert Recipe(rounding="joint").needs_data and not Recipe().needs_data
