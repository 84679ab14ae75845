"""INT4 filters: which are exact, what the others become, and that stock runtimes compute what the report says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from converters.exporting.int4 import Form, exact_codes, export_int4, nearest_codes
from tests.exactness import compare, random_inputs
from tests.models import NetworkBuilder, everything, nested, network, small_network
from tests.oracle import MicroOracle, ReferenceOracle, require_wheel
from tests.shared import int8_paths
from tflnest.dataset import Dataset
from tflnest.errors import UnsupportedError, UsageError
from tflnest.int4 import unpack
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model

#: Public models; the large one takes its time.
PUBLIC = [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stat().st_size > 1 << 20 else ())
    for path in int8_paths()
]


@pytest.fixture(scope="module")
def oracle() -> Iterator[MicroOracle]:
    """Stock TensorFlow Lite Micro, started once."""
    require_wheel()
    with MicroOracle() as engine:
        yield engine


def noisy(seed: int = 0) -> Model:
    """Filters over the whole range: nothing of 4 bits is exact."""
    net = NetworkBuilder(seed)
    y = net.convolution(net.start(), 16, name="stem")
    y = net.depthwise(y, name="depthwise")
    y = net.convolution(y, 12, kernel=1, name="point")
    return net.finish(net.dense(net.flatten(y), 10, name="head"))


def values(made, place: int) -> np.ndarray:
    """The weights of an exported filter in real numbers, as the file has them."""
    graph = made.model.graph.main
    tensor = graph.tensors[graph.operators[place].inputs[1]]
    assert tensor.type == "INT4"
    codes = unpack(tensor.data, tensor.size).reshape(tensor.shape)
    axis = tensor.quantization.axis
    scale = tensor.quantization.scale
    shape = [-1 if number == axis and scale.size > 1 else 1 for number in range(len(tensor.shape))]
    return codes * scale.reshape(shape)


@pytest.mark.parametrize(
    ("bits", "scheme", "exact"),
    [
        (1, "bucket", True),
        (2, "bucket", True),
        (3, "bucket", True),
        (4, "bucket", False),
        (3, "compensated", True),
        (4, "compensated", True),
    ],
)
def test_which_levels_are_exact(bits, scheme, exact):
    source = nested(noisy(), everything((bits, 8), scheme))
    made = export_int4(source)
    assert {item.form for item in made.filters} == {Form.EXACT if exact else Form.ROUNDED}
    assert {item.bits for item in made.filters} == {bits}
    level = materialize(source, bits).graph.main
    for item in made.filters:
        tensor = level.tensors[level.operators[item.operator].inputs[1]]
        shape = np.ones(len(tensor.shape), int)
        if tensor.quantization.scale.size > 1:
            shape[tensor.quantization.axis] = -1
        expected = tensor.data * tensor.quantization.scale.reshape(shape).astype(np.float64)
        if exact:
            np.testing.assert_allclose(values(made, item.operator), expected, rtol=1e-6)
            assert item.weight_error == item.level_error
            assert item.output_difference < (0.5 if item.operator == 0 else 3.0)
        else:
            assert item.weight_error < 1.1 * item.level_error


def test_a_filter_of_4_bits_whose_outer_buckets_are_empty_is_exact():
    codes = np.arange(-4, 4).repeat(4).reshape(8, 1, 1, 4)
    weights = (codes * 16 + 8).astype(np.int8)
    found = exact_codes(weights, 0, True)
    assert found is not None
    np.testing.assert_array_equal(found.codes * found.step.reshape(-1, 1, 1, 1), weights)
    assert abs(found.codes).max() <= 7
    assert exact_codes(np.array([[120, 8]], np.int8), 0, True) is None
    assert exact_codes(np.zeros((2, 3), np.int8), 0, False).step.tolist() == [1.0]


def test_the_nearest_codes_are_the_best_of_all_for_their_scale():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 3, 3, 7)) * 40
    for axis, per_channel in ((0, True), (3, True), (0, False)):
        found = nearest_codes(rows, axis, per_channel)
        shape = [-1 if number == axis and per_channel else 1 for number in range(4)]
        step = found.step.reshape(shape)
        error = np.abs(found.codes * step - rows)
        assert found.codes.min() >= -8 and found.codes.max() <= 7
        for delta in (-1, 1):
            other = np.clip(found.codes + delta, -8, 7)
            assert (error <= np.abs(other * step - rows) + 1e-9).all()
        plain = np.clip(np.rint(rows / 16), -8, 7) * 16
        assert (error**2).sum() < ((plain - rows) ** 2).sum()


@pytest.mark.parametrize(
    ("levels", "scheme"), [((4, 8), "bucket"), ((3, 8), "bucket"), ((4, 8), "compensated")]
)
def test_stock_tflm_computes_the_twin(oracle, levels, scheme):
    made = export_int4(nested(network(), everything(levels, scheme)))
    content = made.model.to_bytes()
    result = compare(oracle, content, random_inputs(content, 4), Interpreter(model=made.twin))
    assert (result.mismatches, result.operators) == (0, 6)


def test_the_interpreter_runs_the_file_as_its_twin():
    made = export_int4(nested(network(), everything((4, 8))))
    x = np.concatenate([row[0] for row in random_inputs(made.model.to_bytes(), 3)])
    expected = Interpreter(model=made.twin).run(x)
    for engine in ("reference", "native"):
        np.testing.assert_array_equal(Interpreter(model=made.model, engine=engine).run(x), expected)


def test_stock_litert_computes_the_twin_but_for_fully_connected():
    net = NetworkBuilder(2)
    y = net.depthwise(net.convolution(net.start(), 16), name="depthwise")
    made = export_int4(nested(net.finish(net.convolution(y, 8, kernel=1)), everything((4, 8))))
    content = made.model.to_bytes()
    with ReferenceOracle() as reference:
        result = compare(reference, content, random_inputs(content, 3), Interpreter(model=made.twin))
    assert result.mismatches == 0


@pytest.mark.parametrize("path", PUBLIC)
def test_public_models_run_in_stock_tflm(path, oracle):
    made = export_int4(nested(Model.load(path), everything((4, 8))))
    content = made.model.to_bytes()
    result = compare(oracle, content, random_inputs(content, 1), Interpreter(model=made.twin))
    assert result.mismatches == 0
    assert made.bytes < 0.96 * made.int8_bytes


def test_means_of_rounded_filters_are_those_of_the_level():
    source = nested(noisy(4), everything((4, 8)))
    rng = np.random.default_rng(1)
    x = rng.normal(2, 1, (64, 8, 8, 3)).astype(np.float32)
    data = Dataset(x)
    made = export_int4(source, data=data)
    inputs = data.inputs_for(source.graph.main.input_tensors()[0])
    first = Interpreter(model=source, level=4).run(inputs).astype(float)
    means = first.mean(axis=0)
    own = Interpreter(model=made.twin).run(inputs).astype(float)
    blind = Interpreter(model=export_int4(source).twin).run(inputs).astype(float)
    assert made.measured_on == "data"
    assert np.abs(own.mean(axis=0) - means).max() < np.abs(first - means).std()
    assert np.abs(own - first).mean() < np.abs(blind - first).mean()


def test_filters_of_more_bits_and_dense_layers_with_many_scales_stay_int8():
    net = NetworkBuilder()
    y = net.convolution(net.start(), 16, name="stem")
    source = net.finish(net.dense(net.flatten(y), 10, name="head", per_channel=True))
    recipe = everything((4, 6, 8))
    made = export_int4(nested(source, recipe))
    assert [item.form for item in made.filters] == [Form.ROUNDED, Form.INT8]
    assert "one scale per channel" in made.filters[1].reason
    with pytest.raises(UnsupportedError, match="no filter of level 6 can become INT4: 6 bits at this level"):
        export_int4(nested(small_network(), recipe), 6)


def test_a_shared_filter_is_stored_once():
    net = NetworkBuilder()
    x = net.start((1, 4, 4, 8))
    weights = net.filter((8, 3, 3, 8), name="shared")
    y = net.convolution(x, 8, weights=weights, name="a")
    made = export_int4(
        nested(net.finish(net.convolution(y, 8, weights=weights, name="b")), everything((4, 8)))
    )
    operators = made.model.graph.main.operators
    assert operators[0].inputs[1] == operators[1].inputs[1]
    assert operators[0].inputs[2] != operators[1].inputs[2]


def test_the_same_file_gives_the_same_bytes_and_half_the_weights():
    source = nested(noisy(), everything((4, 8)))
    made = export_int4(source)
    assert export_int4(source).model.to_bytes() == made.model.to_bytes()
    weights = sum(
        source_tensor.size
        for item in made.filters
        for source_tensor in [
            made.model.graph.main.tensors[made.model.graph.main.operators[item.operator].inputs[1]]
        ]
    )
    assert made.int8_bytes - made.bytes > 0.45 * weights
    assert len(made.twin.to_bytes()) > made.bytes


def test_plain_models_and_wrong_levels():
    with pytest.raises(UsageError, match="not nested"):
        export_int4(network())
    with pytest.raises(UsageError, match="the model has no level 5"):
        export_int4(nested(network(), everything((4, 8))), 5)
