"""The component in TFLM's own interpreter, that of the `tflite-micro` wheel: exactness, arena, levels, pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.conversion import convert
from tests.controllers import controlled, narrow_levels
from tests.exactness import random_inputs as any_inputs
from tests.models import (
    NetworkBuilder,
    branching,
    every_layout,
    everything,
    nested,
    network,
    random_inputs,
    with_own_biases,
)
from tests.shared import INT8_MODELS, int8_path
from tests.tflnest.tflm.paging import ARGUMENT, LEVEL, PAGE, SIZE, check_come_and_go, come_and_go
from tests.tflnest.tflm.wheel import Answer, Job, Step, ask
from tflnest.container import Page, page_image
from tflnest.controller import detach
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model

LEVELS = (8, 4, 6, 8, 4)
CHAINS = {"bucket": (4, 6, 8), "compensated": (4, 6, 8)}


def expected(content: bytes, level: int, sample: np.ndarray, tensors: list[int]) -> dict[int, np.ndarray]:
    reference = Interpreter(model_content=content, level=level)
    reference.allocate_tensors()
    reference.set_tensor(reference.get_input_details()[0]["index"], sample)
    reference.invoke()
    return {index: reference.get_tensor(index) for index in tensors}


def check_exactness(library: Path, model: Model, levels: tuple[int, ...] = LEVELS) -> Answer:
    content = model.to_bytes()
    tensors = [index for operator in model.graph.main.operators for index in operator.outputs]
    samples = [row[0] for row in any_inputs(content, len(levels), seed=3)]
    steps = [
        step
        for level, sample in zip(levels, samples, strict=True)
        for step in [("set_level", level), ("run", sample)]
    ]
    answer = ask(library, Job(content, steps, tensors=tensors))
    assert (answer.opened, answer.error) == (0, ""), answer.log
    assert answer.results[-1] == 0  # the interpreter took its operators along
    for number, (level, sample) in enumerate(zip(levels, samples, strict=True)):
        status, values = answer.results[2 * number : 2 * number + 2]
        assert status == 0, answer.log
        for index, value in expected(content, level, sample, tensors).items():
            np.testing.assert_array_equal(values[index].reshape(value.shape), value, f"{level}: {index}")
    return answer


@pytest.mark.parametrize("scheme", CHAINS)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if "mobilenet" in name else ()) for name in INT8_MODELS],
)
def test_shared_models_at_every_level_and_switch(name: str, scheme: str, library: Path) -> None:
    levels = (8, 4, 6) if "mobilenet" in name else LEVELS
    check_exactness(library, nested(Model.load(int8_path(name)), everything(CHAINS[scheme], scheme)), levels)


@pytest.mark.parametrize("scheme", CHAINS)
def test_all_kinds_of_operators_at_every_level(scheme: str, library: Path) -> None:
    check_exactness(library, nested(network(), everything((2, 3, 5, 8), scheme)), (8, 2, 3, 5, 8))


def test_every_layout_of_constants_at_every_level(library: Path) -> None:
    check_exactness(library, every_layout(), (8, 2, 4, 6, 2, 8))


def test_operators_have_levels_of_their_own(library: Path) -> None:
    model = nested(network(), everything())
    content = model.to_bytes()
    sample = random_inputs(model, 1)
    steps = [
        ("operators",),
        ("set_level", 4),
        ("set_operator_level", 2, 8),
        ("operator_level", 2),
        ("operator_level", 1),
        ("operator_level", 99),
        ("run", sample),
    ]
    answer = ask(library, Job(content, steps))
    reference = Interpreter(model_content=content, level=4)
    scopes = list(reference.get_levels())
    reference.set_level({f"^{scopes[2]}$": 8})
    reference.allocate_tensors()
    reference.set_tensor(reference.get_input_details()[0]["index"], sample)
    reference.invoke()
    assert answer.results[:6] == [len(scopes), 0, 0, 8, 4, 0]
    value = reference.get_tensor(reference.get_output_details()[0]["index"])
    np.testing.assert_array_equal(answer.results[6], value)


def pages_of(content: bytes) -> tuple[Page, ...]:
    directory = Model.from_bytes(content).directory
    assert directory is not None
    return directory.pages


def run_level(library: Path, content: bytes, steps: list[Step], sample: np.ndarray) -> Answer:
    answer = ask(library, Job(content, [*steps, ("run", sample)]))
    assert answer.error == "", answer.log
    return answer


def test_pages_come_and_go(library: Path) -> None:
    model = nested(network(), everything())
    content, sample = model.to_bytes(), random_inputs(model, 1)
    images = [page_image(content, page) for page in pages_of(content)]
    answer = ask(library, Job(content, come_and_go(images, sample)))
    check_come_and_go(answer, model, sample)
    assert "tflnest: the level needs pages that are not resident (one bit each: 0x2)" in answer.log


def test_a_page_image_takes_the_place_of_the_page_in_the_file(library: Path) -> None:
    """What is read is the image: after it came in, the file's own page may be anything."""
    model = nested(network(), everything((4, 8)))
    content, sample = model.to_bytes(), random_inputs(model, 1)
    wiped = bytearray(content)
    for segment in pages_of(content)[1].segments:
        wiped[segment.offset : segment.offset + segment.size] = bytes(segment.size)
    steps = [("set_level", 4), ("page_out", 1), ("page_in", 1, page_image(content, pages_of(content)[1]))]
    answer = run_level(library, bytes(wiped), [*steps, ("set_level", 8)], sample)
    assert answer.results[:4] == [0, 0, 0, 0]
    np.testing.assert_array_equal(answer.results[4], Interpreter(model_content=content, level=8).run(sample))


