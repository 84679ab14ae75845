"""The accuracy benchmark: its figures, its divisions of samples and its tables."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from converters.conversion import convert
from converters.recipe import BaseWidths, load_recipe
from tests.models import network, random_inputs
from tests.shared import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import accuracy
import dedicated
import scores
import subjects

from tflnest.dataset import Dataset
from tflnest.interpreter import Interpreter
from tflnest.model import Model

SAMPLES = 48


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accuracy")
    network().save(folder / "model.tflite")
    for seed, name in enumerate(("train", "test")):
        x = np.random.default_rng(seed).uniform(-5, 5, (SAMPLES, 8, 8, 3)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, y=np.arange(SAMPLES) % 10)
    return folder


@pytest.fixture
def subject(files):
    return subjects.given(files / "model.tflite", files / "train.npz", files / "test.npz", 20)


# ---------------------------------------------------------------------------------------------- figures


def test_a_vote_is_split_among_the_highest():
    outputs = np.array([[1.0, 3, 2], [5, 5, 0], [4, 4, 4]])
    np.testing.assert_allclose(scores.votes(outputs), [[0, 1, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert scores.is_tied(outputs).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ([5, 5, 0], [5, 5, 0], 1.0),  # the same tie is agreement, whatever argmax says
        ([5, 5, 0], [0, 9, 0], 0.5),
        ([0, 9, 0], [5, 5, 0], 0.5),
        ([5, 5, 0], [5, 0, 5], 0.5),
        ([5, 5, 5], [5, 5, 0], 2 / 3),
        ([9, 0, 0], [0, 9, 0], 0.0),
    ],
)
def test_common_votes(first, second, share):
    pair = np.array([first], float), np.array([second], float)
    assert scores.common_votes(*pair) == pytest.approx(share)
    assert scores.common_votes(*pair[::-1]) == pytest.approx(share)


def test_divergence_of_logits_by_hand():
    source, other = np.array([[0.0, 0.0]]), np.array([[np.log(3.0), 0.0]])
    expected = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert scores.score(other, source, None).divergence == pytest.approx(expected)


def test_divergence_of_probabilities_by_hand():
    source, other = np.array([[0.5, 0.5]]), np.array([[0.75, 0.25]])
    assert scores.are_probabilities(source)
    expected = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert scores.score(other, source, None).divergence == pytest.approx(expected)


def test_a_probability_of_zero_stands_for_half_a_step():
    source, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    divergence = scores.score(other, source, None).divergence
    assert divergence == pytest.approx(511 / 513 * np.log(512), rel=1e-3)


def test_a_model_agrees_with_itself_even_where_it_is_undecided():
    outputs = np.random.default_rng(0).integers(0, 3, (50, 4)).astype(float)
    labels = np.random.default_rng(1).integers(0, 4, 50)
    own = scores.score(outputs, outputs, labels)
    assert (own.agreement, own.split_agreement, own.divergence) == (1.0, 1.0, 0.0)
    assert own.top1 == np.mean(outputs.argmax(axis=1) == labels)
    by_hand = [
        (row[label] == row.max()) / np.sum(row == row.max())
        for row, label in zip(outputs, labels, strict=True)
    ]
    assert own.split_top1 == pytest.approx(np.mean(by_hand))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"recipe": "uniform"}, {4: 4, 6: 6, 8: 8}),
        ({"recipe": "compensated"}, {4: 4, 6: 7, 8: 10}),
    ],
)
def test_bits_are_those_of_the_file(files, options, expected):
    result = convert(files / "model.tflite", levels=(4, 6, 8), **options)
    for level, bits in expected.items():
        # Planes are padded to whole groups of codes, so a small filter takes a little more.
        found = scores.bits_per_weight(result.model, level)
        assert bits <= found <= 1.02 * bits
        assert found == pytest.approx(result.level_bits[level], rel=0.02)


def test_flat_filters_have_all_their_bits(files):
    result = convert(files / "model.tflite", levels=(4, 8))
    found = scores.bits_per_weight(result.model, 4)
    flat = sum(item.weights for item in result.filters if not item.levels)
    assert flat and found == pytest.approx(result.level_bits[4], rel=0.02) and found > 4.05


# ---------------------------------------------------------------------------------------------- samples


def test_measured_samples_are_never_drawn_for_calibration():
    pool = subjects.ArraySet(Dataset(np.arange(300.0).reshape(300, 1)))
    subject = subjects.divided("name", ROOT, pool, None, calibration=80, reserved=100)
    assert len(subject.pool_indices) == 100 and len(subject.measured_indices) == 200
    assert not set(subject.pool_indices) & set(subject.measured_indices)
    again = subjects.divided("name", ROOT, pool, None, calibration=80, reserved=100)
    np.testing.assert_array_equal(subject.measured_indices, again.measured_indices)


@pytest.mark.parametrize("choose", [False, True])
def test_draws_differ_and_leave_the_measured_samples_alone(subject, choose):
    bench = accuracy.Bench(subject, 3, None, "litert", choose)
    drawn = [bench.calibration(draw).x for draw in range(3)]
    assert all(len(x) == 20 for x in drawn)
    assert not np.array_equal(drawn[0], drawn[1])
    for draw, x in enumerate(drawn):
        measured = bench.measured(draw)[0].x
        assert len(measured) == (SAMPLES - 20 if choose else SAMPLES)
        assert not {sample.tobytes() for sample in x} & {sample.tobytes() for sample in measured}


def test_images_are_decoded_and_prepared(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    import io

    blobs = []
    for value in (0, 128, 255):
        stream = io.BytesIO()
        image_module.new("RGB", (16, 16), (value, value, value)).save(stream, "PNG")
        blobs.append(stream.getvalue())
    path = tmp_path / "images.npz"
    offsets = np.cumsum([0, *map(len, blobs)]).astype(np.int64)
    blob = np.frombuffer(b"".join(blobs), np.uint8)
    np.savez(path, blob=blob, offsets=offsets, labels=np.array([7, 8, 9], np.uint16))
    data = subjects.ImageSet(path, subjects.pixels).take(np.array([2, 0]))
    assert data.x.shape == (2, 16, 16, 3) and data.x.dtype == np.float32
    assert (data.x[0] == 255).all() and (data.x[1] == 0).all()
    assert data.labels().tolist() == [9, 7]
    assert subjects.ImageSet(path, subjects.pixels, labelled=False).take(np.array([0])).y is None
    planes = subjects.ImageSet(path, subjects.normalized_planes).take(np.array([0, 2])).x
    assert planes.shape == (2, 3, 16, 16) and planes.dtype == np.float32
    np.testing.assert_allclose(planes[0, :, 0, 0], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], 1e-5)
    np.testing.assert_allclose(planes[1, :, 0, 0], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], 1e-5)
    small = subjects.ImageSet(path, subjects.small_unit).take(np.array([0, 2])).x
    assert small.shape == (2, 96, 96, 3) and (small.min(), small.max()) == (0.0, 1.0)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2", "vww_96"])
def test_the_public_samples_fit_the_public_models(shared_models, shared_data, name):
    """In shape and, by the check that `convert` makes, in scale."""
    pytest.importorskip("PIL")
    from converters.calibration_checks import check_calibration
    from tflnest.model import Model
    from tflnest.runner import single_input

    subject = subjects.SUBJECTS[name]()
    data = subject.pool.take(subject.pool_indices[:16])
    tensor = single_input(Model.load(subject.model))
    assert data.inputs_for(tensor).shape[0] == 16
    assert check_calibration(data, tensor) == []


# ---------------------------------------------------------------------------------------------- rows


def test_every_row_is_a_set_of_options_that_converts(files, subject):
    for key, row in accuracy.ROWS.items():
        if row.dedicated:
            continue
        chain = row.chains[4]
        budget = {"base_bits": subject.budget(chain) + 1} if row.budget else {}
        data = {"calibration": files / "train.npz"} if row.uses_data else {}
        result = convert(files / "model.tflite", levels=chain, **row.options, **budget, **data)
        assert result.levels == chain, key


def test_agreement_where_the_source_is_decided():
    source = np.array([[9.0, 1, 1], [5, 5, 0], [0, 7, 2], [3, 3, 3]])
    other = np.array([[9.0, 1, 1], [0, 5, 0], [7, 0, 2], [0, 0, 3]])
    result = scores.score(other, source, None)
    assert (result.agreement, result.unique_agreement) == (0.25, 0.5)
    assert scores.score(source[1:2], source[1:2], None).unique_agreement is None
    settled = np.array([True, False, True, False])
    assert scores.score(other, source, None, settled).settled_agreement == 0.5
    assert result.settled_agreement is None
    assert scores.score(other, source, None, ~settled).settled_agreement == 0.0
    assert scores.score(other, source, None, np.zeros(4, bool)).settled_agreement is None


@pytest.mark.parametrize("method", dedicated.METHODS)
def test_dedicated_models_have_a_grid_of_their_own(method):
    source = network()
    x = random_inputs(source, 20)
    expected = Interpreter(model=source).run(x).astype(float)
    differences = []
    for bits in (3, 5, 7):
        model = dedicated.dedicated(source, bits, method)
        limit = 2 ** (bits - 1) - 1
        for own, old in zip(filters_of(model), filters_of(source), strict=True):
            assert np.abs(own.data).max() == limit
            others = tuple(axis for axis in range(old.data.ndim) if axis != old.quantization.axis)
            largest = np.abs(old.data.astype(float)).max(
                axis=others if old.quantization.scale.size > 1 else None
            )
            ratio = own.quantization.scale / old.quantization.scale
            np.testing.assert_allclose(ratio, largest / limit, rtol=1e-5)
        differences.append(np.abs(Interpreter(model=model).run(x) - expected).mean())
    assert differences[0] > differences[1] > differences[2]


def test_a_dedicated_model_of_real_weights_by_hand():
    source = network()
    stem = filters_of(source)[0]
    real = np.random.default_rng(0).normal(size=stem.shape).astype(np.float32)
    model = dedicated.dedicated(source, 4, "nearest", {stem.name: real})
    largest = np.abs(real).max(axis=(1, 2, 3))
    expected = np.rint(real / (largest / 7)[:, None, None, None])
    np.testing.assert_allclose(filters_of(model)[0].quantization.scale, largest / 7, rtol=1e-6)
    np.testing.assert_array_equal(filters_of(model)[0].data, expected)
    old, new = (biases_of(item)[0] for item in (source, model))
    ratio = filters_of(model)[0].quantization.scale / stem.quantization.scale
    np.testing.assert_allclose(new.data, old.data / ratio, atol=0.51)


def filters_of(model):
    graph = model.graph.main
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [graph.tensors[item.inputs[1]] for item in graph.operators if item.name in kinds]


def biases_of(model):
    graph = model.graph.main
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [graph.tensors[item.inputs[2]] for item in graph.operators if item.name in kinds]


def test_budgets(subject):
    assert subject.budget((4, 6, 8)) == pytest.approx(4.1)
    assert subjects.Subject(**{**vars(subject), "budgets": {4: 4.2}}).budget((4, 8)) == 4.2


@pytest.fixture
def int8_digits(tmp_path):
    """The example's network as an int8 source, and its test samples."""
    subject = subjects.SUBJECTS["digits"]()
    float_model = ROOT / "tests" / "data" / "digits_float.tflite"
    convert(float_model, calibration=subject.pool.take(np.arange(64))).int8.save(tmp_path / "digits.tflite")
    return tmp_path / "digits.tflite", subject.measured.take(np.arange(300))


