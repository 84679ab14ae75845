"""Run a model whose controller chooses, for every input, the widths of its operators.

The controller's operators are put behind the one that writes the stem, so that they are planned, prepared and run as
all others are. Once the logits are known, each controlled operator runs the samples of every choice together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.controller_entry import Controller
from tflnest.execution import PrepareOperator, Program, Step, Values
from tflnest.graph import Graph, Operator, Subgraph
from tflnest.kernels.registry import Kernel
from tflnest.nested import NestedOperator
from tflnest.nesting import MASTER_BITS
from tflnest.widths import Chosen


@dataclass(frozen=True)
class Assembly:
    """A main subgraph as it is run.

    Attributes:
        subgraph: With the operators of the controller, whose tensors and indices follow the main subgraph's own,
            and with a tensor for every narrowed activation.
        logits: The controller's output; None where no controller runs.
        spares: For each operator that may read its activation at fewer bits, the tensor that takes it.
    """

    subgraph: Subgraph
    logits: int | None
    spares: dict[int, int]


def assemble(graph: Graph, controller: Controller | None, narrowing: Collection[int]) -> Assembly:
    """Put a controller into the main subgraph.

    Args:
        graph: The model.
        controller: Its controller; None to run without one.
        narrowing: Operators that may read their activation at fewer bits.
    """
    main = graph.main
    tensors, operators = list(main.tensors), list(main.operators)
    logits = None
    if controller is not None:
        inner = graph.subgraphs[controller.subgraph]
        places = {index: len(tensors) + index for index in range(len(inner.tensors))}
        places |= {-1: -1, inner.inputs[0]: controller.stem}
        tensors += [replace(tensor, index=len(main.tensors) + tensor.index) for tensor in inner.tensors]
        moved = [_moved(operator, len(main.operators), places) for operator in inner.operators]
        start = stem_written(main, controller.stem)
        operators[start:start] = moved
        logits = places[inner.outputs[0]]
    spares = {}
    for index in sorted(narrowing):
        activation = main.tensors[main.operators[index].inputs[0]]
        spares[index] = len(tensors)
        tensors.append(replace(activation, index=len(tensors), name="", data=None))
    return Assembly(replace(main, tensors=tuple(tensors), operators=tuple(operators)), logits, spares)


def stem_written(main: Subgraph, stem: int) -> int:
    """Number of operators that have run when the stem has its values."""
    written = [position + 1 for position, operator in enumerate(main.operators) if stem in operator.outputs]
    return written[0] if written else 0


def _moved(operator: Operator, first: int, places: dict[int, int]) -> Operator:
    return replace(
        operator,
        index=first + operator.index,
        inputs=tuple(places[index] for index in operator.inputs),
        outputs=tuple(places[index] for index in operator.outputs),
    )


#: Turns logits, samples first, into what runs.
Choose = Callable[[NDArray[np.int8]], Chosen]

#: Gives the kernel of an operator with weights and activation of so many bits.
PrepareWidths = Callable[[Operator, int, int], Kernel]


class DynamicProgram(Program):
    """A program whose controlled operators run at widths of their own for every sample; see `Program`.

    Args:
        assembly: With a controller.
        controlled: Indices of the operators that it controls.
        prepare: Makes the kernels of all others, and a kernel for the checks of the controlled ones.
        prepare_widths: Makes the kernels of the controlled ones.
        choose: Reads the logits.
    """

    def __init__(
        self,
        assembly: Assembly,
        controlled: Sequence[int],
        prepare: PrepareOperator,
        prepare_widths: PrepareWidths,
        choose: Choose,
    ) -> None:
        self._logits = assembly.logits
        self._columns = {index: column for column, index in enumerate(controlled)}
        self._prepare_widths = prepare_widths
        self._choose = choose
        super().__init__(assembly.subgraph, prepare)

    def execute(self, values: Values, kept: bool = True) -> Chosen:
        """Run all operators on the shapes in the file; returns what was chosen. See `Program`."""
        return self._run(values, None)

    def execute_batch(self, values: Values, samples: int) -> Chosen:
        """Run all operators on many samples at once; returns what was chosen. See `Program`."""
        return self._run(values, samples)

    def _run(self, values: Values, samples: int | None) -> Chosen:
        chosen: Chosen | None = None
        for step, kernel in zip(self.steps, self._kernels, strict=True):
            shapes = step.shapes if samples is None else [(samples, *shape[1:]) for shape in step.shapes]
            column = self._columns.get(step.operator.index)
            if column is None or chosen is None:
                self._evaluate(step, kernel, values, shapes)
            else:
                self._evaluate_chosen(step, values, shapes, chosen, column)
            if self._logits in step.outputs:
                logits = values[step.outputs[step.outputs.index(self._logits)]]
                assert logits is not None
                chosen = self._choose(logits)
            if samples is not None:
                for index in step.finished:
                    values[index] = None
        assert chosen is not None, "the controller writes its logits"
        return chosen

    def _evaluate_chosen(
        self, step: Step, values: Values, shapes: Sequence[tuple[int, ...]], chosen: Chosen, column: int
    ) -> None:
        """Run one operator, the samples of each choice together."""
        inputs = [values[index] for index in step.inputs]
        levels, bits = chosen.levels[:, column], chosen.activation_bits[:, column]
        pairs, groups = np.unique(np.stack([levels, bits], axis=1), axis=0, return_inverse=True)
        if len(pairs) == 1:
            kernel = self._prepare_widths(step.operator, int(pairs[0, 0]), int(pairs[0, 1]))
            self._evaluate(step, kernel, values, shapes)
            return
        outputs = [
            np.empty(shape, self.tensors[index].dtype)
            for index, shape in zip(step.outputs, shapes, strict=True)
        ]
        varying = [index >= 0 and self.tensors[index].data is None for index in step.inputs]
        for number, (level, width) in enumerate(pairs):
            rows = np.flatnonzero(groups.reshape(-1) == number)
            arrays: list[NDArray[Any] | None] = [
                array[rows] if varies and array is not None else array
                for array, varies in zip(inputs, varying, strict=True)
            ]
            kernel = self._prepare_widths(step.operator, int(level), int(width))
            for output, result in zip(outputs, kernel.evaluate(arrays), strict=True):
                output[rows] = result
        for index, output in zip(step.outputs, outputs, strict=True):
            values[index] = output


def choose(
    controller: Controller,
    logits: NDArray[np.int8],
    nested: Mapping[int, NestedOperator],
    present: Mapping[int, int],
    resident: Sequence[int],
    levels: Sequence[int],
) -> Chosen:
    """What a controller chose, limited to what may run.

    Args:
        controller: The controller.
        logits: Its output, samples first.
        nested: The nested operators of the model, by index.
        present: The own level that each of them is set to: none runs at a higher one.
        resident: The levels of the model whose pages are resident.
        levels: All levels of the model.
    """
    wanted = np.full((len(controller.operators), len(controller.choices)), MASTER_BITS, np.int8)
    allowed = wanted.copy()
    for row, index in enumerate(controller.operators):
        item = nested.get(index)
        if item is None:
            continue
        highest = min(item.nesting.index(present[index]), item.model_levels[len(resident) - 1])
        for column, choice in enumerate(controller.choices):
            position = item.model_levels[levels.index(choice.level)]
            wanted[row, column] = item.nesting.levels[position]
            allowed[row, column] = item.nesting.levels[min(position, highest)]
    positions = controller.chosen(logits)
    rows = np.arange(len(controller.operators))
    bits = np.array([choice.activation_bits for choice in controller.choices], np.int8)
    limited = allowed[rows, positions] < wanted[rows, positions]
    return Chosen(allowed[rows, positions], bits[positions], limited)
