from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from converters import conversion
from converters.conversion import convert
from converters.recipe import parse_recipe
from tests.models import network, operators_of
from tests.shared import ROOT
from tests.tflnest.cli.conftest import float_network, two_input_network, wide_network
from tests.tflnest.test_runner import two_outputs
from tflnest.comparison import compare
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UnsupportedError, UsageError
from tflnest.evaluation import evaluate
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model

CHAINS = [(8,), (6, 8), (4, 6, 8), (3, 5, 8), (4, 6), (2, 4, 6, 8)]
SHARED = (
    "pretrainedResnet_quant",
    "vww_96_int8",
    "kws_ref_model",
    "person_detect",
    pytest.param("mobilenet_v2_quantized_1x3x224x224", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "int8.tflite"
    network().save(path)
    return path


@pytest.fixture(scope="module")
def float_source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "float.tflite"
    path.write_bytes(float_network())
    return path


@pytest.fixture(scope="module")
def samples() -> Dataset:
    x = np.random.default_rng(3).uniform(-5, 5, (64, 8, 8, 3)).astype(np.float32)
    return Dataset(x, name="samples")


def filters_of(model: Model) -> list[bytes]:
    """The int8 filters of a plain model, as bytes."""
    graph = model.graph.main
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [graph.tensors[item.inputs[1]].data.tobytes() for item in graph.operators if item.name in kinds]


@pytest.mark.parametrize("scheme", ["bucket", "compensated"])
@pytest.mark.parametrize("levels", CHAINS, ids=str)
def test_every_chain_and_scheme(source, levels, scheme):
    result = convert(source, levels=levels, scheme=scheme, recipe="uniform")
    assert result.levels == result.model.directory.levels == levels
    assert result.nested == len(result.filters) == len(operators_of(result.model)) == 5
    assert all((item.scheme, item.levels) == (scheme, levels) for item in result.filters)
    for level in levels:
        assert compare(result.model, materialize(result.model, level), first_level=level, limit=4).bit_exact
    if levels[-1] == 8:
        assert compare(result.model, source).bit_exact
        assert filters_of(materialize(result.model, 8)) == filters_of(Model.load(source))
    extra = len(levels) - 1 if scheme == "compensated" else 0
    assert result.level_bits[levels[-1]] == levels[-1] + extra
    assert result.level_bits[levels[0]] == levels[0]


def test_more_bits_are_closer_to_the_source(source, samples):
    result = convert(source, levels=(3, 5, 8), recipe="uniform", calibration=samples)
    differences = [row.mean_difference for row in evaluate(result.model, samples).levels]
    assert differences[0] > differences[1] > differences[2] == 0


def test_chains_below_four_bits_are_rounded_jointly_by_default(source, samples):
    def rounding(**options):
        return convert(source, **options).recipe.rounding

    assert rounding(levels=(3, 5, 8), calibration=samples) == "joint"
    assert rounding(levels=(3, 5, 8), calibration=samples, recipe="default") == "joint"
    assert rounding(levels=(3, 5, 8)) == "truncate"
    assert rounding(levels=(4, 6, 8), calibration=samples) == "truncate"
    assert rounding(levels=(3, 5, 8), calibration=samples, keep="full-bit") == "truncate"
    assert rounding(levels=(3, 5, 8), calibration=samples, rounding="truncate") == "truncate"
    assert rounding(levels=(3, 5, 8), calibration=samples, recipe="uniform") == "truncate"


def test_what_can_not_be_run_is_truncated_by_default(source, samples, monkeypatch):
    """Joint rounding has to run the model; unless somebody asked for it, truncation takes its place."""

    def refuse(*arguments, **keywords):
        raise UnsupportedError("operator 1 can't be run")

    monkeypatch.setattr(conversion, "fit_guarded", refuse)
    result = convert(source, levels=(3, 5, 8), calibration=samples)
    assert result.recipe.rounding == "truncate"
    assert "biases are the source's, not corrected: operator 1 can't be run" in result.notes
    with pytest.raises(UnsupportedError, match="operator 1"):
        convert(source, levels=(3, 5, 8), calibration=samples, keep="base")


def test_the_same_input_gives_the_same_bytes(source, samples):
    for options in ({}, {"calibration": samples}, {"scheme": "compensated"}, {"levels": (2, 4, 6, 8)}):
        first, second = (convert(source, seed=5, **options).model.to_bytes() for _ in range(2))
        assert first == second


def test_the_seed_draws_the_synthetic_inputs(source, samples):
    drawn = [convert(source, seed=seed, levels=(2, 8), recipe="uniform") for seed in (0, 1)]
    assert drawn[0].model.to_bytes() != drawn[1].model.to_bytes()
    given = [convert(source, seed=seed, calibration=samples, recipe="uniform") for seed in (0, 1)]
    assert given[0].model.to_bytes() == given[1].model.to_bytes()


def test_the_file_is_written_as_reported(source, tmp_path):
    output = tmp_path / "nested.tflite"
    result = convert(source, output)
    assert result.output == str(output)
    assert output.read_bytes() == result.model.to_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["nested.tflite"]
    loaded = Model.load(output)
    assert loaded.directory.identity == result.model.directory.identity
    x = np.random.default_rng(0).integers(-128, 128, (3, 8, 8, 3)).astype(np.int8)
    expected = Interpreter(model=Model.load(source)).run(x)
    np.testing.assert_array_equal(Interpreter(model=loaded).run(x), expected)


def test_a_dry_run_writes_nothing(source, tmp_path):
    dry = convert(source, tmp_path / "nested.tflite", dry_run=True)
    assert dry.output is None and list(tmp_path.iterdir()) == []
    assert dry.model.to_bytes() == convert(source).model.to_bytes()


def test_an_output_that_exists_is_kept_unless_forced(source, tmp_path):
    output = tmp_path / "nested.tflite"
    output.write_bytes(b"precious")

    def progress(*_report):
        raise AssertionError("the work began")

    with pytest.raises(UsageError, match="exists already"):
        convert(source, output, progress=progress)
    assert output.read_bytes() == b"precious"
    convert(source, output, force=True)
    assert Model.load(output).directory is not None


def test_the_recipe_is_stored_in_the_file(source):
    result = convert(source, levels=(5, 8), recipe="uniform")
    assert parse_recipe(result.model.directory.recipe) == result.recipe


def test_chains_may_differ_by_filter(source):
    recipe = parse_recipe(
        """
        levels = [4, 6, 8]
        [[rules]]
        scope = "stem|grouped"
        levels = [6, 8]
        [[rules]]
        scope = "point"
        scheme = "compensated"
        [[rules]]
        scope = "dw|depthwise"
        flat = true
        """
    )
    result = convert(source, recipe=recipe)
    chains = {item.name.split("/")[0]: (item.levels, item.scheme) for item in result.filters}
    assert chains["stem"] == chains["grouped"] == ((6, 8), "bucket")
    assert chains["point"] == ((4, 6, 8), "compensated")
    assert chains["head"] == ((4, 6, 8), "bucket")
    assert [levels for levels, _ in chains.values()].count(()) == 1
    assert compare(result.model, source).bit_exact
    for level in (4, 6):
        assert compare(result.model, materialize(result.model, level), first_level=level, limit=4).bit_exact


def test_the_report_says_why_a_filter_stays_flat(source):
    filters = {item.name: item for item in convert(source, levels=(4, 6, 8)).filters}
    stem = filters["stem/weights"]
    (depthwise,) = (item for item in filters.values() if item.operator == "DEPTHWISE_CONV_2D")
    assert "operator DEPTHWISE_CONV_2D stays flat" in depthwise.reason
    assert "first convolution stays flat" in stem.reason
    assert not depthwise.levels and not stem.levels
    nested = [item for item in filters.values() if item.levels]
    assert nested and all(item.rounding == "truncate" and item.reason for item in nested)


def test_what_cannot_be_nested_is_converted_as_far_as_possible(tmp_path):
    """A filter that is an input of the model, and no filter at all."""
    path = tmp_path / "model.tflite"
    two_outputs().save(path)
    result = convert(path)
    assert (result.nested, result.filters) == (0, ())
    assert result.notes == ("nothing was nested; the reasons stand with the filters",)
    assert compare(result.model, path).bit_exact


def test_two_inputs_take_no_calibration_and_say_so(tmp_path, samples):
    path = tmp_path / "model.tflite"
    path.write_bytes(two_input_network())
    assert convert(path, calibration=samples).nested == 0


def test_missing_calibration_is_noted(source, samples):
    assert any("synthetic inputs" in note for note in convert(source).notes)
    assert not any("synthetic" in note for note in convert(source, calibration=samples).notes)
    assert not any("synthetic" in note for note in convert(source, recipe="compensated").notes)


def test_calibration_brings_the_levels_closer(source, samples):
    def difference(**options):
        model = convert(source, levels=(3, 8), recipe="uniform", **options).model
        return evaluate(model, samples, level=3).levels[0].mean_difference

    assert difference(calibration=samples) <= 1.05 * difference()


def test_a_float_source_becomes_int8_and_nests(float_source, samples, tmp_path):
    result = convert(float_source, tmp_path / "nested.tflite", calibration=samples)
    assert result.source_kind == "float_tflite" and result.nested == 1
    assert compare(result.model, result.int8, samples).bit_exact
    float_classes = compare(result.int8, float_source, samples)
    assert float_classes.agreement > 0.8
    again = convert(float_source, calibration=samples)
    assert again.model.to_bytes() == (tmp_path / "nested.tflite").read_bytes()


def test_a_float_source_needs_calibration(float_source, source):
    with pytest.raises(UsageError, match="needs calibration data") as caught:
        convert(float_source)
    assert "--calibration" in caught.value.hint
    with pytest.raises(FormatError, match="a sample has shape"):
        convert(float_source, calibration=Dataset(np.zeros((4, 8, 8, 1), np.float32)))
    with pytest.raises(FormatError, match="a sample has shape"):
        convert(source, calibration=Dataset(np.zeros((4, 8, 8, 1), np.float32)))


@pytest.mark.keras
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="the keras extra is not installed")
def test_a_keras_source(tmp_path):
    x = np.random.default_rng(0).uniform(0, 1, (32, 8, 8, 1)).astype(np.float32)
    data = Dataset(x)
    result = convert(ROOT / "examples" / "digits.keras", calibration=data)
    assert result.source_kind == "keras" and result.nested >= 2
    assert len(result.model.to_bytes()) <= len(result.int8.to_bytes())
    assert compare(result.model, result.int8, data).bit_exact


def test_a_file_of_some_size_does_not_grow(tmp_path):
    path = tmp_path / "wide.tflite"
    wide_network().save(path)
    for levels in ((6, 8), (4, 6, 8)):
        result = convert(path, levels=levels, recipe="uniform")
        assert len(result.model.to_bytes()) <= path.stat().st_size
        assert not any("larger" in note for note in result.notes)


def test_a_file_that_grows_says_so(source):
    result = convert(source, levels=(2, 4, 6, 8), recipe="uniform")
    grown = len(result.model.to_bytes()) - len(result.int8.to_bytes())
    assert grown > 0 and any(f"{grown:,} bytes larger" in note for note in result.notes)


def test_the_report_is_json(source):
    result = convert(source, recipe="uniform")
    document = json.loads(json.dumps(result.to_dict()))
    assert document["schema_version"] == 1 and document["output"]["path"] is None
    assert [row["level"] for row in document["levels"]] == [4, 6, 8]
    pages = [row["page_bytes"] for row in document["levels"]]
    assert [row["resident_bytes"] for row in document["levels"]] == np.cumsum(pages).tolist()
    assert pages == [page.size for page in result.model.directory.pages]
    assert document["levels"][0]["bits_per_weight"] == 4.0
    assert document["source"]["bytes"] == source.stat().st_size
    assert {item["name"] for item in document["filters"]} == {item.name for item in result.filters}


def test_the_report_has_the_error_of_every_filter_at_every_level(source, samples):
    result = convert(source, recipe="uniform", calibration=samples)
    document = result.to_dict()
    assert document["errors_of"] == result.errors_of == "calibration data"
    for item in document["filters"]:
        assert [row["level"] for row in item["errors"]] == [4, 6, 8]
        first, second, last = (row["error"] for row in item["errors"])
        assert first > second > last == 0
    losses = [item.loss for item in result.filters]
    worst = max(result.filters, key=lambda item: item.loss)
    assert worst.hurts and sum(item.loss for item in result.filters if item.hurts) >= sum(losses) / 2


def test_errors_are_those_of_the_weights_where_nothing_is_run(source, samples):
    result = convert(source, recipe="nestquant")
    assert result.errors_of == "weights" and all(item.loss is None for item in result.filters)
    assert all(item.errors[6] > item.errors[8] == 0 for item in result.filters)
    assert any(item.hurts for item in result.filters)
    assert convert(source).errors_of == "synthetic inputs"
    assert convert(source, recipe="nestquant", calibration=samples).errors_of == "calibration data"


def test_a_flat_filter_has_no_error(source):
    flat = [item for item in convert(source).filters if not item.levels]
    assert flat and all((item.errors, item.loss, item.hurts) == ({}, None, False) for item in flat)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (8, 4)}, "do not increase"),
        ({"levels": ()}, "level"),
        ({"levels": (4, 9)}, "within 1..8"),
        ({"scheme": "best"}, "scheme"),
        ({"rounding": "up"}, "no rounding method 'up'"),
        ({"rounding": "nearest"}, "does not fit the scheme"),
        ({"recipe": "defalt"}, "no recipe 'defalt'"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_options_that_make_no_sense(source, options, message):
    with pytest.raises(UsageError, match=message):
        convert(source, **options)


def test_a_nested_file_is_no_source(source, tmp_path):
    output = tmp_path / "nested.tflite"
    convert(source, output)
    with pytest.raises(UsageError, match="is a nested file already"):
        convert(output)


@pytest.mark.shared
@pytest.mark.parametrize("name", SHARED)
def test_public_models_do_not_grow_and_stay_exact(shared_models, name):
    path = shared_models / f"{name}.tflite"
    result = convert(path, levels=(4, 6, 8))
    assert len(result.model.to_bytes()) <= path.stat().st_size
    assert result.nested > 0 and len(result.filters) >= result.nested
    assert compare(result.model, path, limit=2).bit_exact


@pytest.mark.shared
@pytest.mark.slow
def test_the_full_bit_model_of_resnet_is_the_source(shared_models):
    path = shared_models / "pretrainedResnet_quant.tflite"
    result = compare(convert(path, levels=(4, 6, 8)).model, path, limit=100)
    assert (result.samples, result.identical_samples) == (100, 100)
