"""Run the operators of one subgraph in order: dataflow checks, constant folding, single and batched runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest import int4
from tflnest.errors import FormatError, UnsupportedError
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.kernels.registry import Kernel
from tflnest.widths import Chosen

#: Bytes of all activations together; they keep their values between invokes.
MAX_ACTIVATION_BYTES = 1 << 30

#: Bytes of all constants, counted for every operator that reads them: kernels keep copies in their own form.
MAX_CONSTANT_BYTES = 1 << 28

#: Bytes of activations that a batched run keeps per operator; it decides how many samples go together.
BATCH_BYTES = 8 << 20

#: One value per tensor and a None at the end, where index -1 (an absent input) finds it.
Values = list[NDArray[Any] | None]

#: Prepares the kernel of an operator, given the tensors as far as they are known.
PrepareOperator = Callable[[Operator, Sequence[Tensor]], Kernel]


@dataclass(frozen=True)
class Step:
    """One operator as it is executed.

    Attributes:
        operator: What it is.
        inputs: Tensor indices, -1 where absent.
        outputs: Tensor indices.
        shapes: Of the outputs.
        finished: Tensors that no later step reads.
    """

    operator: Operator
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    finished: tuple[int, ...]


class Program:
    """The operators of a subgraph, checked, folded and prepared.

    Operators whose inputs are all constant, and SHAPE of a tensor of static shape, are computed once.

    Args:
        subgraph: What to run.
        prepare: Makes the kernels.

    Attributes:
        tensors: Of the subgraph; what was folded has `data`, and constants of type INT4 are INT8.
        steps: The operators that are left to run.

    Raises:
        FormatError: An operator reads what nobody wrote, or contradicts itself.
        UnsupportedError: An operator or a type is not supported, or a tensor is too large.
    """

    #: Bytes of activations that a batched run keeps per operator.
    batch_bytes = BATCH_BYTES

    def __init__(self, subgraph: Subgraph, prepare: PrepareOperator) -> None:
        self.subgraph = subgraph
        self.tensors: list[Tensor] = [int4.expanded(tensor) for tensor in subgraph.tensors]
        check_sizes(subgraph)
        check_dataflow(subgraph)
        self._kernels: list[Kernel] = []
        kept = [operator for operator in subgraph.operators if not self._fold(operator, prepare)]
        self.steps = self._steps(kept)

    def prepare(self, prepare: PrepareOperator) -> None:
        """Make the kernels again, for example for another level."""
        self._kernels = [prepare(step.operator, self.tensors) for step in self.steps]

    @property
    def batchable(self) -> bool:
        """Whether many samples can go through in one pass."""
        written = {index for step in self.steps for index in step.outputs}
        tensors = [*self.subgraph.inputs, *written]
        return (
            all(kernel.batchable for kernel in self._kernels)
            and all(self.tensors[index].shape[:1] == (1,) for index in tensors)
            and all(index in written for index in self.subgraph.outputs)
            and not any(
                self.tensors[index].is_variable for step in self.steps for index in step.inputs if index >= 0
            )
        )

    @property
    def samples_per_batch(self) -> int:
        """How many samples a batched run should take at a time."""
        largest = max(
            (
                sum(
                    self.tensors[i].bytes
                    for i in (*step.inputs, *step.outputs)
                    if i >= 0 and not self._constant(i)
                )
                for step in self.steps
            ),
            default=1,
        )
        return max(self.batch_bytes // max(largest, 1), 1)

    def initial_values(self) -> Values:
        """Constants, zeroed inputs and variables; None for what is computed."""
        values: Values = [tensor.data for tensor in self.tensors]
        for tensor in self.tensors:
            if tensor.data is None and (tensor.index in self.subgraph.inputs or tensor.is_variable):
                start = tensor.zero_point if tensor.is_variable else 0
                values[tensor.index] = np.full(tensor.shape, start, tensor.dtype)
        return [*values, None]

    def execute(self, values: Values, kept: bool = True) -> Chosen | None:
        """Run all operators on the shapes in the file.

        Args:
            values: As from `initial_values`, with the inputs set; filled.
            kept: Whether every tensor keeps its value; otherwise only the outputs surely do.

        Returns:
            The widths that a controller chose; None where there is none.
        """
        for step, kernel in zip(self.steps, self._kernels, strict=True):
            self._evaluate(step, kernel, values, step.shapes)
        return None

    def execute_batch(self, values: Values, samples: int) -> Chosen | None:
        """Run all operators on many samples at once; only the outputs keep their values.

        Args:
            values: As from `initial_values`, with inputs of `samples` samples; changed.
            samples: Leading dimension of the inputs.

        Returns:
            The widths that a controller chose; None where there is none.
        """
        for step, kernel in zip(self.steps, self._kernels, strict=True):
            self._evaluate(step, kernel, values, [(samples, *shape[1:]) for shape in step.shapes])
            for index in step.finished:
                values[index] = None
        return None

    def _evaluate(
        self, step: Step, kernel: Kernel, values: Values, shapes: Sequence[tuple[int, ...]]
    ) -> None:
        """Run one operator, whose outputs must have these shapes."""
        outputs = kernel.evaluate([values[index] for index in step.inputs])
        for index, shape, output in zip(step.outputs, shapes, outputs, strict=True):
            if output.shape != shape:
                raise self._wrong_shape(step, index, output.shape, shape)
            values[index] = output

    def _constant(self, index: int) -> bool:
        return index < 0 or self.tensors[index].data is not None

    def _fold(self, operator: Operator, prepare: PrepareOperator) -> bool:
        """Compute an operator now if nothing about it can change."""
        if not operator.inputs or not operator.outputs:
            return False
        if operator.name != "SHAPE" and not all(self._constant(index) for index in operator.inputs):
            return False
        kernel = prepare(operator, self.tensors)
        arrays = [self._folding_input(operator, index) for index in operator.inputs]
        for index, output in zip(operator.outputs, kernel.evaluate(arrays), strict=True):
            tensor = self.tensors[index]
            if output.shape != tensor.shape:
                raise self._wrong_shape(operator, index, output.shape, tensor.shape)
            self.tensors[index] = replace(tensor, data=output)
        return True

    def _folding_input(self, operator: Operator, index: int) -> NDArray[Any] | None:
        if index < 0:
            return None
        tensor = self.tensors[index]
        if tensor.data is None and operator.name == "SHAPE":
            return np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape)
        return tensor.data

    def _steps(self, operators: Sequence[Operator]) -> tuple[Step, ...]:
        last_use = {index: number for number, operator in enumerate(operators) for index in operator.outputs}
        last_use.update(
            {index: number for number, operator in enumerate(operators) for index in operator.inputs}
        )
        finished: dict[int, list[int]] = {}
        for index, number in last_use.items():
            if not self._constant(index) and index not in self.subgraph.outputs:
                finished.setdefault(number, []).append(index)
        return tuple(
            Step(
                operator,
                operator.inputs,
                operator.outputs,
                tuple(self.tensors[index].shape for index in operator.outputs),
                tuple(finished.get(number, ())),
            )
            for number, operator in enumerate(operators)
        )

    def _wrong_shape(
        self, step: Step | Operator, index: int, actual: tuple[int, ...], expected: tuple[int, ...]
    ) -> FormatError:
        operator = step.operator if isinstance(step, Step) else step
        return FormatError(
            f"operator {operator.label} gives tensor {self.tensors[index].label} the shape {list(actual)}, "
            f"and the file says {list(expected)}"
        )


def check_sizes(subgraph: Subgraph) -> None:
    """Refuse models that would take too much memory.

    Raises:
        UnsupportedError: The activations exceed `MAX_ACTIVATION_BYTES`, or the constants `MAX_CONSTANT_BYTES`.
    """
    tensors = subgraph.tensors
    activations = sum(tensor.bytes for tensor in tensors if tensor.data is None)
    if activations > MAX_ACTIVATION_BYTES:
        largest = max((tensor for tensor in tensors if tensor.data is None), key=lambda tensor: tensor.bytes)
        raise UnsupportedError(
            f"the activations take {activations:,} bytes, the largest is tensor {largest.label} of shape "
            f"{list(largest.shape)}; up to {MAX_ACTIVATION_BYTES:,} are supported"
        )
    constants = sum(
        tensors[index].bytes
        for operator in subgraph.operators
        for index in operator.inputs
        if index >= 0 and tensors[index].data is not None
    )
    if constants > MAX_CONSTANT_BYTES:
        raise UnsupportedError(
            f"the operators read constants of {constants:,} bytes, up to {MAX_CONSTANT_BYTES:,} are supported"
        )


def check_dataflow(subgraph: Subgraph) -> None:
    """Check that every tensor is written, once, before it is read.

    Raises:
        FormatError: An operator reads a tensor that nothing has written, or writes one that has a value.
    """
    given = {tensor.index for tensor in subgraph.tensors if tensor.is_constant or tensor.is_variable}
    known = given | set(subgraph.inputs)
    for operator in subgraph.operators:
        for index in operator.inputs:
            if index >= 0 and index not in known:
                raise FormatError(
                    f"operator {operator.label} reads tensor {subgraph.tensors[index].label}, which is neither an "
                    "input nor a constant, and which no earlier operator writes"
                )
        for index in operator.outputs:
            if index in known and not subgraph.tensors[index].is_variable:
                raise FormatError(
                    f"operator {operator.label} writes tensor {subgraph.tensors[index].label}, "
                    "which has a value already"
                )
            known.add(index)
    for index in subgraph.outputs:
        if index not in known:
            raise FormatError(
                f"no operator writes the model's output, tensor {subgraph.tensors[index].label}"
            )
