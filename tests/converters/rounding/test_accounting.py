"""What nesting costs to store and to switch, from the bytes of real files, against two dedicated models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.conversion import Conversion, convert
from tests.models import NetworkBuilder, operators_of
from tflnest.errors import UsageError
from tflnest.evaluation import evaluate
from tflnest.materialization import materialize
from tflnest.model import Model

#: Full-bit and part-bit width; savings in percent over storing two models (NestQuant, bucket), and over switching
#: between them by paging one in and the other out (NestQuant, bucket).
PAIRS = [
    (8, 7, 40.0, 46.7, 86.7, 93.3),
    (8, 6, 35.7, 42.9, 78.6, 85.7),
    (8, 5, 30.8, 38.5, 69.2, 76.9),
    (8, 4, 25.0, 33.3, 58.3, 66.7),
    (8, 3, 18.2, 27.3, 45.5, 54.5),
    (6, 5, 36.4, 45.5, 81.8, 90.9),
    (6, 4, 30.0, 40.0, 70.0, 80.0),
    (6, 3, 22.2, 33.3, 55.6, 66.7),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 model of 69,632 weights: conv 3x3 -> conv 1x1 -> fully connected."""
    net = NetworkBuilder(3)
    y = net.convolution(net.start((1, 4, 4, 64)), 64, name="first")
    y = net.convolution(y, 64, kernel=1, name="second", stride=4)
    y = net.dense(net.flatten(y), 448, name="third")
    path: Path = tmp_path_factory.mktemp("accounting") / "int8.tflite"
    path.write_bytes(net.finish(y).to_bytes())
    return path


def plane_bytes(model: Model) -> int:
    """Bytes of all planes in the file."""
    return sum(plane.size for item in operators_of(model) for plane in item.planes)


def weights(model: Model) -> int:
    return sum(item.weights for item in operators_of(model))


def dedicated(source: Path, level: int) -> Conversion:
    return convert(source, recipe="nestquant", levels=(level,))


def percent(share: float) -> float:
    """A share in percent, to a tenth."""
    return round(100 * share, 1)


@pytest.mark.parametrize(
    ("full", "part", "storage", "bucket_storage", "switch", "bucket_switch"),
    PAIRS,
    ids=[f"{full}/{part}" for full, part, *_ in PAIRS],
)
def test_savings_over_two_dedicated_models(
    source, full, part, storage, bucket_storage, switch, bucket_switch
):
    nestquant = convert(source, recipe="nestquant", levels=(part, full)).model
    bucket = convert(source, recipe="nestquant", levels=(part, full), scheme="bucket").model
    two = sum(plane_bytes(dedicated(source, level).model) for level in (part, full))
    count = weights(nestquant)
    assert count == 69_632
    assert 8 * plane_bytes(nestquant) == (full + 1) * count
    assert 8 * plane_bytes(bucket) == full * count
    assert 8 * two == (full + part) * count
    assert percent(1 - plane_bytes(nestquant) / two) == storage
    assert percent(1 - plane_bytes(bucket) / two) == bucket_storage
    for model, bits, saved in (
        (nestquant, full - part + 1, switch),
        (bucket, full - part, bucket_switch),
    ):
        assert model.directory is not None
        # Biases are the source's at both levels and are stored once: the page is the lower-bit plane alone.
        page = model.directory.pages[1].size
        assert 8 * page == bits * count
        assert percent(1 - page / two) == saved


def test_savings_of_whole_files(source):
    """Everything counts: requantization, biases, operators, directory. NestQuant 8/6 still saves about a third."""
    files = [dedicated(source, level).model for level in (6, 8)]
    nested = convert(source, recipe="nestquant").model
    overhead = [len(model.to_bytes()) - plane_bytes(model) for model in (*files, nested)]
    assert all(0 < item < 16_000 for item in overhead)
    assert max(overhead) - min(overhead) < 1_000
    two = sum(len(model.to_bytes()) for model in files)
    assert 1 - len(nested.to_bytes()) / two == pytest.approx(0.357, abs=0.03)
    assert nested.directory is not None
    assert 1 - nested.directory.pages[1].size / two == pytest.approx(0.786, abs=0.03)


