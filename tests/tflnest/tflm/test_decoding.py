"""Nested filters for stock kernels, in the wheel's own interpreter: levels, switches, pages, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters.exporting.planes import export_planes
from converters.recipe import load_recipe
from tests.exactness import random_inputs as any_inputs
from tests.models import everything, nested, network, random_inputs, with_own_biases
from tests.shared import INT8_MODELS, int8_path
from tests.tflnest.tflm.paging import (
    ARGUMENT,
    IN_USE,
    LEVEL,
    PAGE,
    RESIDENT,
    SIZE,
    check_come_and_go,
    come_and_go,
)
from tests.tflnest.tflm.wheel import Answer, Job, Step, ask
from tflnest.container import Page, page_image
from tflnest.interpreter import Interpreter
from tflnest.lookup_table import DECODE
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.nested import nested_operators
from tflnest.plane_decoding import HEADER, METADATA_NAME

LEVELS = (8, 4, 6, 8, 4)


def decoded_job(model: Model, steps: list[Step], **settings: object) -> Job:
    return replace(Job(model.to_bytes(), steps, functions="tflnest_decoded"), **settings)  # type: ignore[arg-type]


def run(library: Path, model: Model, steps: list[Step], **settings: object) -> Answer:
    answer = ask(library, decoded_job(model, steps, **settings))
    assert answer.error == "", answer.log
    return answer


def operator_outputs(model: Model) -> list[int]:
    """Of all operators but decoders, in order."""
    operators = (item for item in model.graph.main.operators if item.name != DECODE)
    return [index for item in operators for index in item.outputs]


def expected(content: bytes, level: int, sample: np.ndarray) -> list[np.ndarray]:
    """Outputs of all operators of a nested model."""
    reference = Interpreter(model_content=content, level=level)
    reference.allocate_tensors()
    reference.set_tensor(reference.get_input_details()[0]["index"], sample)
    reference.invoke()
    return [reference.get_tensor(index) for index in operator_outputs(reference.model)]


def check_exactness(
    library: Path, model: Model, levels: tuple[int, ...] = LEVELS, highest: int | None = None
) -> Model:
    """Every operator at every level and switch; returns the file."""
    made = export_planes(model, highest).model
    tensors = operator_outputs(made)
    samples = [row[0] for row in any_inputs(made.to_bytes(), len(levels), seed=3)]
    steps = [
        step
        for level, sample in zip(levels, samples, strict=True)
        for step in [("set_level", level), ("run", sample)]
    ]
    answer = run(library, made, steps, tensors=tensors)
    assert answer.opened == 0
    for number, (level, sample) in enumerate(zip(levels, samples, strict=True)):
        status, values = answer.results[2 * number : 2 * number + 2]
        assert status == 0, answer.log
        for index, value in zip(tensors, expected(model.to_bytes(), level, sample), strict=True):
            np.testing.assert_array_equal(values[index].reshape(value.shape), value, f"{level}: {index}")
    return made


#: Every public model in the default scheme; those that take long, and most of the others in the other one, are slow.
PUBLIC = [
    pytest.param(
        name,
        scheme,
        marks=pytest.mark.slow if "mobilenet" in name or (scheme != "bucket" and "kws" not in name) else (),
    )
    for scheme in ("bucket", "compensated")
    for name in INT8_MODELS
]


@pytest.mark.parametrize(("name", "scheme"), PUBLIC)
def test_shared_models_at_every_level_and_switch(name: str, scheme: str, library: Path) -> None:
    model = with_own_biases(Model.load(int8_path(name)), everything((4, 6, 8), scheme))
    check_exactness(library, model, (8, 4, 6) if "mobilenet" in name else LEVELS)


@pytest.mark.parametrize("scheme", ["bucket", "compensated"])
def test_all_kinds_of_operators_at_every_level(scheme: str, library: Path) -> None:
    check_exactness(library, nested(network(), everything((2, 3, 5, 8), scheme)), (8, 2, 3, 5, 8))
    made = check_exactness(
        library, with_own_biases(network(), everything((2, 3, 5, 8), scheme)), (5, 2, 3), 5
    )
    assert [len(item.outputs) for item in made.graph.main.operators if item.name == DECODE] == [2] * 5


def test_operators_with_other_levels_than_the_model(library: Path) -> None:
    """The preset leaves filters flat, and rules may give an operator fewer levels."""
    recipe = load_recipe("default").with_options(levels=(4, 6, 8), base_bits=5)
    check_exactness(library, nested(network(), recipe))


def test_operators_have_levels_of_their_own(library: Path) -> None:
    model = with_own_biases(network())
    sample = random_inputs(model, 1)
    reference = Interpreter(model=model, level=4)
    scopes = list(reference.get_levels())
    reference.set_level({f"^{scopes[2]}$": 8})
    steps = [
        ("operators",),
        ("set_level", 4),
        ("set_operator_level", 2, 8),
        ("operator_level", 2),
        ("operator_level", 1),
        ("operator_level", 99),
        ("set_operator_level", 2, 5),
        ("set_operator_level", 50, 4),
        ("set_level", 5),
        ("run", sample),
    ]
    answer = run(library, export_planes(model).model, steps)
    assert answer.results[:9] == [len(scopes), 0, 0, 8, 4, 0, LEVEL, ARGUMENT, LEVEL]
    np.testing.assert_array_equal(answer.results[9], reference.run(sample))
    assert "tflnest: operator 2 has no level of 5 bits" in answer.log
    assert "tflnest: the model has no level of 5 bits" in answer.log


def test_a_level_is_chosen_before_tensors_are_allocated(library: Path) -> None:
    model = with_own_biases(network())
    made, sample = export_planes(model).model, random_inputs(model, 1)
    first: list[Step] = [("set_level", 6), ("operators",), ("page_out", 1), ("page_out", 2), ("set_level", 3)]
    answer = run(library, made, [("operator_level", 0), ("set_level", 8), ("run", sample)], first=first)
    assert answer.results[:7] == [0, 0, IN_USE, 0, LEVEL, 6, RESIDENT]
    np.testing.assert_array_equal(answer.results[7], Interpreter(model=model, level=6).run(sample))


def test_filters_are_decoded_into_memory_of_their_own(library: Path) -> None:
    """Of the size that the report names, and the arena is that of the int8 model, but for what TFLM keeps of operators."""
    model = with_own_biases(network())
    made = export_planes(model)
    sample, size = random_inputs(model, 1), made.decoded_bytes + 32
    answer = run(library, made.model, [("set_level", 4), ("run", sample)], decoding_bytes=size)
    np.testing.assert_array_equal(answer.results[1], Interpreter(model=model, level=4).run(sample))
    beside = run(library, made.model, [], records=True, decoding_bytes=size).arena[0]
    inside = run(library, made.model, [], records=True).arena[0]
    stock = run(library, materialize(model), [], records=True, is_open=False).arena[0]
    assert beside == stock < inside


def test_without_opening_the_highest_level_runs(library: Path) -> None:
    model = with_own_biases(network())
    sample = random_inputs(model, 1)
    for level in (8, 6):
        made = export_planes(model, level).model
        answer = run(library, made, [("set_level", 4), ("run", sample)], is_open=False)
        assert answer.results[0] == ARGUMENT
        np.testing.assert_array_equal(answer.results[1], Interpreter(model=model, level=level).run(sample))


# ----------------------------------------------------------------------------------------------- pages


def pages_of(model: Model) -> tuple[Page, ...]:
    assert model.directory is not None
    return model.directory.pages


def without_planes(model: Model, made: Model, first: int) -> Model:
    """The file with planes and biases from an own level on left out, or wiped where that is negative."""
    changed = made.copy()
    graph = changed.graph.main
    decoders = [item for item in graph.operators if item.name == DECODE]
    for decoder, (_, own) in zip(decoders, nested_operators(model.graph), strict=True):
        for position, parts in ((0, own.planes), (2, own.biases)):
            kept = sum(part.size for part in parts[: abs(first)])
            tensor = graph.tensors[decoder.inputs[position]]
            data = np.array(tensor.data)
            data[kept:] = 0x5A
            changed.tree.buffers[tensor.buffer].data = data if first < 0 else data[:kept]
            changed.tree.subgraphs[0].tensors[tensor.index].shape = [data.size if first < 0 else kept]
    changed.changed()
    return Model.from_bytes(changed.to_bytes())


def test_pages_come_and_go(library: Path) -> None:
    model = with_own_biases(network())
    content, sample = model.to_bytes(), random_inputs(model, 1)
    images = [page_image(content, page) for page in pages_of(model)]
    answer = run(library, export_planes(model).model, come_and_go(images, sample))
    check_come_and_go(answer, model, sample)


def test_a_part_bit_level_reads_nothing_of_the_lower_planes(library: Path) -> None:
    """Spoiled lower planes change nothing, until an image takes their place."""
    model = with_own_biases(network())
    made = without_planes(model, export_planes(model).model, -1)
    sample = random_inputs(model, 1)
    images = [page_image(model.to_bytes(), page) for page in pages_of(model)]
    steps: list[Step] = [("set_level", 4), ("run", sample), ("page_out", 1), ("page_out", 2)]
    steps += [("page_in", 1, images[1]), ("page_in", 2, images[2]), ("set_level", 8), ("run", sample)]
    answer = run(library, made, steps)
    assert [item for item in answer.results if isinstance(item, int)] == [0] * 6
    for level, value in ((4, answer.results[1]), (8, answer.results[7])):
        np.testing.assert_array_equal(value, Interpreter(model=model, level=level).run(sample))


def test_a_file_without_its_lower_planes_runs_what_it_has(library: Path) -> None:
    model = with_own_biases(network())
    sample = random_inputs(model, 1)
    made = without_planes(model, export_planes(model).model, 1)
    image = page_image(model.to_bytes(), pages_of(model)[1])
    steps: list[Step] = [
        ("resident",),
        ("run", sample),
        ("set_level", 6),
        ("page_in", 1, None),
        ("page_in", 1, image),
        ("set_level", 6),
        ("run", sample),
    ]
    answer = run(library, made, steps)
    assert [item for item in answer.results if isinstance(item, int)] == [1, RESIDENT, PAGE, 0, 0]
    for level, value in ((4, answer.results[1]), (6, answer.results[6])):
        np.testing.assert_array_equal(value, Interpreter(model=model, level=level).run(sample))
    refused = ask(library, decoded_job(made, [], first=[("set_level", 8)]))
    assert refused.error and "its level needs pages that are not resident" in refused.log


# ----------------------------------------------------------------------------------------------- hostile


def edited(made: Model, what: str, place: int, value: int) -> Model:
    """The file with a byte of the first decoder's encoded or ancillary data, or of the table of pages, replaced."""
    changed = made.copy()
    if what == "pages":
        (entry,) = [item for item in changed.tree.metadata if item.name == METADATA_NAME.encode()]
        buffer = changed.tree.buffers[entry.buffer]
    else:
        decoder = next(item for item in changed.graph.main.operators if item.name == DECODE)
        buffer = changed.tree.buffers[changed.graph.main.tensors[decoder.inputs[1]].buffer]
    data = np.array(buffer.data)
    data[place] = value
    buffer.data = data
    changed.changed()
    return Model.from_bytes(changed.to_bytes())


