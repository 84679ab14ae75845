"""Nested files in stock LiteRT: the right bits in both modes, at every level, and one clear error otherwise."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tflnest
from tests.controllers import controlled, narrow_levels
from tests.exactness import random_inputs as random_rows
from tests.models import (
    NetworkBuilder,
    every_layout,
    everything,
    nested,
    network,
    random_inputs,
    small_network,
)
from tests.shared import int8_paths
from tests.tflnest.plugin.conftest import run
from tflnest import container, flatbuffer
from tflnest.errors import FormatError, UnsupportedError, UsageError
from tflnest.model import Model, metadata_buffer, pack_tree
from tflnest.native import compiler as compiler_module
from tflnest.native.compiler import Compiler
from tflnest.plugin import library as library_module
from tflnest.schema import runtime

CHAINS = {
    "bucket 4,6,8": everything((4, 6, 8)),
    "bucket 3,5,8": everything((3, 5, 8)),
    "bucket 2,7": everything((2, 7)),
    "compensated 2,4,6,8": everything((2, 4, 6, 8), "compensated"),
    "compensated 6,8": everything((6, 8), "compensated"),
}
Save = Callable[[Any], Path]


def resolver(name: str) -> dict[str, Any]:
    return {"experimental_op_resolver_type": getattr(runtime().OpResolverType, name)}


REFERENCE = resolver("BUILTIN_REF")
RESOLVERS = {name: resolver(name) for name in ("AUTO", "BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")}


def convolutions(levels: tuple[int, ...] = (4, 6, 8)) -> Model:
    """A network whose batch may have any size."""
    net = NetworkBuilder(3)
    x = net.convolution(net.start(), 16, name="stem")
    x = net.convolution(net.depthwise(x, stride=2), 12, kernel=1, name="point")
    return nested(net.finish(net.convolution(x, 8, stride=2, groups=2, name="grouped")), everything(levels))


# -------------------------------------------------------------------------------------------------- exact


@pytest.mark.parametrize("chain", CHAINS)
def test_memory_is_bit_exact_with_the_reference_interpreter(chain: str, save: Save) -> None:
    model = nested(network(1), CHAINS[chain])
    x = random_inputs(model, 3)
    path = save(model)
    for level in model.directory.levels:
        ours = tflnest.stock_interpreter(path, level=level, mode="memory", **REFERENCE)
        expected = tflnest.Interpreter(model=model, level=level).run(x)
        np.testing.assert_array_equal(run(ours, *np.split(x, 3))[0], expected)


@pytest.mark.parametrize("mode", ["speed", "memory"])
def test_every_layout_of_constants(mode: str, save: Save) -> None:
    model = every_layout()
    x = random_inputs(model, 3)
    path = save(model)
    for level in (2, 4, 6, 8):
        ours = tflnest.stock_interpreter(path, level=level, mode=mode, **REFERENCE)
        plain = tflnest.materialize(model, level).to_bytes()
        stock = run(runtime().Interpreter(model_content=plain, **REFERENCE), *np.split(x, 3))[0]
        exact = tflnest.Interpreter(model=model, level=level).run(x)
        expected = stock if mode == "speed" else exact
        np.testing.assert_array_equal(run(ours, *np.split(x, 3))[0], expected)


@pytest.mark.parametrize("mode", ["speed", "memory"])
def test_a_controller_is_left_alone(mode: str, save: Save) -> None:
    model = nested(network(1), everything())
    x = random_inputs(model, 2)
    expected = [
        run(tflnest.stock_interpreter(save(model), level=level, mode=mode), *np.split(x, 2))
        for level in (4, 8)
    ]
    path = save(controlled(model))
    for level, outputs in zip((4, 8), expected, strict=True):
        ours = tflnest.stock_interpreter(path, level=level, mode=mode)
        np.testing.assert_array_equal(run(ours, *np.split(x, 2)), outputs)


@pytest.mark.parametrize("mode", ["speed", "memory"])
def test_levels_that_narrow_activations_are_refused(mode: str, save: Save) -> None:
    path = save(narrow_levels(nested(network(1), everything()), (4, 8, 8)))
    tflnest.stock_interpreter(path, level=8, mode=mode).allocate_tensors()
    with pytest.raises(FormatError, match="fewer than 8 bits"):
        tflnest.stock_interpreter(path, level=4, mode=mode).allocate_tensors()


@pytest.mark.filterwarnings("ignore:Warning. Enabling `experimental_preserve_all_tensors`")
@pytest.mark.parametrize("name", RESOLVERS)
@pytest.mark.parametrize("chain", CHAINS)
def test_every_tensor_is_exact_whatever_runs_the_rest(chain: str, name: str, save: Save) -> None:
    model = nested(network(2), CHAINS[chain])
    x = random_inputs(model, 1)
    level = model.directory.levels[0]
    reference = tflnest.Interpreter(model=model, level=level)
    reference.allocate_tensors()
    reference.set_tensor(reference.get_input_details()[0]["index"], x)
    reference.invoke()
    ours = tflnest.stock_interpreter(
        save(model), level=level, mode="memory", experimental_preserve_all_tensors=True, **RESOLVERS[name]
    )
    run(ours, x)
    for operator in model.graph.main.operators:
        for index in operator.outputs:
            np.testing.assert_array_equal(ours.get_tensor(index), reference.get_tensor(index), operator.label)


@pytest.mark.parametrize("name", ["AUTO", "BUILTIN_REF"])
@pytest.mark.parametrize("chain", CHAINS)
def test_speed_gives_the_materialized_level(chain: str, name: str, save: Save) -> None:
    model = nested(network(3), CHAINS[chain])
    x = random_inputs(model, 3)
    path = save(model)
    for level in model.directory.levels:
        plain = tflnest.materialize(model, level).to_bytes()
        expected = run(runtime().Interpreter(model_content=plain, **RESOLVERS[name]), *np.split(x, 3))
        ours = tflnest.stock_interpreter(path, level=level, **RESOLVERS[name])
        np.testing.assert_array_equal(run(ours, *np.split(x, 3))[0], expected[0])


def shared(path: Path) -> Any:
    return pytest.param(path, id=path.stem, marks=pytest.mark.slow if "mobilenet" in path.stem else ())


@pytest.mark.shared
@pytest.mark.parametrize("path", [shared(path) for path in int8_paths()])
@pytest.mark.parametrize("chain", ["bucket 4,6,8", "compensated 2,4,6,8"])
def test_shared_models_at_every_level_and_switch(chain: str, path: Path, save: Save) -> None:
    model = nested(Model.load(path), CHAINS[chain])
    row = random_rows(path.read_bytes(), 1)[0][0]
    file = save(model)
    levels = model.directory.levels
    expected = {}
    for level in levels:
        reference = tflnest.Interpreter(model=model, level=level, engine="native")
        reference.allocate_tensors()
        reference.set_tensor(reference.get_input_details()[0]["index"], row)
        reference.invoke()
        expected[level] = reference.get_tensor(reference.get_output_details()[0]["index"])
        plain = tflnest.materialize(model, level).to_bytes()
        speed = tflnest.stock_interpreter(file, level=level, num_threads=1)
        stock = runtime().Interpreter(model_content=plain, num_threads=1)
        np.testing.assert_array_equal(run(speed, row)[0], run(stock, row)[0])
    delegate = tflnest.load_delegate(level=levels[0], mode="memory")
    ours = runtime().Interpreter(str(file), experimental_delegates=[delegate], **REFERENCE)
    for level in (*levels, *reversed(levels), levels[-1], levels[0]):
        ours.allocate_tensors()
        tflnest.set_delegate_level(delegate, level)
        np.testing.assert_array_equal(run(ours, row)[0], expected[level], f"level {level}")


# ----------------------------------------------------------------------------------------------- switching


def test_levels_are_switched_between_invokes(save: Save) -> None:
    model = nested(network(4))
    x = random_inputs(model, 1)
    expected = {level: tflnest.Interpreter(model=model, level=level).run(x) for level in (4, 6, 8)}
    delegate = tflnest.load_delegate(level=6, mode="memory")
    ours = runtime().Interpreter(str(save(model)), experimental_delegates=[delegate], **REFERENCE)
    np.testing.assert_array_equal(run(ours, x)[0], expected[6])
    for level in (4, 8, 8, 6, 4, 8):
        tflnest.set_delegate_level(delegate, level)
        np.testing.assert_array_equal(run(ours, x)[0], expected[level])
        assert set(tflnest.get_delegate_levels(delegate).values()) == {level}


def test_signatures_switch_too(save: Save) -> None:
    model = nested(network(4))
    x = random_inputs(model, 1)
    delegate = tflnest.load_delegate(mode="memory")
    ours = runtime().Interpreter(str(save(model)), experimental_delegates=[delegate], **REFERENCE)
    serve = ours.get_signature_runner("serve")
    for level in (8, 4, 6):
        tflnest.set_delegate_level(delegate, level)
        np.testing.assert_array_equal(serve(x=x)["y"], tflnest.Interpreter(model=model, level=level).run(x))


def test_operators_have_levels_of_their_own(save: Save) -> None:
    model = nested(network(5))
    x = random_inputs(model, 1)
    reference = tflnest.Interpreter(model=model, level=8)
    delegate = tflnest.load_delegate(mode="memory")
    ours = runtime().Interpreter(str(save(model)), experimental_delegates=[delegate], **REFERENCE)
    assert tflnest.get_delegate_levels(delegate) == reference.get_levels()
    for wanted in ({"stem": 4}, {"point|head": 6, "depth": 4}, {".": 4}, {"head": 8}):
        reference.set_level(wanted)
        tflnest.set_delegate_level(delegate, wanted)
        assert tflnest.get_delegate_levels(delegate) == reference.get_levels()
        np.testing.assert_array_equal(run(ours, x)[0], reference.run(x))


def test_the_c_functions_serve_an_application(save: Save) -> None:
    model = nested(network(6))
    x = random_inputs(model, 1)
    path = tflnest.delegate_path()
    delegate = runtime().load_delegate(path, {"level": "8", "mode": "memory", "session": "5"})
    ours = runtime().Interpreter(str(save(model)), experimental_delegates=[delegate], **REFERENCE)
    plugin = ctypes.CDLL(path)
    session = ctypes.c_uint64(5)
    assert plugin.tflnest_plugin_operators(session) == 5
    assert plugin.tflnest_plugin_set_level(session, 4) == 0
    assert plugin.tflnest_plugin_operator_level(session, 2) == 4
    np.testing.assert_array_equal(run(ours, x)[0], tflnest.Interpreter(model=model, level=4).run(x))
    assert plugin.tflnest_plugin_set_level(session, 5) == -2
    assert plugin.tflnest_plugin_set_level(ctypes.c_uint64(6), 4) == -1
    assert plugin.tflnest_plugin_set_operator_level(session, 5, 4) == -1
    assert plugin.tflnest_plugin_set_operator_level(session, 0, 7) == -2
    with pytest.raises(ValueError, match="session is in use"):
        runtime().load_delegate(path, {"session": "5"})


def test_what_cannot_be_switched(save: Save) -> None:
    fixed = tflnest.load_delegate(level=4)
    with pytest.raises(UsageError, match="speed is fixed"):
        tflnest.set_delegate_level(fixed, 8)
    with pytest.raises(UsageError, match=r"not one of tflnest\.load_delegate"):
        tflnest.set_delegate_level(object(), 8)
    delegate = tflnest.load_delegate(mode="memory")
    interpreter = runtime().Interpreter(str(save(nested(network()))), experimental_delegates=[delegate])
    with pytest.raises(UsageError, match="no level 5"):
        tflnest.set_delegate_level(delegate, 5)
    with pytest.raises(UsageError, match="no nested operator matches"):
        tflnest.set_delegate_level(delegate, {"nowhere": 4})
    with pytest.raises(UsageError, match="no regular expression"):
        tflnest.set_delegate_level(delegate, {"(": 4})
    with pytest.raises(UsageError, match="no level 5 of 'stem/weights'"):
        tflnest.set_delegate_level(delegate, {"stem": 5})
    assert set(tflnest.get_delegate_levels(delegate).values()) == {8}
    del interpreter
    assert tflnest.get_delegate_levels(delegate) == {}


# ----------------------------------------------------------------------------------------- several, batches


@pytest.mark.parametrize("mode", ["speed", "memory"])
def test_bytes_are_as_good_as_a_file(mode: str) -> None:
    model = nested(network(7))
    x = random_inputs(model, 1)
    ours = tflnest.stock_interpreter(model.to_bytes(), level=6, mode=mode, **REFERENCE)
    np.testing.assert_array_equal(run(ours, x)[0], tflnest.Interpreter(model=model, level=6).run(x))


@pytest.mark.parametrize("mode", ["speed", "memory"])
def test_batches_are_resized(mode: str, save: Save) -> None:
    model = convolutions()
    path = save(model)
    x = random_inputs(model, 9)
    expected = tflnest.Interpreter(model=model, level=4).run(x)
    for name in ("AUTO", "BUILTIN_REF"):
        ours = tflnest.stock_interpreter(path, level=4, mode=mode, **RESOLVERS[name])
        plain = tflnest.materialize(model, 4).to_bytes()
        stock = runtime().Interpreter(model_content=plain, **RESOLVERS[name])
        for count in (1, 5, 9, 2):
            for interpreter in (ours, stock):
                interpreter.resize_tensor_input(0, [count, 8, 8, 3])
            wanted = run(stock, x[:count])[0] if mode == "speed" else expected[:count]
            np.testing.assert_array_equal(run(ours, x[:count])[0], wanted)


def test_several_interpreters_share_a_delegate_and_several_have_their_own(save: Save) -> None:
    first, second = nested(network(8)), nested(small_network(2))
    shared_one = tflnest.load_delegate(level=4, mode="memory")
    own = tflnest.load_delegate(level=8, mode="memory")
    cases = [(first, shared_one), (second, shared_one), (first, own), (first, shared_one)]
    interpreters = [
        runtime().Interpreter(str(save(model)), experimental_delegates=[delegate], **REFERENCE)
        for model, delegate in cases
    ]
    for level in (4, 6):
        tflnest.set_delegate_level(shared_one, level)
        for (model, delegate), ours in zip(cases, interpreters, strict=True):
            x = random_inputs(model, 1)
            at = level if delegate is shared_one else 8
            np.testing.assert_array_equal(run(ours, x)[0], tflnest.Interpreter(model=model, level=at).run(x))
    later = runtime().Interpreter(str(save(first)), experimental_delegates=[shared_one])
    assert set(tflnest.get_delegate_levels(shared_one).values()) == {6}
    del later


@pytest.mark.parametrize("mode", ["speed", "memory"])
def test_interpreters_run_in_threads(mode: str, save: Save) -> None:
    model = nested(network(9))
    path = save(model)
    x = random_inputs(model, 8)
    expected = {level: tflnest.Interpreter(model=model, level=level).run(x) for level in (4, 6, 8)}

    def work(number: int) -> bool:
        level = (4, 6, 8)[number % 3]
        ours = tflnest.stock_interpreter(path, level=level, mode=mode, num_threads=2, **REFERENCE)
        return all(np.array_equal(run(ours, *np.split(x, 8))[0], expected[level]) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(12)))


def test_levels_switch_while_another_thread_runs(save: Save) -> None:
    model = nested(small_network(4))
    x = random_inputs(model, 1)
    outputs = [tflnest.Interpreter(model=model, level=level).run(x).tobytes() for level in (4, 6, 8)]
    delegate = tflnest.load_delegate(level=4, mode="memory")
    ours = runtime().Interpreter(str(save(model)), experimental_delegates=[delegate], **REFERENCE)
    run(ours, x)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: [ours.invoke() for _ in range(3000)])
        for level in (4, 6, 8) * 300:
            tflnest.set_delegate_level(delegate, level)
        done.result()
    assert run(ours, x)[0].tobytes() == outputs[2]


def test_the_delegate_may_go_before_the_interpreter(save: Save) -> None:
    model = nested(network())
    x = random_inputs(model, 1)
    for mode in ("speed", "memory"):
        for _ in range(20):
            delegate = tflnest.load_delegate(level=4, mode=mode)
            ours = runtime().Interpreter(str(save(model)), experimental_delegates=[delegate], **REFERENCE)
            ours._delegates = None
            del delegate
            np.testing.assert_array_equal(run(ours, x)[0], tflnest.Interpreter(model=model, level=4).run(x))
            del ours


def test_a_plain_model_is_left_alone(save: Save) -> None:
    model = network()
    x = random_inputs(model, 1)
    ours = tflnest.stock_interpreter(save(model), mode="memory", level=4, **REFERENCE)
    np.testing.assert_array_equal(run(ours, x)[0], tflnest.Interpreter(model=model).run(x))


# -------------------------------------------------------------------------------------------------- errors


def refused(content: Any, save: Save, **options: Any) -> str:
    """What the runtime says of a model, in either mode."""
    texts = []
    for mode in ("speed", "memory"):
        delegate = tflnest.load_delegate(mode=mode, **options)
        with pytest.raises(RuntimeError) as caught:
            runtime().Interpreter(str(save(content)), experimental_delegates=[delegate])
        texts.append(str(caught.value).splitlines()[0])
    assert texts[0] == texts[1]
    assert texts[0].startswith("tflnest: operator ")
    return texts[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": "4"}, "option levels: there is no such option; there are level, mode, session"),
        ({"level": "0"}, "option level: the option level is a number from 1 to 8"),
        ({"level": "9"}, "number from 1 to 8"),
        ({"level": "-1"}, "number from 1 to 8"),
        ({"level": "4.0"}, "number from 1 to 8"),
        ({"level": ""}, "number from 1 to 8"),
        ({"mode": "fast"}, "the option mode is speed or memory"),
        ({"session": "0"}, "number from 1 to 2"),
        ({"session": "18446744073709551616"}, "number from 1 to 2"),
        ({"x" * 500: "1"}, "there is no such option"),
    ],
)
def test_options_are_checked(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"tflnest: .*{message}"):
        runtime().load_delegate(tflnest.delegate_path(), options)


def test_arguments_are_checked(save: Save) -> None:
    with pytest.raises(UsageError, match="no mode 'fast'"):
        tflnest.load_delegate(mode="fast")
    with pytest.raises(UsageError, match="no level 9"):
        tflnest.load_delegate(level=9)
    with pytest.raises(FormatError, match="does not have the level"):
        tflnest.stock_interpreter(save(nested(network())), level=5)


def test_a_level_that_the_model_lacks(save: Save) -> None:
    text = refused(nested(network()), save, level=5)
    assert text.startswith(
        "tflnest: operator 0 (TFLNEST_CONV_2D): the model does not have the level that was asked for"
    )


def directory_extent(content: bytes) -> tuple[int, int]:
    """Where the directory lies in a nested file, and its size."""
    buffer = metadata_buffer(Model.from_bytes(content).tree, container.METADATA_NAME)
    assert buffer is not None
    return flatbuffer.buffer_extents(content)[buffer]


def edited_directory(change: Callable[[bytearray], None]) -> bytes:
    """A nested file whose directory was changed, and has the right CRC-32 for it."""
    content = bytearray(nested(small_network()).to_bytes())
    start, size = directory_extent(bytes(content))
    part = content[start : start + size]
    change(part)
    blank = bytearray(part)
    blank[container.IDENTITY_OFFSET : container.IDENTITY_OFFSET + 32] = bytes(32)
    blank[container.CRC_OFFSET : container.CRC_OFFSET + 4] = bytes(4)
    part[container.CRC_OFFSET : container.CRC_OFFSET + 4] = zlib.crc32(blank).to_bytes(4, "little")
    content[start : start + size] = part
    return bytes(content)


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_other_format_versions(version: int, save: Save) -> None:
    def change(part: bytearray) -> None:
        part[8:10] = version.to_bytes(2, "little")

    assert "another format version" in refused(edited_directory(change), save)


def test_a_damaged_directory(save: Save) -> None:
    content = bytearray(nested(small_network()).to_bytes())
    content[directory_extent(bytes(content))[0] + container.HEADER.size] ^= 1
    assert "directory is damaged" in refused(bytes(content), save)
    assert "makes no sense" in refused(edited_directory(lambda part: part.__setitem__(12, 1)), save)


def without_metadata(tree: Any) -> None:
    tree.metadata = None


def extend_plane(tree: Any) -> None:
    subgraph = tree.subgraphs[0]
    tensor = subgraph.tensors[subgraph.operators[0].inputs[-1]]
    tensor.shape = [int(tensor.shape[0]) + 4]
    buffer = tree.buffers[tensor.buffer]
    buffer.data = np.append(np.asarray(buffer.data, np.uint8), np.zeros(4, np.uint8))


def remove_input(tree: Any) -> None:
    operator = tree.subgraphs[0].operators[0]
    operator.inputs = operator.inputs[:-1]


def break_options(tree: Any) -> None:
    operator = tree.subgraphs[0].operators[0]
    operator.customOptions = list(b"nothing that is a map")


def add_option(tree: Any) -> None:
    operator = tree.subgraphs[0].operators[0]
    operator.customOptions = list(bytes(operator.customOptions).replace(b"levels\0", b"lovels\0"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_metadata, "no TFLNEST metadata"),
        (extend_plane, "planes has another type or size"),
        (remove_input, "another number of inputs"),
        (break_options, "no flexbuffer map"),
        (add_option, "unknown key"),
    ],
)
def test_what_contradicts_itself(change: Callable[[Any], None], message: str, save: Save) -> None:
    model = nested(small_network())
    change(model.tree)
    content = pack_tree(model.tree)
    assert message in refused(content, save)


def without_highest_page() -> bytes:
    """A file that holds no buffer of its highest page: what a writer leaves who keeps only the lower levels."""
    model = nested(small_network())
    for segment in model.directory.pages[-1].segments:
        model.tree.buffers[segment.buffer].data = None
    return pack_tree(model.tree)


def test_a_missing_page(save: Save) -> None:
    content = without_highest_page()
    assert "does not have a page that the level needs" in refused(content, save)
    whole = nested(small_network())
    x = random_inputs(whole, 1)
    expected = tflnest.Interpreter(model=whole, level=6).run(x)
    for mode in ("speed", "memory"):
        ours = tflnest.stock_interpreter(save(content), level=6, mode=mode, **REFERENCE)
        np.testing.assert_array_equal(run(ours, x)[0], expected)
    delegate = tflnest.load_delegate(level=6, mode="memory")
    ours = runtime().Interpreter(str(save(content)), experimental_delegates=[delegate], **REFERENCE)
    with pytest.raises(FormatError, match="needs a page that the file does not have"):
        tflnest.set_delegate_level(delegate, 8)
    np.testing.assert_array_equal(run(ours, x)[0], expected)


def test_weights_outside_int8(save: Save) -> None:
    model = nested(small_network(), everything((4, 8), "compensated"))
    operator = model.tree.subgraphs[0].operators[0]
    for position in (-2, -1):
        tensor = model.tree.subgraphs[0].tensors[operator.inputs[position]]
        buffer = model.tree.buffers[tensor.buffer]
        buffer.data = np.zeros(len(buffer.data), np.uint8)
    content = pack_tree(model.tree)
    assert "weights outside int8" in refused(content, save)
    delegate = tflnest.load_delegate(level=4, mode="memory")
    interpreter = runtime().Interpreter(str(save(content)), experimental_delegates=[delegate])
    with pytest.raises(FormatError, match="not int8"):
        tflnest.set_delegate_level(delegate, 8)
    del interpreter


# ------------------------------------------------------------------------------------------------ fallback


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(library_module, "installed", lambda: None)
    library_module._path.cache_clear()
    yield
    library_module._path.cache_clear()


def test_without_a_compiler_the_level_is_materialized(no_compiler: None, save: Save) -> None:
    model = nested(network(1))
    x = random_inputs(model, 1)
    for content in (save(model), model.to_bytes()):
        ours = tflnest.stock_interpreter(content, level=4, **REFERENCE)
        plain = tflnest.materialize(model, 4).to_bytes()
        stock = runtime().Interpreter(model_content=plain, **REFERENCE)
        np.testing.assert_array_equal(run(ours, x)[0], run(stock, x)[0])
    with pytest.raises(UnsupportedError, match="the delegate needs a C compiler") as caught:
        tflnest.load_delegate(level=4)
    assert "stock_interpreter" in caught.value.hint
    with pytest.raises(UnsupportedError, match="the delegate needs a C compiler"):
        tflnest.stock_interpreter(save(model), mode="memory")


def test_without_a_compiler_an_installed_library_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: Compiler
) -> None:
    monkeypatch.setattr(library_module, "__file__", str(tmp_path / "library.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, key in (("_plugin_other.so", "other"), ("_plugin_same.so", library_module.unit().key())):
        flags = ("-std=c99", "-O0", "-fPIC", "-fvisibility=hidden", f'-DTFLNEST_KEY="{key}"')
        shutil.copy(compiler_module.shared_library(library_module.unit(), compiler, flags), tmp_path / name)
        monkeypatch.setenv("CC", "no-such-compiler")
        library_module._path.cache_clear()
        if key == "other":
            (tmp_path / "_plugin_broken.so").write_bytes(b"no library")
            with pytest.raises(UnsupportedError):
                tflnest.delegate_path()
        else:
            assert tflnest.delegate_path() == str(tmp_path / name)
        monkeypatch.delenv("CC")
        library_module._path.cache_clear()


def test_a_compiler_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = tmp_path / "broken.c"
    broken.write_text("#error broken\n")
    monkeypatch.setattr(library_module, "unit", lambda: compiler_module.Unit((broken,), (), ()))
    library_module._path.cache_clear()
    try:
        with pytest.raises(tflnest.TflnestError, match="the delegate cannot be built") as caught:
            tflnest.delegate_path()
        assert "stock_interpreter" in caught.value.hint
    finally:
        library_module._path.cache_clear()


def test_importing_builds_nothing(tmp_path: Path) -> None:
    code = "import tflnest.plugin.delegate"
    subprocess.run(
        [sys.executable, "-c", code], env={"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}, check=True
    )
    assert not list(tmp_path.iterdir())
