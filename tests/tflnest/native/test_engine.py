"""The native engine gives the bits of the reference engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.exactness import random_inputs
from tests.models import every_layout, everything, nested, network
from tests.operator_sweep import CASES, draw
from tests.shared import int8_paths
from tests.single_operator import GraphBuilder
from tflnest.errors import TflnestError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.pages import FilePages, PageNotResidentError

SEEDS = 6
SLOW_SEEDS = 60

CHAINS = (((4, 6, 8), "bucket"), ((3, 5, 8), "bucket"), ((2, 4, 6, 8), "compensated"))


def outputs_of(interpreter: Interpreter, row: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Every output of every operator."""
    graph = interpreter.model.graph.main
    for index, value in zip(graph.inputs, row, strict=True):
        interpreter.set_tensor(index, value)
    interpreter.invoke()
    return [interpreter.get_tensor(index) for operator in graph.operators for index in operator.outputs]


def assert_same(
    model: Model, rows: list[list[NDArray[Any]]], same_words: bool = True, **options: Any
) -> Interpreter:
    """Both engines give the same for every operator, or refuse the model alike."""
    results, engines = [], []
    for engine in ("reference", "native"):
        interpreter = Interpreter(model=model, engine=engine, **options)
        engines.append(interpreter)
        try:
            interpreter.allocate_tensors()
            results.append([outputs_of(interpreter, row) for row in rows])
        except TflnestError as error:
            results.append(f"{type(error).__name__}: {error}" if same_words else type(error).__name__)
    reference, native = results
    if isinstance(reference, str) or isinstance(native, str):
        assert reference == native
    else:
        labels = [operator.label for operator in model.graph.main.operators for _ in operator.outputs]
        for expected, actual in zip(reference, native, strict=True):
            for label, first, second in zip(labels, expected, actual, strict=True):
                assert (first.dtype, first.shape) == (second.dtype, second.shape), label
                np.testing.assert_array_equal(first, second, err_msg=label)
    return engines[1]


def check_case(name: str, seed: int, extreme: bool) -> None:
    case = draw(name, seed, extreme)
    assert_same(Model.from_bytes(case.model), case.inputs)


@pytest.mark.parametrize("name", CASES)
def test_operators(name: str) -> None:
    for seed in range(SEEDS):
        check_case(name, seed, extreme=seed >= SEEDS // 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_operators_at_length(name: str) -> None:
    for seed in range(SLOW_SEEDS):
        check_case(name, 1000 + seed, extreme=seed % 2 == 1)


@pytest.mark.shared
@pytest.mark.parametrize("path", int8_paths(), ids=lambda path: path.stem)
def test_shared_models(path: Path) -> None:
    rows = random_inputs(path.read_bytes(), 2)
    assert_same(Model.load(path), rows)


@pytest.mark.shared
@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: f"{chain[1]}-{'-'.join(map(str, chain[0]))}")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if "mobilenet" in path.stem else ()) for path in int8_paths()],
    ids=lambda path: path.stem,
)
def test_shared_models_at_every_level(path: Path, chain: tuple[tuple[int, ...], str]) -> None:
    levels, scheme = chain
    whole = nested(Model.load(path), everything(levels, scheme))
    rows = random_inputs(path.read_bytes(), 1)
    for level in levels:
        assert_same(whole, rows, level=level)


# --------------------------------------------------------------------------------------------- convolutions