def test_without_opening_the_highest_level_runs(library: Path) -> None:
    model = nested(network(), everything())
    content, sample = model.to_bytes(), random_inputs(model, 1)
    answer = ask(library, Job(content, [("set_level", 4), ("run", sample)], is_open=False))
    assert answer.results[0] == ARGUMENT
    np.testing.assert_array_equal(answer.results[1], Interpreter(model_content=content, level=8).run(sample))


def test_levels_that_are_not_there(library: Path) -> None:
    content = nested(network(), everything((4, 8))).to_bytes()
    steps = [("set_level", 6), ("set_level", 0), ("set_operator_level", 0, 5), ("set_operator_level", 50, 4)]
    answer = ask(library, Job(content, steps))
    assert answer.results[:4] == [LEVEL, LEVEL, LEVEL, ARGUMENT]
    assert "tflnest: the model has no level of 6 bits" in answer.log
    assert "tflnest: operator 0 has no level of 5 bits" in answer.log


def test_files_that_cannot_be_opened(library: Path) -> None:
    stock = network().to_bytes()
    assert ask(library, Job(stock)).opened == SIZE
    content = bytearray(nested(network(), everything()).to_bytes())
    at = content.index(b"TFLNEST\0\1\0")
    content[at + 8] = 9
    answer = ask(library, Job(bytes(content), is_open=True))
    assert answer.opened == SIZE
    assert "it has another format version than this tflnest reads" in answer.log


def test_a_controller_is_refused_before_its_subgraph_is_planned(library: Path) -> None:
    """TFLM would write through a pointer that it never set."""
    model = controlled(nested(network(), everything()))
    for is_open in (False, True):
        answer = ask(library, Job(model.to_bytes(), is_open=is_open))
        assert answer.error and answer.opened == (SIZE if is_open else 0)
        assert "its file has several subgraphs, one of them maybe a controller's: open it first" in answer.log
        assert ("it has a controller, which this runtime does not follow" in answer.log) == is_open


