"""A model as calls of the device's kernels: what generated firmware executes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tflnest.container import Directory, Page, Segment, page_image
from tflnest.device import Call, Computed, Constant, bind, bind_nested
from tflnest.device.structures import pointers
from tflnest.errors import UnsupportedError
from tflnest.execution import Program, Step
from tflnest.graph import Operator, Subgraph, Tensor
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
        calls: In order.
        nested: Its planes and levels; None for a stock operator.
    """

    operator: Operator
    calls: tuple[Call, ...]
    nested: NestedOperator | None = None


@dataclass(frozen=True)
class DeviceProgram:
    """A model that the device can run.

    Attributes:
        model: Where it comes from.
        subgraph: What runs.
        tensors: Of the subgraph; constants, and what was folded, have `data`.
        steps: What runs, in order; operators without calls are left out.
        pages: The page images that hold the constants, for a plain model one.
        images: Their bytes.
        levels: Bit-widths of the levels, one for each page.
        identity: 32 bytes that name the model.
    """

    model: Model
    subgraph: Subgraph
    tensors: tuple[Tensor, ...]
    steps: tuple[DeviceStep, ...]
    pages: tuple[Page, ...]
    images: tuple[bytes, ...]
    levels: tuple[int, ...]
    identity: bytes

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


def device_program(model: Model) -> DeviceProgram:
    """Bind every operator of a model to the device's kernels.

    Raises:
        UnsupportedError: The device runtime lacks operators; the message names every one of them.
        FormatError: The model contradicts itself.
    """
    subgraph = model.graph.main
    directory = model.directory
    _check_variables(subgraph)
    program = _folded(subgraph)
    constants = None
    if directory is not None:
        constants = PagedConstants(directory, FilePages(model.to_bytes(), directory))
    steps, missing = [], []
    for step in program.steps:
        try:
            steps.append(_bind(step, subgraph, program.tensors, constants))
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
    if directory is None:
        return _plain(model, subgraph, tensors, kept)
    return _nested(model, directory, subgraph, tensors, kept)


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
    step: Step, subgraph: Subgraph, tensors: Sequence[Tensor], constants: PagedConstants | None
) -> DeviceStep:
    operator = step.operator
    if is_nested(operator) and constants is not None:
        nested = parse(operator, subgraph)
        return DeviceStep(operator, (bind_nested(nested, subgraph, constants.read),), nested)
    inputs = tuple(tensors[index] if index >= 0 else None for index in operator.inputs)
    outputs = tuple(tensors[index] for index in operator.outputs)
    return DeviceStep(operator, tuple(bind(Node(operator, inputs, outputs))))


def _nested(
    model: Model,
    directory: Directory,
    subgraph: Subgraph,
    tensors: tuple[Tensor, ...],
    steps: tuple[DeviceStep, ...],
) -> DeviceProgram:
    content = model.to_bytes()
    images = tuple(page_image(content, page) for page in directory.pages)
    return DeviceProgram(
        model, subgraph, tensors, steps, directory.pages, images, directory.levels, directory.identity
    )


def _plain(
    model: Model, subgraph: Subgraph, tensors: tuple[Tensor, ...], steps: tuple[DeviceStep, ...]
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
    return DeviceProgram(model, subgraph, tensors, steps, (page,), (image,), (FULL_BITS,), identity)


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
