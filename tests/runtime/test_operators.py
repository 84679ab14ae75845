"""The C kernels without weights against the reference kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.operator_sweep import CASES, draw
from tests.runtime.operator_library import (
    assert_equal,
    build,
    check,
    compute,
    kernels,
    node_of,
    row_of,
    sweep,
    swept,
)
from tests.single_operator import GraphBuilder
from tflnest.device import bind, supported_on_device
from tflnest.device.loops import Loop
from tflnest.device.movement import is_plain_copy
from tflnest.device.structures import Computed, Constant
from tflnest.kernels import supported_operators
from tflnest.native.library import Library

SEEDS = 10
ROOT = Path(__file__).resolve().parents[2]

#: Operators of the reference interpreter that no board needs: SHAPE is computed when a model is loaded.
NOT_ON_DEVICE = {"DEQUANTIZE", "SHAPE"}

SLACK = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(build("-O3", "-march=native"))


@pytest.mark.parametrize("name", swept())
def test_operators(library: Library, name: str) -> None:
    assert sweep(library, name, range(SEEDS)) == SEEDS
    sweep(library, name, range(SEEDS), extreme=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", swept())
def test_operators_at_length(library: Library, name: str) -> None:
    assert sweep(library, name, range(SEEDS, 200)) == 200 - SEEDS
    assert sweep(library, name, range(SEEDS, 200), extreme=True) > 0


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [("gcc", ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"]), ("clang", ["-O2"])],
)
def test_other_builds(compiler: str, flags: list[str]) -> None:
    other = Library(build(*flags, compiler=compiler))
    for name in swept():
        sweep(other, name, range(2))
        sweep(other, name, range(2), extreme=True)


def test_no_memory_is_read_beyond_its_end() -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    path = build("-O1", "-g", "-fsanitize=address", compiler="gcc")
    sanitizer = subprocess.run(
        [gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    environment = {**os.environ, "LD_PRELOAD": sanitizer.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-m", "tests.runtime.operator_library", str(path), "3"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr[-2000:]


def test_every_int8_operator_is_on_the_device() -> None:
    """Only floating point is missing."""
    missing = {name for name in CASES if supported_on_device(node_of(draw(name, 0).model)) is not None}
    assert {name for name in missing if "float32" not in name} == {
        *(f"{name}-int32" for name in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SHAPE")),
        *(f"DEQUANTIZE-{name}" for name in ("int8", "int16", "uint8")),
        "CAST-int16-int32",
        "CAST-int32-int64",
    }
    stock = {name for name in supported_operators() if not name.startswith(("TFLNEST_", "TFLM_"))}
    assert stock - {name.split("-")[0] for name in swept()} - NOT_ON_DEVICE == {
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
    }


# -------------------------------------------------------------------------------------------------- shapes


def case_of(graph: GraphBuilder, output: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """The only operator of a model, and random int8 values for its inputs."""
    content = graph.build([output])
    node = node_of(content)
    sources = [tensor for tensor in node.inputs if tensor is not None and tensor.data is None]
    values = [rng.integers(-128, 127, tensor.shape, np.int8, endpoint=True) for tensor in sources]
    return node, row_of(content, node, values)


@settings(max_examples=120, suppress_health_check=SLACK)
@given(
    name=st.sampled_from(["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"]),
    shape=st.lists(st.integers(1, 33), min_size=1, max_size=4),
    ones=st.tuples(st.integers(0, 15), st.integers(0, 15)),
    scales=st.tuples(*[st.sampled_from([0.01, 0.02, 0.0123, 0.9])] * 3),
    points=st.tuples(*[st.integers(-128, 127)] * 3),
    seed=st.integers(0, 1 << 20),
)
def test_binary_operators(library, name, shape, ones, scales, points, seed) -> None:
    graph = GraphBuilder()
    shapes = [[1 if mask >> axis & 1 else size for axis, size in enumerate(shape)] for mask in ones]
    inputs = [graph.input(*item) for item in zip(shapes, ["INT8"] * 2, scales, points, strict=False)]
    target = np.broadcast_shapes(*shapes)
    output = graph.tensor(target, "INT8", scales[2], points[2])
    graph.operator(name, inputs, [output])
    assert_equal(library, *case_of(graph, output, np.random.default_rng(seed)))


@settings(max_examples=80, suppress_health_check=SLACK)
@given(
    name=st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]),
    image=st.tuples(*[st.integers(1, 20)] * 2),
    channels=st.integers(1, 40),
    size=st.tuples(*[st.integers(1, 20)] * 2),
    stride=st.tuples(*[st.integers(1, 4)] * 2),
    activation=st.sampled_from(["NONE", "RELU", "RELU6"]),
    seed=st.integers(0, 1 << 20),
)
def test_pooling(library, name, image, channels, size, stride, activation, seed) -> None:
    graph = GraphBuilder()
    source = graph.input((1, *image, channels), "INT8", 0.05, 3)
    target = [-(-extent // step) for extent, step in zip(image, stride, strict=True)]
    output = graph.tensor((1, *target, channels), "INT8", 0.05, 3)
    graph.operator(
        name,
        [source],
        [output],
        padding="SAME",
        stride_h=stride[0],
        stride_w=stride[1],
        filter_height=size[0],
        filter_width=size[1],
        fused_activation_function=activation,
    )
    assert_equal(library, *case_of(graph, output, np.random.default_rng(seed)))


@pytest.mark.parametrize("points", [(-128, 127, 0), (127, -128, -128), (0, 0, 127)])
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL", "PRELU"])
def test_every_pair_of_values(library: Library, name: str, points: tuple[int, int, int]) -> None:
    """All 65,536 pairs, for scales that are equal, ordered both ways, and far apart."""
    for scales in ((0.1, 0.1, 0.1), (0.1, 0.03, 0.08), (0.03, 0.1, 0.2), (1e-9, 3.0, 3.0), (0.3, 0.2, 90.0)):
        graph = GraphBuilder()
        inputs = [graph.input((1, 256, 256), "INT8", scales[i], points[i]) for i in range(2)]
        output = graph.tensor((1, 256, 256), "INT8", scales[2], points[2])
        graph.operator(name, inputs, [output])
        node = node_of(graph.build([output]))
        first, second = np.indices((256, 256), dtype=np.int16) - 128
        assert_equal(library, node, [values.astype(np.int8)[None] for values in (first, second)])


def test_a_single_constant_makes_a_table() -> None:
    for position in (0, 1):
        graph = GraphBuilder()
        given_ = [graph.input((1, 5, 5, 3), "INT8", 0.1, 4)]
        given_.insert(position, graph.constant(np.array([[7]], np.int8), 0.02, -3))
        output = graph.tensor((1, 5, 5, 3), "INT8", 0.1, 0)
        graph.operator("SUB", given_, [output])
        (call,) = bind(node_of(graph.build([output])))
        assert call.function.name == "tflnest_lookup_s8"
        assert [argument.tensor for argument in call.inputs] == [given_[1 - position]]


def test_copies_take_few_loops() -> None:
    graph = GraphBuilder()
    source = graph.input((1, 3, 224, 224), "INT8", 0.1)
    output = graph.tensor((1, 224, 224, 3), "INT8", 0.1)
    graph.operator("TRANSPOSE", [source, graph.constant(np.array([0, 2, 3, 1], np.int32))], [output])
    (call,) = bind(node_of(graph.build([output])))
    assert call.params.loops == (Loop(3, 224 * 224, 1), Loop(224 * 224, 1, 3)), "the longest is innermost"
    graph = GraphBuilder()
    source = graph.input((1, 7, 5), "INT8", 0.1)
    output = graph.tensor((1, 35), "INT8", 0.1)
    graph.operator("RESHAPE", [source], [output])
    (call,) = bind(node_of(graph.build([output])))
    assert is_plain_copy(call) and call.params.run == 35


# ------------------------------------------------------------------------------------------- hostile input


def variants(value: Any) -> Any:
    """Every struct that differs from a mirrored one in one integer or pointer."""
    for field in fields(value):
        item = getattr(value, field.name)
        if isinstance(item, int):
            for other in (-(1 << 31), -1, 0, item + 1, item * 1000 + 7, (1 << 31) - 1):
                if other != item and -(1 << 31) <= other < 1 << 31:
                    yield field.name, replace(value, **{field.name: other})
        elif isinstance(item, Constant | Computed):
            yield field.name, replace(value, **{field.name: None})
        elif is_dataclass(item):
            for name, changed in variants(item):
                yield f"{field.name}.{name}", replace(value, **{field.name: changed})
        elif isinstance(item, tuple):
            for position, part in enumerate(item):
                for name, changed in variants(part):
                    parts = (*item[:position], changed, *item[position + 1 :])
                    yield f"{field.name}[{position}].{name}", replace(value, **{field.name: parts})


#: Members that say how far a kernel walks through tensors whose sizes it knows.
WALK = (
    "run",
    "count",
    "first_step",
    "second_step",
    "input_offset",
    "output_offset",
    "fill_size",
    "loop_count",
)


@pytest.mark.parametrize("name", swept())
def test_hostile_parameters_are_refused(library: Library, name: str) -> None:
    """Where the kernel knows the sizes, what is accepted stays within them; elsewhere nonsense is refused."""
    case = draw(name, 3)
    node = node_of(case.model)
    row = row_of(case.model, node, case.inputs[0])
    refused = 0
    for call in bind(node):
        for field, params in variants(call.params):
            changed = replace(call, params=params)
            if check(library, node, changed) != 0:
                refused += 1
            elif field.rpartition(".")[2] in WALK:
                compute(library, node, row, [changed])
    assert refused > 0


def test_nonsense_is_refused(library: Library) -> None:
    """Every member of every kernel has values that are refused, but for those that any value suits."""
    accepted = set()
    for name in swept():
        node = node_of(draw(name, 3).model)
        for call in bind(node):
            wrong: dict[str, bool] = {}
            for field, params in variants(call.params):
                status = check(library, node, replace(call, params=params))
                wrong[field] = wrong.get(field, False) or status != 0
            accepted |= {f"{call.function.base}.{field}" for field, seen in wrong.items() if not seen}
    assert {item for item in accepted if "loops" not in item} == {
        "tflnest_quantize.input_zero_point",
        "tflnest_quantize.output_zero_point",
        "tflnest_sum.offset",
    }


def test_the_list_of_kernels_is_complete() -> None:
    assert {function.name for function in kernels()} == {
        "tflnest_add_s8",
        "tflnest_arg_max_s8",
        "tflnest_average_pool_s8",
        "tflnest_copy_bytes",
        "tflnest_extremum_s8",
        "tflnest_l2_normalization_s8",
        "tflnest_lookup_s8",
        "tflnest_lookup_wide_s16",
        "tflnest_lookup_wide_s32",
        "tflnest_max_pool_s8",
        "tflnest_mul_s8",
        "tflnest_narrow_s8",
        "tflnest_prelu_s8",
        "tflnest_quantize_s16",
        "tflnest_quantize_s32",
        "tflnest_resize_bilinear_s8",
        "tflnest_resize_nearest_bytes",
        "tflnest_softmax_s16",
        "tflnest_softmax_s8",
        "tflnest_sum_s8",
        "tflnest_transpose_conv_s8",
    }