def test_operators_in_several_subgraphs_have_levels_and_keep_their_pages(library: Path) -> None:
    model = with_own_biases(branching())
    sample = random_inputs(model, 1)
    steps: list[Step] = [step for level in LEVELS for step in [("set_level", level), ("run", sample)]]
    answer = ask(library, Job(model.to_bytes(), [("operators",), *steps, ("page_out", 2), ("resident",)]))
    assert answer.results[0] == 3 and answer.results[-3:-1] == [PAGE, 0b111], answer.log
    assert "there are nested operators in several subgraphs: their pages stay in the file" in answer.log
    outputs = {}
    for level, value in zip(LEVELS, answer.results[2:-3:2], strict=True):
        stock = materialize(model, level).to_bytes()
        outputs[level] = ask(library, Job(stock, [("run", sample)], is_open=False)).results[0]
        np.testing.assert_array_equal(value, outputs[level])
    assert len({value.tobytes() for value in outputs.values()}) == 3


def test_one_error_of_an_operator_that_makes_no_sense(library: Path) -> None:
    content = bytearray(nested(network(), everything()).to_bytes())
    at = content.index(b"filter_shape\0")
    content[at] = ord("g")
    answer = ask(library, Job(bytes(content), is_open=False))
    assert answer.error
    said = [line for line in answer.log.splitlines() if line.startswith("tflnest:")]
    assert len(said) == 1 and "its options have an unknown key" in said[0], answer.log


@pytest.mark.parametrize("name", [name for name in INT8_MODELS if "mobilenet" not in name])
def test_the_arena_is_not_larger_than_that_of_the_int8_model(name: str, library: Path) -> None:
    model = Model.load(int8_path(name))
    stock = sum(ask(library, Job(model.to_bytes(), is_open=False, records=True)).arena)
    assert stock > 0
    for levels in ((4, 8), (4, 6, 8), (2, 4, 6, 8)):
        for made in (nested(model, everything(levels)), convert(int8_path(name), levels=levels).model):
            own = sum(ask(library, Job(made.to_bytes(), records=True)).arena)
            assert 0 < own <= stock, f"{levels}: {own} bytes, {stock} with the int8 model"


def residual() -> Model:
    """A branch that is alive during an operator which needs less for itself than an earlier one."""
    net = NetworkBuilder()
    x = net.convolution(net.start((1, 16, 16, 24)), 24, name="first")
    branch = net.convolution(x, 16, name="branch")
    y = net.convolution(net.convolution(branch, 24, name="wide"), 16, name="narrow")
    total = net.activation((1, 16, 16, 16), "sum")
    net.operator("ADD", [branch, y], [total], version=2)
    return net.finish(total)


def test_scratch_leaves_room_for_what_else_is_alive(library: Path) -> None:
    model = residual()
    stock = ask(library, Job(model.to_bytes(), is_open=False, records=True)).arena
    content = nested(model, everything()).to_bytes()
    for is_open in (True, False):
        own = ask(library, Job(content, is_open=is_open, records=True)).arena
        assert 0 < sum(own) <= sum(stock)


def test_levels_that_narrow_activations_are_refused(library: Path) -> None:
    lower = narrow_levels(nested(network(1), everything()), (4, 8, 8)).to_bytes()
    answer = ask(library, Job(lower, [("set_level", 4), ("set_level", 6)]))
    assert answer.results[:2] == [LEVEL, 0]
    assert "reads activations at fewer than 8 bits, which this runtime does not do" in answer.log
    highest = narrow_levels(nested(network(1), everything()), (8, 8, 4)).to_bytes()
    answer = ask(library, Job(highest, is_open=False))
    assert answer.error and "its highest level reads activations at fewer than 8 bits" in answer.log


def test_a_file_with_a_controller_is_refused_and_runs_without_it(library: Path) -> None:
    model = controlled()
    refused = ask(library, Job(model.to_bytes(), allocates=False))
    assert refused.opened == SIZE
    assert "it has a controller, which this runtime does not follow" in refused.log
    check_exactness(library, detach(model))
