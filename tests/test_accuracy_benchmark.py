"""The accuracy benchmark: its figures, its divisions of samples and its tables."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from converters.conversion import convert
from tests.models import network
from tests.shared import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import accuracy
import subjects

from tflnest.dataset import Dataset

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
    np.testing.assert_allclose(accuracy.votes(outputs), [[0, 1, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert accuracy.tied(outputs) == 2 / 3


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
    assert accuracy.common_votes(*pair) == pytest.approx(share)
    assert accuracy.common_votes(*pair[::-1]) == pytest.approx(share)


def test_divergence_of_logits_by_hand():
    source, other = np.array([[0.0, 0.0]]), np.array([[np.log(3.0), 0.0]])
    expected = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert accuracy.score(other, source, None).divergence == pytest.approx(expected)


def test_divergence_of_probabilities_by_hand():
    source, other = np.array([[0.5, 0.5]]), np.array([[0.75, 0.25]])
    assert accuracy.are_probabilities(source)
    expected = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert accuracy.score(other, source, None).divergence == pytest.approx(expected)


def test_a_probability_of_zero_stands_for_half_a_step():
    source, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    divergence = accuracy.score(other, source, None).divergence
    assert divergence == pytest.approx(511 / 513 * np.log(512), rel=1e-3)


def test_a_model_agrees_with_itself_even_where_it_is_undecided():
    outputs = np.random.default_rng(0).integers(0, 3, (50, 4)).astype(float)
    labels = np.random.default_rng(1).integers(0, 4, 50)
    own = accuracy.score(outputs, outputs, labels)
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
        found = accuracy.bits_per_weight(result.model, level)
        assert bits <= found <= 1.02 * bits
        assert found == pytest.approx(result.level_bits[level], rel=0.02)


def test_flat_filters_have_all_their_bits(files):
    result = convert(files / "model.tflite", levels=(4, 8))
    found = accuracy.bits_per_weight(result.model, 4)
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
        chain = row.chains[4]
        budget = {"base_bits": subject.budget(chain) + 1} if row.budget else {}
        data = {"calibration": files / "train.npz"} if row.uses_data else {}
        result = convert(files / "model.tflite", levels=chain, **row.options, **budget, **data)
        assert result.levels == chain, key


def test_budgets(subject):
    assert subject.budget((4, 6, 8)) == pytest.approx(4.1)
    assert subjects.Subject(**{**vars(subject), "budgets": {4: 4.2}}).budget((4, 8)) == 4.2


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
    document = json.loads(program(files, "--rows", "nestquant,dedicated-squant,uniform", "--format", "json"))
    (model,) = document["models"]
    assert (model["samples"], model["draws"], model["engine"]) == (12, 2, "litert")
    assert model["source"]["samples"] == 12 and 0 <= model["source"]["agreement"] <= 1
    rows = {row["row"]: {item["level"]: item for item in row["levels"]} for row in model["rows"]}
    assert list(rows) == ["nestquant", "dedicated-squant", "uniform"]
    assert list(rows["uniform"]) == [8, 6, 5, 4, 3] and 8 not in rows["dedicated-squant"]
    # Nothing in NestQuant depends on data, so one draw is all there is.
    assert [rows["nestquant"][4]["draws"], rows["uniform"][4]["draws"]] == [1, 2]
    for row in ("nestquant", "uniform"):
        assert rows[row][8]["agreement"] == [1.0, 0.0] and rows[row][8]["divergence"] == [0.0, 0.0]
    # The nested and the dedicated file hold the same codes at the same bits.
    for level in (6, 5, 4, 3):
        nested, dedicated = rows["nestquant"][level], rows["dedicated-squant"][level]
        assert nested["agreement"] == dedicated["agreement"]
        assert nested["bits"] == dedicated["bits"]
    assert rows["nestquant"][8]["bits"][0] > 9 > rows["uniform"][8]["bits"][0]


def test_the_tables(files):
    text = program(files, "--rows", "uniform", "--format", "markdown")
    assert text.startswith("## model.tflite\n")
    assert "Noise floor: LiteRT's default kernels and the reference engine" in text
    titles = re.findall(r"^\| (\S.*?) +\| level 8 \|", text, re.MULTILINE)
    assert titles == [title for title, _, _ in accuracy.FIGURES.values()]
    bits = [line for line in text.splitlines() if line.startswith("| bucket, truncate, uniform")][-1]
    assert re.search(r"\| +8\.\d\d \| +6\.\d\d \| +5\.\d\d \| +4\.\d\d \| +3\.\d\d \| +[\d.]+ \|$", bits)
    plain = program(files, "--rows", "uniform", "--choose", "--levels", "6,4")
    assert "12 calibration samples left over" in plain and "|" not in plain
    assert re.search(r"^bucket, truncate, uniform +- +[\d.± ]+ +- +[\d.± ]+ +-$", plain, re.MULTILINE)


def test_what_it_does_not_know_it_says():
    from click.testing import CliRunner

    for arguments, said in (
        (["--rows", "magic"], "there is no row 'magic'; there are nearest, nestquant"),
        (["--levels", "7"], "there is no level '7'; there are 8, 6, 5, 4, 3"),
        (["--models", "gpt"], "there is no model 'gpt'; there are resnet8"),
        (["--model", __file__], "--model, --calibration-data and --data go together"),
    ):
        result = CliRunner().invoke(accuracy.command, arguments)
        assert result.exit_code == 2 and said in result.output
