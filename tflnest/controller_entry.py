"""The TFLNEST_CONTROLLER metadata entry: which operators of a nested file a controller chooses widths for.

FORMAT.md, section 15, is the specification; the struct layouts and limits live here and nowhere else. The entry
names the controller's subgraph, the tensor that it reads, the operators and the choices; the controller itself is
an ordinary subgraph of int8 operators.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tflnest.container import Directory
from tflnest.errors import FormatError
from tflnest.graph import Graph, Operator, Subgraph, Tensor
from tflnest.nested import STOCK_OPTIONS, is_nested
from tflnest.nesting import MASTER_BITS

METADATA_NAME = "TFLNEST_CONTROLLER"
MAGIC = b"TFLNCTL\0"
VERSION = 1
HEADER = struct.Struct("<8sHHIIIHHI")
OPERATOR = struct.Struct("<I")
CHOICE = struct.Struct("<BBH")
MAX_OPERATORS = 4096
MAX_CHOICES = 64


@dataclass(frozen=True, order=True)
class Choice:
    """Widths that an operator may run with.

    Attributes:
        level: A level of the model; the operator runs the own level that it runs there.
        activation_bits: Bits at which it reads its activation, 1 to 8; they replace those of the own level.
    """

    level: int
    activation_bits: int = MASTER_BITS


@dataclass(frozen=True)
class Controller:
    """What chooses the widths of a model for each input.

    Attributes:
        subgraph: Index of the subgraph that computes the logits: the last one of the model.
        stem: The tensor of the main subgraph whose values it reads.
        operators: The operators of the main subgraph that it controls, increasing, all behind the stem.
        choices: What it chooses from, the same for every operator.
    """

    subgraph: int
    stem: int
    operators: tuple[int, ...]
    choices: tuple[Choice, ...]

    @property
    def logits(self) -> int:
        """Number of values that the controller gives: those of the first operator, then of the second, ..."""
        return len(self.operators) * len(self.choices)

    def chosen(self, logits: NDArray[np.int8]) -> NDArray[np.int64]:
        """The choice of every operator: the first with the largest logit.

        Args:
            logits: Outputs of the controller, int8 (samples, ..., ...), `self.logits` per sample.

        Returns:
            Positions in `choices`, (samples, operators).
        """
        rows = logits.reshape(-1, len(self.operators), len(self.choices))
        positions: NDArray[np.int64] = rows.argmax(axis=2)
        return positions

    def validate(self, graph: Graph, directory: Directory) -> None:
        """Check that it fits a nested model.

        Raises:
            FormatError: It does not.
        """
        _check_choices(self.choices, directory)
        main = graph.main
        if self.subgraph != len(graph.subgraphs) - 1 or self.subgraph < 1:
            raise _wrong(
                f"its subgraph is {self.subgraph}, and must be the last of {len(graph.subgraphs)}, not the first"
            )
        if not 0 <= self.stem < len(main.tensors):
            raise _wrong(f"its stem is tensor {self.stem}, and there are {len(main.tensors)}")
        stem = main.tensors[self.stem]
        ready = _written_by(main, stem)
        _check_operators(self.operators, main, ready)
        _check_subgraph(graph.subgraphs[self.subgraph], stem, self.logits)


def encode(controller: Controller) -> bytes:
    """The bytes of the metadata entry."""
    counts = (len(controller.operators), len(controller.choices))
    header = HEADER.pack(MAGIC, VERSION, HEADER.size, 0, controller.subgraph, controller.stem, *counts, 0)
    operators = [OPERATOR.pack(index) for index in controller.operators]
    choices = [CHOICE.pack(choice.level, choice.activation_bits, 0) for choice in controller.choices]
    return b"".join([header, *operators, *choices])


def decode(content: bytes) -> Controller:
    """Read the metadata entry.

    Raises:
        FormatError: It is truncated, corrupt or of an unknown version.
    """
    if len(content) < HEADER.size:
        raise _wrong(f"it has {len(content)} bytes, its header alone takes {HEADER.size}")
    magic, version, header_size, flags, subgraph, stem, operators, choices, reserved = HEADER.unpack_from(
        content
    )
    if magic != MAGIC:
        raise _wrong(f"it starts with {magic!r}, expected {MAGIC!r}")
    if version != VERSION or header_size != HEADER.size or flags or reserved:
        raise FormatError(
            f"the {METADATA_NAME} entry has version {version}, a header of {header_size} bytes and flags {flags:#x}; "
            f"this tflnest reads version {VERSION}",
            "update tflnest",
        )
    if not 1 <= operators <= MAX_OPERATORS or not 1 <= choices <= MAX_CHOICES:
        raise _wrong(f"it claims {operators} operators and {choices} choices")
    expected = HEADER.size + operators * OPERATOR.size + choices * CHOICE.size
    if len(content) != expected:
        raise _wrong(f"it has {len(content):,} bytes, its counts ask for {expected:,}")
    start = HEADER.size + operators * OPERATOR.size
    rows = list(CHOICE.iter_unpack(content[start:]))
    if any(row[2] for row in rows):
        raise FormatError(
            f"the {METADATA_NAME} entry uses reserved fields", "the file may be newer than this tflnest"
        )
    indices = tuple(index for (index,) in OPERATOR.iter_unpack(content[HEADER.size : start]))
    return Controller(subgraph, stem, indices, tuple(Choice(level, bits) for level, bits, _ in rows))


def has_filter(operator: Operator) -> bool:
    """Whether an operator is one whose widths can be chosen: one with a filter, nested or not."""
    return is_nested(operator) or operator.name in STOCK_OPTIONS


def _wrong(what: str) -> FormatError:
    return FormatError(f"the {METADATA_NAME} entry makes no sense: {what}")


def _check_choices(choices: Sequence[Choice], directory: Directory) -> None:
    levels = directory.levels
    for choice in choices:
        if choice.level not in levels or not 1 <= choice.activation_bits <= MASTER_BITS:
            raise _wrong(
                f"a choice has level {choice.level} and activations of {choice.activation_bits} bits; "
                f"the levels are {', '.join(map(str, levels))}, activations have 1 to {MASTER_BITS} bits"
            )
    if len(set(choices)) != len(choices):
        raise _wrong("it has a choice twice")


def _written_by(main: Subgraph, stem: Tensor) -> int:
    """Operators that have run when the stem has its values."""
    if stem.index in main.inputs:
        return 0
    for operator in main.operators:
        if stem.index in operator.outputs:
            return operator.index + 1
    raise _wrong(f"its stem, tensor {stem.label}, is no activation")


def _check_operators(operators: Sequence[int], main: Subgraph, ready: int) -> None:
    if list(operators) != sorted(set(operators)):
        raise _wrong("its operators do not increase")
    for index in operators:
        if not ready <= index < len(main.operators) or not has_filter(main.operators[index]):
            raise _wrong(
                f"it controls operator {index}, which is no operator with a filter behind its stem "
                f"({ready} to {len(main.operators) - 1})"
            )
        operator = main.operators[index]
        activation = main.tensors[operator.inputs[0]] if operator.inputs else None
        if activation is None or activation.type != "INT8" or activation.is_constant:
            raise _wrong(f"the input of operator {operator.label}, which it controls, is no int8 activation")


def _depends(subgraph: Subgraph) -> bool:
    """Whether an operator writes the output, and the values of the input can change it: a shape can't."""
    varying = {index for index in subgraph.inputs if not subgraph.tensors[index].is_constant}
    written: set[int] = set()
    for operator in subgraph.operators:
        if operator.name != "SHAPE" and varying.intersection(operator.inputs):
            varying.update(operator.outputs)
            written.update(operator.outputs)
    return subgraph.outputs[0] in written


def _check_subgraph(subgraph: Subgraph, stem: Tensor, logits: int) -> None:
    if any(is_nested(operator) for operator in subgraph.operators):
        raise _wrong("its subgraph has nested operators")
    if any(tensor.is_variable for tensor in subgraph.tensors):
        raise _wrong("its subgraph has variables")
    if len(subgraph.inputs) != 1 or len(subgraph.outputs) != 1:
        raise _wrong(
            f"its subgraph has {len(subgraph.inputs)} inputs and {len(subgraph.outputs)} outputs, one each expected"
        )
    if not _depends(subgraph):
        raise _wrong("what its subgraph gives does not depend on the stem")
    (source,), (output,) = subgraph.input_tensors(), subgraph.output_tensors()
    given = [(item.type, item.shape, item.scale, item.zero_point) for item in (source, stem)]
    if given[0] != given[1] or stem.type != "INT8":
        raise _wrong(
            f"its subgraph reads {given[0]}, and the stem is {given[1]}: type, shape, scale, zero point"
        )
    if output.type != "INT8" or output.size != logits:
        raise _wrong(
            f"its subgraph gives {output.size:,} values of {output.type}, {logits:,} of INT8 expected"
        )