@st.composite
def convolutions(draw: Any) -> tuple[bytes, NDArray[np.int8]]:
    """One convolution, depthwise convolution or fully connected operator of any shape, and its input."""
    integer = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    rng = np.random.default_rng(integer(0, 1 << 30))
    graph = GraphBuilder()
    kind = draw(st.sampled_from(["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]))
    batch = integer(1, 2)
    zero_point, scale = integer(-128, 127), 0.05
    depth, channels = integer(1, 40), integer(1, 40)
    options: dict[str, Any] = {"fused_activation_function": draw(st.sampled_from(["NONE", "RELU6"]))}
    if kind == "FULLY_CONNECTED":
        shape: tuple[int, ...] = (batch, depth)
        weights, output, axis = (channels, depth), (batch, channels), 0
    else:
        size, image = (integer(1, 5), integer(1, 5)), (integer(1, 12), integer(1, 12))
        stride, dilation = (integer(1, 3), integer(1, 3)), (integer(1, 2), integer(1, 2))
        span = [(taps - 1) * step + 1 for taps, step in zip(size, dilation, strict=True)]
        valid = draw(st.booleans()) and all(s <= i for s, i in zip(span, image, strict=True))
        out = [
            (extent - reach) // step + 1 if valid else -(-extent // step)
            for extent, reach, step in zip(image, span, stride, strict=True)
        ]
        if kind == "CONV_2D":
            groups = integer(1, 3)
            depth, channels = depth * groups, channels * groups
            weights, axis = (channels, *size, depth // groups), 0
        else:
            multiplier = integer(1, 3)
            channels = depth * multiplier
            weights, axis = (1, *size, channels), 3
            options["depth_multiplier"] = multiplier
        shape, output = (batch, *image, depth), (batch, *out, channels)
        options |= {
            "padding": "VALID" if valid else "SAME",
            "stride_h": stride[0],
            "stride_w": stride[1],
            "dilation_h_factor": dilation[0],
            "dilation_w_factor": dilation[1],
        }
    count = channels if draw(st.booleans()) else 1
    scales = np.exp(rng.uniform(-9, -3, count)).astype(np.float32)
    source = graph.input(shape, "INT8", scale, zero_point)
    values = rng.integers(-128, 127, weights, dtype=np.int8, endpoint=True)
    filter_ = graph.constant(values, scales if count > 1 else float(scales[0]), 0, axis=axis)
    bias_scales = (np.float32(scale) * scales).astype(np.float32)
    bias = graph.constant(
        rng.integers(-20000, 20000, channels).astype(np.int32),
        bias_scales if count > 1 else float(bias_scales[0]),
    )
    target = graph.tensor(output, "INT8", float(np.exp(draw(st.floats(-6, 0)))), integer(-128, 127))
    graph.operator(kind, [source, filter_, bias], [target], **options)
    return graph.build([target]), rng.integers(-128, 127, shape, dtype=np.int8, endpoint=True)


@settings(max_examples=150)
@given(convolutions(), st.sampled_from(CHAINS))
def test_convolutions_of_any_shape_at_every_level(
    drawn: tuple[bytes, NDArray[np.int8]], chain: tuple[tuple[int, ...], str]
) -> None:
    content, values = drawn
    levels, scheme = chain
    model = Model.from_bytes(content)
    assert not assert_same(model, [[values]]).fallbacks
    whole = nested(model, everything(levels, scheme))
    for level in levels:
        assert not assert_same(whole, [[values]], level=level).fallbacks


# -------------------------------------------------------------------------------- batches, threads, levels


@pytest.fixture(scope="module")
def model() -> Model:
    return nested(network())


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 37])
def test_many_samples(model: Model, threads: int, count: int) -> None:
    x = np.random.default_rng(count).integers(-128, 127, (count, 8, 8, 3), dtype=np.int8)
    reference = Interpreter(model=model)
    native = Interpreter(model=model, engine="native", threads=threads)
    for level in (8, 4, 6):
        reference.set_level(level)
        native.set_level(level)
        np.testing.assert_array_equal(reference.run(x), native.run(x))


def test_threads_work_beside_each_other(model: Model) -> None:
    x = np.random.default_rng(0).integers(-128, 127, (5000, 8, 8, 3), dtype=np.int8)
    native = Interpreter(model=model, engine="native", threads=4)
    expected = Interpreter(model=model, engine="native").run(x)
    for _ in range(3):
        np.testing.assert_array_equal(native.run(x), expected)


def test_run_does_not_touch_what_invoke_computed(model: Model) -> None:
    rng = np.random.default_rng(1)
    native = Interpreter(model=model, engine="native")
    native.allocate_tensors()
    graph = model.graph.main
    before = outputs_of(native, [rng.integers(-128, 127, (1, 8, 8, 3), dtype=np.int8)])
    native.run(rng.integers(-128, 127, (20, 8, 8, 3), dtype=np.int8))
    after = [native.get_tensor(index) for operator in graph.operators for index in operator.outputs]
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first, second)


def test_every_layout_of_constants() -> None:
    model = every_layout()
    x = np.random.default_rng(3).integers(-128, 127, (5, 6, 6, 8), dtype=np.int8)
    for level in (2, 4, 6, 8):
        reference = Interpreter(model=model, level=level)
        native = Interpreter(model=model, level=level, engine="native")
        np.testing.assert_array_equal(reference.run(x), native.run(x))
        np.testing.assert_array_equal(reference.run(x), Interpreter(model=materialize(model, level)).run(x))


def test_levels_may_differ_by_operator(model: Model) -> None:
    x = np.random.default_rng(2).integers(-128, 127, (9, 8, 8, 3), dtype=np.int8)
    reference, native = Interpreter(model=model), Interpreter(model=model, engine="native")
    scopes = list(reference.get_levels())
    for number, scope in enumerate(scopes):
        level = {scope: (4, 6, 8)[number % 3]}
        reference.set_level(level)
        native.set_level(level)
        np.testing.assert_array_equal(reference.run(x), native.run(x))


class SomePages:
    """Pages of a file, of which some may be absent."""

    def __init__(self, model: Model) -> None:
        assert model.directory is not None
        self._all = FilePages(model.to_bytes(), model.directory)
        self._levels = model.directory.levels
        self.absent: set[int] = set()

    def read(self, page: int) -> bytes:
        if page in self.absent:
            raise PageNotResidentError(page, self._levels[page])
        return self._all.read(page)


def test_absent_pages_are_refused_as_by_the_reference_engine(model: Model) -> None:
    pages = SomePages(model)
    pages.absent = {1, 2}
    native = Interpreter(model=model, engine="native", level=4, pages=pages)
    x = np.random.default_rng(3).integers(-128, 127, (3, 8, 8, 3), dtype=np.int8)
    expected = Interpreter(model=model, level=4).run(x)
    np.testing.assert_array_equal(native.run(x), expected)
    with pytest.raises(PageNotResidentError, match="page 1, which level 6 needs"):
        native.set_level(8)
    np.testing.assert_array_equal(native.run(x), expected)
    pages.absent = set()
    native.set_level(8)
    full = Interpreter(model=model).run(x)
    np.testing.assert_array_equal(native.run(x), full)
    pages.absent = {2}
    with pytest.raises(PageNotResidentError, match="page 2"):
        native.run(x)
    with pytest.raises(PageNotResidentError, match="page 2"):
        native.invoke()
    native.set_level(6)
    np.testing.assert_array_equal(native.run(x), Interpreter(model=model, level=6).run(x))


def test_planes_are_read_where_they_lie(model: Model) -> None:
    native = Interpreter(model=model, engine="native", level=6)
    native.allocate_tensors()
    program = native._program
    assert program is not None
    directory = model.directory
    assert directory is not None and native._pages is not None
    images = [native._pages.read(page) for page in range(2)]
    ranges = [
        (array.ctypes.data, len(image))
        for image, array in ((image, np.frombuffer(image, np.uint8)) for image in images)
    ]
    seen = 0
    for kernel in program._kernels:
        for call in getattr(kernel, "calls", ()):
            for level_filter in call.call.filters:
                for number, field in enumerate(level_filter.filter.fields):
                    codes = call.memory.make(field).codes
                    assert any(start <= codes < start + size for start, size in ranges), number
                    seen += 1
    assert seen >= 4


# ------------------------------------------------------------------------------------------------ arguments


def test_arguments_that_make_no_sense() -> None:
    model = network()
    with pytest.raises(UsageError, match="the native engine rounds double, not single"):
        Interpreter(model=model, engine="native", rounding="single")
    with pytest.raises(UsageError, match="0 threads make no sense"):
        Interpreter(model=model, threads=0)
    with pytest.raises(UsageError, match="engines: reference, native"):
        Interpreter(model=model, engine="naive")


def test_what_the_runtime_lacks_is_named() -> None:
    case = draw("RELU-float32", 0)
    model = Model.from_bytes(case.model)
    native = assert_same(model, case.inputs)
    (reason,) = native.fallbacks.values()
    assert list(native.fallbacks) == [model.graph.main.operators[0].label]
    assert "RELU" in reason
    assert Interpreter(model=model).fallbacks == {}