@pytest.fixture
def public(shared_models, shared_data, request):
    """A public model, and samples of its kind."""
    pytest.importorskip("PIL")
    subject = subjects.SUBJECTS[request.param]()
    return subject.model, subject.measured.take(subject.measured_indices[:200])


def check_widths(path, data, level):
    """Mixed by synthetic inputs against uniform, at no more bits."""
    divergences, bits = [], []
    source = accuracy.run(Model.load(path), None, "litert", data)
    uniform = replace(load_recipe("default"), base_widths=BaseWidths.UNIFORM)
    for recipe in ("default", uniform):
        model = convert(path, levels=(level, 8), recipe=recipe).model
        outputs = accuracy.run(model, level, "litert", data)
        divergences.append(scores.score(outputs, source, None).divergence)
        bits.append(scores.bits_per_weight(model, level))
    assert bits[0] <= bits[1] * 1.001
    return divergences


def test_widths_without_data_beat_uniform_ones_on_the_example(int8_digits):
    mixed, uniform = check_widths(*int8_digits, 3)
    assert mixed < 0.5 * uniform


@pytest.mark.shared
@pytest.mark.parametrize("level", [4, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "public", ["resnet8", "vww_96", pytest.param("mobilenet_v2", marks=pytest.mark.slow)], indirect=True
)
def test_widths_without_data_beat_uniform_ones(public, level):
    mixed, uniform = check_widths(*public, level)
    assert mixed < 0.9 * uniform


# ---------------------------------------------------------------------------------------------- the program


def program(files, *arguments):
    command = [
        *("benchmarks/accuracy.py", "--model", files / "model.tflite", "--draws", 2, "--images", 12),
        *("--calibration-data", files / "train.npz", "--data", files / "test.npz", "--calibration", 24),
        *arguments,
    ]
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_document(files):
    rows = "nestquant,squant-alone,dedicated-squant,uniform"
    document = json.loads(program(files, "--rows", rows, "--format", "json"))
    (model,) = document["models"]
    assert (model["samples"], model["draws"], model["engine"]) == (12, 2, "litert")
    floor = model["source"]["floor"]
    assert 0 <= model["source"]["settled"] <= 12
    assert floor["samples"] == 12 and 0 <= floor["agreement"] <= 1
    rows = {row["row"]: {item["level"]: item for item in row["levels"]} for row in model["rows"]}
    assert list(rows) == ["nestquant", "squant-alone", "dedicated-squant", "uniform"]
    assert list(rows["uniform"]) == [8, 6, 5, 4, 3] and 8 not in rows["squant-alone"]
    assert rows["dedicated-squant"][5]["bits"] == [5.0, 0.0]
    # Nothing in NestQuant depends on data, so one draw is all there is.
    assert [rows["nestquant"][4]["draws"], rows["uniform"][4]["draws"]] == [1, 2]
    for row in ("nestquant", "uniform"):
        assert rows[row][8]["agreement"] == [1.0, 0.0] and rows[row][8]["divergence"] == [0.0, 0.0]
    # The nested and the dedicated file hold the same codes at the same bits.
    for level in (6, 5, 4, 3):
        nested, dedicated = rows["nestquant"][level], rows["squant-alone"][level]
        assert nested["agreement"] == dedicated["agreement"]
        assert nested["bits"] == dedicated["bits"]
    assert rows["nestquant"][8]["bits"][0] > 9 > rows["uniform"][8]["bits"][0]


def test_the_tables(files):
    text = program(files, "--rows", "uniform", "--format", "markdown")
    assert text.startswith("## model.tflite\n")
    assert "Noise floor: LiteRT's default kernels and the reference engine" in text
    titles = re.findall(r"^\| (\S.*?) +\| level 8 \|", text, re.MULTILINE)
    known = [title for title, _, _ in accuracy.FIGURES.values()]
    assert [title for title in known if title in titles] == titles
    assert {title for title in known if "unique" not in title and "settled" not in title} <= set(titles)
    assert re.search(r"^Settled samples, .*: \d+ of 12\.$", text, re.MULTILINE)
    assert len(re.findall(r"^\| source +\|", text, re.MULTILINE)) == 2  # top-1 and bits
    bits = [line for line in text.splitlines() if line.startswith("| ours, uniform widths")][-1]
    assert re.search(r"\| +8\.\d\d \| +6\.\d\d \| +5\.\d\d \| +4\.\d\d \| +3\.\d\d \| +[\d.]+ \|$", bits)
    plain = program(files, "--rows", "uniform", "--choose", "--levels", "6,4")
    assert "12 calibration samples left over" in plain and "|" not in plain
    assert re.search(r"^ours, uniform widths, all nested +- +[\d.± ]+ +- +[\d.± ]+ +-$", plain, re.MULTILINE)


def test_the_ablation(files, monkeypatch):
    from click.testing import CliRunner

    few = {key: accuracy.ABLATION[key] for key in ("bare", "bias", "joint-flat")}
    monkeypatch.setattr(accuracy, "ABLATION", few)
    paths = ["--model", files / "model.tflite", "--calibration-data", files / "train.npz"]
    arguments = [
        "--ablation",
        *paths,
        "--data",
        files / "test.npz",
        "--levels=3",
        "--draws=1",
        "--format=json",
    ]
    result = CliRunner().invoke(accuracy.command, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    rows = {row["row"]: row["levels"] for row in json.loads(result.stdout)["models"][0]["rows"]}
    assert list(rows) == list(few)
    assert [item["level"] for item in rows["bare"]] == [3]
    figures = [tuple(levels[0]["divergence"]) for levels in rows.values()]
    assert len(set(figures)) == len(few)


def test_the_quick_form():
    command = [
        *(sys.executable, "-m", "benchmarks.accuracy", "--quick", "--models", "digits"),
        "--format=json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (model,) = json.loads(done.stdout)["models"]
    assert (model["draws"], model["samples"]) == (accuracy.QUICK_DRAWS, 500)
    rows = {row["row"]: {item["level"]: item for item in row["levels"]} for row in model["rows"]}
    assert list(rows) == [
        key for key in accuracy.QUICK if key not in accuracy.WITHOUT_DATA
    ]  # a float source needs data
    for key in ("mixed", "base"):
        assert rows[key][4]["agreement"][0] > rows["nestquant"][4]["agreement"][0]
        assert rows[key][4]["bits"][0] <= 4.13


def test_what_it_does_not_know_it_says():
    from click.testing import CliRunner

    for arguments, said in (
        (["--rows", "magic"], "there is no row 'magic'; there are nestquant, dedicated-nearest"),
        (["--levels", "7"], "there is no level '7'; there are 8, 6, 5, 4, 3"),
        (["--models", "gpt"], "there is no model 'gpt'; there are resnet8"),
        (["--rows", "mixed", "--ablation"], "--rows and --ablation both choose the rows"),
        (["--model", __file__], "--model, --calibration-data and --data go together"),
    ):
        result = CliRunner().invoke(accuracy.command, arguments)
        assert result.exit_code == 2 and said in result.output


def test_the_commands_of_the_documentation_are_understood():
    text = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"python -m benchmarks\.accuracy ([^`\n]+)", text)
    known = {option for item in accuracy.command.params for option in item.opts}
    assert len(commands) >= 4
    for line in commands:
        words = line.split()
        assert {word for word in words if word.startswith("--")} <= known, line
        if "--rows" in words:
            assert set(words[words.index("--rows") + 1].split(",")) <= set(accuracy.ROWS)
        if "--models" in words and words[words.index("--models") + 1] != "MODEL":
            assert set(words[words.index("--models") + 1].split(",")) <= set(subjects.SUBJECTS)