ROW = HEADER.size
DAMAGED = [
    (4, 2, "another version"),
    (16, 3, "its encoded data has another size"),
    (ROW + 8, 200, "leads beyond the pages of its file"),
]


@pytest.mark.parametrize(("place", "value", "message"), DAMAGED)
def test_one_message_for_ancillary_data_that_makes_no_sense(
    place: int, value: int, message: str, library: Path
) -> None:
    made = edited(export_planes(with_own_biases(network())).model, "ancillary", place, value)
    answer = ask(library, decoded_job(made, []))
    said = [line for line in answer.log.splitlines() if line.startswith("tflnest:")]
    assert answer.error and len(said) == 1 and message in said[0], answer.log
    assert said[0].startswith("tflnest: TFLM_DECODE with an output of ")


def test_constants_that_are_shorter_than_they_say(library: Path) -> None:
    for is_open in (True, False):
        made = export_planes(with_own_biases(network())).model.copy()
        decoder = [item for item in made.graph.main.operators if item.name == DECODE][-1]
        tensor = made.graph.main.tensors[decoder.inputs[0]]
        data = np.array(tensor.data)
        made.tree.buffers[tensor.buffer].data = data[:-4]
        made.changed()
        answer = ask(library, replace(decoded_job(made, []), is_open=is_open))
        if is_open:  # what follows in the file is read instead: not beyond its end
            assert answer.error == ""
        else:
            assert answer.error and "larger than its buffer in the file" in answer.log


def test_a_file_that_cannot_be_opened(library: Path) -> None:
    made = edited(export_planes(nested(network())).model, "pages", 8, 9)
    answer = ask(library, decoded_job(made, [], allocates=False))
    assert answer.opened == SIZE
    assert "tflnest: the file cannot be opened: its table of pages has another version" in answer.log


def test_a_file_that_is_none_of_these(library: Path) -> None:
    answer = ask(library, decoded_job(nested(network()), [], allocates=False))
    assert answer.opened == SIZE and "it was not exported for tflm-decode" in answer.log