def test_nestquant_is_larger_than_the_int8_model_and_says_so(source):
    result = convert(source, recipe="nestquant")
    assert result.level_bits == {6: 6.0, 8: 9.0}
    assert len(result.model.to_bytes()) > len(result.int8.to_bytes())
    assert any("larger than the int8 file" in note for note in result.notes)


@pytest.mark.parametrize("rounding", ["squant", "nearest"])
@pytest.mark.parametrize("level", [7, 6, 4, 3])
def test_a_dedicated_model_is_one_plane_of_its_bits(source, tmp_path, rounding, level):
    target = tmp_path / "dedicated.tflite"
    result = convert(
        source, target, recipe="nestquant", levels=(level,), scheme="compensated", rounding=rounding
    )
    assert result.level_bits == {level: float(level)}
    assert {item.rounding for item in result.filters} == {rounding}
    model = Model.load(target)
    assert model.directory is not None
    assert [page.level for page in model.directory.pages] == [level]
    assert all(len(item.planes) == 1 for item in operators_of(model))
    assert 8 * plane_bytes(model) == level * weights(model)
    x = np.random.default_rng(0).normal(size=(4, 4, 4, 64)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    evaluation = evaluate(target, tmp_path / "data.npz", engine="reference")
    assert [row.level for row in evaluation.levels] == [level]
    assert evaluation.levels[0].resident_bytes == model.directory.pages[0].size


@pytest.mark.parametrize("rounding", ["squant", "nearest"])
def test_a_dedicated_model_equals_the_part_bit_level_of_the_nested_one(source, rounding):
    nested = convert(source, recipe="nestquant", levels=(5, 8), rounding=rounding).model
    alone = convert(source, recipe="nestquant", levels=(5,), rounding=rounding).model
    for item, other in zip(operators_of(nested), operators_of(alone), strict=True):
        for part, twin in ((item.planes[0], other.planes[0]), (item.biases[0], other.biases[0])):
            ours, theirs = (
                place.values(model.graph.main.tensors[place.tensor].data, "u1")
                for place, model in ((part, nested), (twin, alone))
            )
            np.testing.assert_array_equal(ours, theirs)


def test_the_full_bit_level_of_nestquant_is_the_source(source):
    graph = Model.load(source).graph.main
    for chain in ((6, 8), (4, 8), (4, 6, 8)):
        nested = convert(source, recipe="nestquant", levels=chain).model
        full = materialize(nested, 8).graph.main
        originals = [item for item in graph.tensors if item.type == "INT8" and item.is_constant]
        restored = [item for item in full.tensors if item.type == "INT8" and item.is_constant]
        assert len(originals) == len(restored) == 3
        for original, item in zip(originals, restored, strict=True):
            np.testing.assert_array_equal(item.data, original.data)


def test_the_presets_differ_in_their_rounding_alone(source):
    nestquant, compensated = (convert(source, recipe=name).recipe for name in ("nestquant", "compensated"))
    assert (nestquant.rounding, compensated.rounding) == ("squant", "nearest")
    assert (nestquant.levels, nestquant.scheme, nestquant.bias) == (
        compensated.levels,
        compensated.scheme,
        compensated.bias,
    )


def test_a_method_of_the_other_scheme_is_refused(source):
    with pytest.raises(UsageError, match="rounding 'squant' does not fit the scheme bucket") as caught:
        convert(source, rounding="squant")
    assert "hierarchical" in caught.value.hint
    with pytest.raises(
        UsageError, match="rounding 'hierarchical' does not fit the scheme compensated"
    ) as caught:
        convert(source, scheme="compensated", rounding="hierarchical")
    assert "squant" in caught.value.hint
