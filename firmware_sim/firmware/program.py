"""A model as calls of the device's kernels: what generated firmware executes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tflnest.container import Page, Segment, page_image
from tflnest.controller_entry import Controller
from tflnest.device import Call, Computed, Constant, bind, bind_nested
from tflnest.device.narrowing import narrowed_calls
from tflnest.device.structures import pointers
from tflnest.dynamic import Assembly, assemble
from tflnest.errors import UnsupportedError, UsageError
from tflnest.execution import Program, Step
from tflnest.graph import Graph, Operator, Subgraph, Tensor
from tflnest.interpreter import FULL_BITS
from tflnest.kernels import Kernel, Node, prepare
from tflnest.model import Model
from tflnest.nested import NestedOperator, is_nested, parse
from tflnest.pages import FilePages, PagedConstants


@dataclass(frozen=True)
class DeviceStep:
    """One operator with its kernel calls.

    Attributes:
        operator: What it is in the file.
        calls: In order; the first one narrows the activation where the operator may read it at fewer bits.
        nested: Its planes and levels; None for a stock operator.
    """

    operator: Operator
    calls: tuple[Call, ...]
    nested: NestedOperator | None = None


@dataclass(frozen=True)
class Choosing:
    """What a controller decides.

    Attributes:
        after: Operator behind which the choice is made: the last one of the controller.
        logits: Tensor that it reads.
        operators: The operators that it controls.
        positions: For each of them, the own level of each choice; 0 for a stock operator.
        activation_bits: Of each choice.
    """

    after: int
    logits: int
    operators: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]
    activation_bits: tuple[int, ...]


@dataclass(frozen=True)
class DeviceProgram:
    """A model that the device can run.

    Attributes:
        model: Where it comes from.
        subgraph: What runs, with the controller's operators where there is one.
        graph: The same as it is planned: narrowed activations are outputs of the operators that read them.
        tensors: Of the subgraph; constants, and what was folded, have `data`.
        steps: What runs, in order; operators without calls are left out.
        pages: The page images that hold the constants, for a plain model one.
        images: Their bytes.
        levels: Bit-widths of the levels, one for each page.
        identity: 32 bytes that name the model.
        choosing: What a controller decides; None where none does.
    """

    model: Model
    subgraph: Subgraph
    graph: Graph
    tensors: tuple[Tensor, ...]
    steps: tuple[DeviceStep, ...]
    pages: tuple[Page, ...]
    images: tuple[bytes, ...]
    levels: tuple[int, ...]
    identity: bytes
    choosing: Choosing | None = None

    @property
    def nested_steps(self) -> tuple[DeviceStep, ...]:
        """The steps with levels of their own."""
        return tuple(step for step in self.steps if step.nested is not None)

    @cached_property
    def places(self) -> dict[int, tuple[int, int]]:
        """Page and position among its segments of every buffer that lies in a page."""
        return {
            segment.buffer: (page.index, position)
            for page in self.pages
            for position, segment in enumerate(page.segments)
        }

    def is_paged(self, tensor: int) -> bool:
        """Whether the values of a constant tensor lie in a page; folded ones do not."""
        return self.subgraph.tensors[tensor].is_constant

    def buffer_of(self, tensor: int) -> int:
        """The buffer of a constant tensor of the file."""
        return self.subgraph.tensors[tensor].buffer


def device_program(model: Model, dynamic: bool | None = None) -> DeviceProgram:
    """Bind every operator of a model to the device's kernels.

    Args:
        model: The model.
        dynamic: Whether its controller chooses widths; None: where it has one.

    Raises:
        UnsupportedError: The device runtime lacks operators; the message names every one of them.
        UsageError: A controller is asked for, and the model has none.
        FormatError: The model contradicts itself.
    """
    directory = model.directory
    controller = model.controller if dynamic is None or dynamic else None
    if dynamic and controller is None:
        raise UsageError("the model has no controller that could choose widths")
    _check_variables(model.graph.main)
    assembly = assemble(model.graph, controller, _narrowing_operators(model.graph.main, controller))
    subgraph, targets = assembly.subgraph, _narrowing_targets(model.graph, assembly)
    program = _folded(subgraph)
    constants = None
    if directory is not None:
        constants = PagedConstants(directory, FilePages(model.to_bytes(), directory))
    steps, missing = [], []
    for step in program.steps:
        try:
            steps.append(_bind(step, subgraph, program.tensors, constants, targets))
        except UnsupportedError as error:
            missing.append(error.message)
    if missing:
        count = f"{len(missing)} operator{'s' if len(missing) > 1 else ''}"
        raise UnsupportedError(
            f"the device runtime lacks {count} of the model:\n" + "\n".join(f"  {text}" for text in missing),
            "replace them in the model, or fold them into their neighbours",
        )
    tensors = tuple(program.tensors)
    _check_interface(subgraph, tensors)
    kept = tuple(step for step in steps if step.calls)
    graph = _planned(model.graph, subgraph, targets)
    if directory is None:
        return _plain(model, subgraph, graph, tensors, kept)
    content = model.to_bytes()
    images = tuple(page_image(content, page) for page in directory.pages)
    return DeviceProgram(
        model,
        subgraph,
        graph,
        tensors,
        kept,
        directory.pages,
        images,
        directory.levels,
        directory.identity,
        None if controller is None else _choosing(model, controller, assembly),
    )


def _narrowing_operators(main: Subgraph, controller: Controller | None) -> set[int]:
    """Operators that may read their activation at fewer bits."""
    found = {
        operator.index
        for operator in main.operators
        if is_nested(operator) and min(parse(operator, main).activation_bits) < FULL_BITS
    }
    if controller is not None and min(choice.activation_bits for choice in controller.choices) < FULL_BITS:
        found.update(controller.operators)
    return found


def _narrowing_targets(graph: Graph, assembly: Assembly) -> dict[int, int]:
    """The tensor that each of them narrows into: its activation itself where nobody reads that later."""
    subgraph = assembly.subgraph
    last = {index: operator.index for operator in subgraph.operators for index in operator.inputs}
    kept = set(subgraph.outputs)
    sources = {operator.index: operator.inputs[0] for operator in subgraph.operators if operator.inputs}
    return {
        index: sources[index]
        if last[sources[index]] == index and sources[index] not in kept
        else assembly.spares[index]
        for index in assembly.spares
    }


def _planned(graph: Graph, subgraph: Subgraph, targets: Mapping[int, int]) -> Graph:
    """The graph whose lifetimes are those of everything that lies in the arena."""

    def with_target(operator: Operator) -> Operator:
        target = targets.get(operator.index)
        if target is None or target in operator.inputs:
            return operator
        return replace(operator, outputs=(*operator.outputs, target))

    operators = tuple(with_target(operator) for operator in subgraph.operators)
    return replace(graph, subgraphs=(replace(subgraph, operators=operators), *graph.subgraphs[1:]))


def _choosing(model: Model, controller: Controller, assembly: Assembly) -> Choosing:
    main, levels = model.graph.main, model.directory.levels if model.directory is not None else ()
    writers = [operator for operator in assembly.subgraph.operators if assembly.logits in operator.outputs]
    rows = []
    for index in controller.operators:
        operator = main.operators[index]
        nested = parse(operator, main) if is_nested(operator) else None
        rows.append(
            tuple(
                0 if nested is None else nested.model_levels[levels.index(choice.level)]
                for choice in controller.choices
            )
        )
    assert assembly.logits is not None
    return Choosing(
        after=writers[0].index,
        logits=assembly.logits,
        operators=controller.operators,
        positions=tuple(rows),
        activation_bits=tuple(choice.activation_bits for choice in controller.choices),
    )


def _check_variables(subgraph: Subgraph) -> None:
    for tensor in subgraph.tensors:
        if tensor.is_variable:
            raise UnsupportedError(f"tensor {tensor.label} is a variable, and the device runtime has none")


def _check_interface(subgraph: Subgraph, tensors: Sequence[Tensor]) -> None:
    """Inputs and outputs need a place in SRAM."""
    for what, indices in (("input", subgraph.inputs), ("output", subgraph.outputs)):
        if not indices:
            raise UnsupportedError(f"the model has no {what}, and firmware needs one")
        for index in indices:
            if tensors[index].data is not None or not tensors[index].bytes:
                state = "constant" if tensors[index].data is not None else "empty"
                raise UnsupportedError(f"the {what} {tensors[index].label} is {state}")


def _folded(subgraph: Subgraph) -> Program:
    """The operators that are left when everything that is constant is computed."""
    tensors: list[Sequence[Tensor]] = []

    def make(operator: Operator, known: Sequence[Tensor]) -> Kernel:
        tensors.append(known)
        inputs = tuple(known[index] if index >= 0 else None for index in operator.inputs)
        return prepare(Node(operator, inputs, tuple(known[index] for index in operator.outputs)))

    return Program(subgraph, make)


def _bind(
    step: Step,
    subgraph: Subgraph,
    tensors: Sequence[Tensor],
    constants: PagedConstants | None,
    targets: Mapping[int, int],
) -> DeviceStep:
    operator = step.operator
    target = targets.get(operator.index)
    if is_nested(operator) and constants is not None:
        nested = parse(operator, subgraph)
        call = bind_nested(nested, subgraph, constants.read, narrows=target is not None)
        return DeviceStep(operator, _narrowed((call,), operator, tensors, target), nested)
    inputs = tuple(tensors[index] if index >= 0 else None for index in operator.inputs)
    outputs = tuple(tensors[index] for index in operator.outputs)
    calls = tuple(bind(Node(operator, inputs, outputs)))
    return DeviceStep(operator, _narrowed(calls, operator, tensors, target))


def _narrowed(
    calls: tuple[Call, ...], operator: Operator, tensors: Sequence[Tensor], target: int | None
) -> tuple[Call, ...]:
    """The calls behind one that narrows; how many bits there are is decided when they run."""
    if target is None:
        return calls
    return narrowed_calls(calls, tensors[operator.inputs[0]], 1, target)


def _plain(
    model: Model,
    subgraph: Subgraph,
    graph: Graph,
    tensors: tuple[Tensor, ...],
    steps: tuple[DeviceStep, ...],
) -> DeviceProgram:
    """A model without levels: the constants that its kernels read, as one page."""
    buffers: dict[int, bytes] = {}
    for step in steps:
        for index in _constants(step, tensors):
            data = subgraph.tensors[index].data
            if data is not None:
                buffers.setdefault(subgraph.tensors[index].buffer, data.tobytes())
    segments = [Segment(buffer, 0, len(content)) for buffer, content in buffers.items()]
    image = b"".join(
        content.ljust(segment.image_size, b"\0")
        for segment, content in zip(segments, buffers.values(), strict=True)
    )
    page = Page(0, FULL_BITS, len(image), zlib.crc32(image), tuple(segments))
    identity = hashlib.sha256(model.to_bytes()).digest()
    return DeviceProgram(model, subgraph, graph, tensors, steps, (page,), (image,), (FULL_BITS,), identity)


def values_of(call: Call) -> Iterator[Constant | Computed]:
    """Everything constant that the parameters and filters of a call point to."""
    yield from pointers(call.params)
    for level in call.filters:
        yield from pointers(level.filter)


def _constants(step: DeviceStep, tensors: Sequence[Tensor]) -> Iterator[int]:
    """The constant tensors that a step reads."""
    for call in step.calls:
        yield from (value.tensor for value in values_of(call) if isinstance(value, Constant))
        yield from (argument.tensor for argument in call.inputs if tensors[argument.tensor].data is not None)
