"""Runs a program with the compiled runtime where it can, and with the reference kernels where it must."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tflnest.execution import PrepareOperator, Program, Step, Values
from tflnest.graph import Subgraph
from tflnest.kernels.registry import Kernel
from tflnest.native.frame import Frame, Segment
from tflnest.native.kernels import NativeKernel
from tflnest.native.library import Library
from tflnest.widths import Chosen

#: Bytes of activations that a batched run keeps per operator: a few samples share what is decoded, and all stays in
#: the cache.
BATCH_BYTES = 1 << 18

#: A part of a program: a segment by its number, or a step of the reference kernels.
Part = int | tuple[Step, Kernel]


class NativeProgram(Program):
    """A program whose kernels are native or reference ones; see `Program`.

    Several threads may run `execute_batch` at the same time; each works in memory of its own.

    Args:
        subgraph: What to run.
        prepare: Makes the kernels.
        library: The compiled runtime.
    """

    batch_bytes = BATCH_BYTES

    def __init__(self, subgraph: Subgraph, prepare: PrepareOperator, library: Library) -> None:
        self._library = library
        self._segments: list[Segment] = []
        self._parts: list[Part] = []
        self._own: Frame | None = None
        self._idle: dict[int, list[Frame]] = {}
        super().__init__(subgraph, prepare)

    def prepare(self, prepare: PrepareOperator) -> None:
        """Make the kernels again, for example for another level."""
        super().prepare(prepare)
        self._segments, self._parts = [], []
        self._own, self._idle = None, {}
        for steps, kernels in _runs(self.steps, self._kernels):
            if isinstance(kernels[0], NativeKernel):
                native = [kernel for kernel in kernels if isinstance(kernel, NativeKernel)]
                self._parts.append(len(self._segments))
                self._segments.append(Segment(steps, native, self.tensors))
            else:
                self._parts += zip(steps, kernels, strict=True)

    def execute(self, values: Values, kept: bool = True) -> Chosen | None:
        """Run all operators on the shapes in the file. See `Program`."""
        if not kept:
            self._execute_pooled(values, None)
            return None
        if self._own is None:
            self._own = self._frame(1, kept=True)
        self._run(self._own, values, None)
        return None

    def execute_batch(self, values: Values, samples: int) -> Chosen | None:
        """Run all operators on many samples at once; only the outputs keep their values. See `Program`."""
        self._execute_pooled(values, samples)
        return None

    def _execute_pooled(self, values: Values, samples: int | None) -> None:
        """Run in a frame that no other thread uses meanwhile."""
        count, pool = samples or 1, self._idle
        try:
            frame = pool[count].pop()
        except (KeyError, IndexError):
            frame = self._frame(count, kept=False)
        self._run(frame, values, samples)
        for index in self.subgraph.outputs:
            value = values[index]
            if value is not None and value is frame.values.get(index):
                values[index] = value.copy()
        pool.setdefault(count, []).append(frame)

    def _run(self, frame: Frame, values: Values, samples: int | None) -> None:
        """Run all parts; `samples` is None where the tensors have the shapes in the file."""
        for part in self._parts:
            if isinstance(part, int):
                segment = self._segments[part]
                for index in segment.read:
                    value = values[index]
                    assert value is not None
                    if value is not frame.values[index]:
                        frame.values[index][...] = value
                frame.run(part)
                for index in segment.written:
                    values[index] = frame.values[index]
            else:
                step, kernel = part
                shapes = step.shapes if samples is None else [(samples, *shape[1:]) for shape in step.shapes]
                self._evaluate(step, kernel, values, shapes)

    def _frame(self, samples: int, kept: bool) -> Frame:
        outside = {index for part in self._parts if not isinstance(part, int) for index in part[0].inputs}
        needed = frozenset((outside | set(self.subgraph.outputs)) - {-1})
        return Frame(self._segments, self.tensors, samples, kept, needed, self._library)


def _runs(
    steps: Sequence[Step], kernels: Sequence[Kernel]
) -> Iterator[tuple[tuple[Step, ...], tuple[Kernel, ...]]]:
    """Steps that follow each other and are all native, or all not."""
    start = 0
    for position in range(1, len(steps) + 1):
        if position == len(steps) or isinstance(kernels[position], NativeKernel) != isinstance(
            kernels[start], NativeKernel
        ):
            yield tuple(steps[start:position]), tuple(kernels[start:position])
            start = position
