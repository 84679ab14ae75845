"""Memory of one thread in which a list of kernel calls runs."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.execution import Step
from tflnest.graph import Tensor
from tflnest.native.kernels import NativeCall, NativeKernel
from tflnest.native.library import Library
from tflnest.native.library import Step as NativeStep

#: Activations and scratch start at multiples of this: a cache line.
ALIGNMENT = 64


class Segment:
    """Steps of a program that follow each other and run in the compiled runtime.

    Args:
        steps: The steps.
        kernels: Their kernels.
        tensors: Of the subgraph; constants have `data`.

    Attributes:
        read: Activations that come from before the segment.
        written: Activations that it writes.
    """

    def __init__(
        self, steps: Sequence[Step], kernels: Sequence[NativeKernel], tensors: Sequence[Tensor]
    ) -> None:
        self.steps, self.kernels = tuple(steps), tuple(kernels)
        self.written: dict[int, None] = {}
        self.read: dict[int, None] = {}
        for kernel, step in zip(self.kernels, self.steps, strict=True):
            inner: set[int] = set()
            for native in kernel.calls:
                for argument in native.call.inputs:
                    known = argument.tensor in self.written or argument.tensor in inner
                    if tensors[argument.tensor].data is None and not known:
                        self.read[argument.tensor] = None
                inner.update(argument.tensor for argument in native.call.outputs)
            self.written.update(dict.fromkeys(step.outputs))


@dataclass(frozen=True)
class _FrameCall:
    """A call with its parameters and scratch bytes; the sample where it is repeated for each."""

    native: NativeCall
    params: ctypes.Structure
    scratch: int
    sample: int


class Frame:
    """Activations, scratch and prepared calls for a number of samples.

    Args:
        segments: What runs.
        tensors: Of the subgraph; constants have `data`.
        samples: How many samples go through at a time.
        kept: Whether every activation keeps its value; otherwise those that are no longer read give way.
        outside: Tensors that are read from outside of the segments: they keep their value in any case.

    Attributes:
        values: Activations by tensor index, shape (samples * leading dimension, ...).
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        tensors: Sequence[Tensor],
        samples: int,
        kept: bool,
        outside: frozenset[int],
        library: Library,
    ) -> None:
        self._tensors = tensors
        self._samples = samples
        self._library = library
        self._kept: list[Any] = []
        self.values = self._activations(segments, kept, outside)
        lists = [self._calls(segment) for segment in segments]
        self._scratch = self._memory(max((call.scratch for calls in lists for call in calls), default=0))
        self._programs = [self._program(calls) for calls in lists]

    def run(self, position: int) -> None:
        """Run a segment on what is in `values`."""
        program = self._programs[position]
        self._library.run(program, len(program))

    def _activations(
        self, segments: Sequence[Segment], kept: bool, outside: frozenset[int]
    ) -> dict[int, NDArray[Any]]:
        sizes: dict[int, int] = {}
        lives: dict[int, tuple[int, int]] = {}
        time = 0
        for segment in segments:
            for index in segment.read:
                lives.setdefault(index, (time, time))
            for kernel, step in zip(segment.kernels, segment.steps, strict=True):
                time += 1
                touched = {argument.tensor for call in kernel.calls for argument in call.call.inputs}
                for index in (*touched, *step.outputs):
                    if self._tensors[index].data is None:
                        lives[index] = (lives.get(index, (time, time))[0], time)
            time += 1
        end = time + 1
        for index, (first, last) in lives.items():
            sizes[index] = _round_up(self._tensors[index].bytes * self._samples)
            if kept or index in outside:
                lives[index] = (0, end)
            else:
                lives[index] = (first, last)
        offsets, size = place(sizes, lives)
        arena = self._memory(size)
        return {index: self._view(arena[offsets[index] :], index) for index in sizes}

    def _memory(self, size: int) -> NDArray[np.uint8]:
        """Zeroed memory that lives as long as the frame."""
        memory = _aligned_bytes(size)
        self._kept.append(memory)
        return memory

    def _view(self, memory: NDArray[np.uint8], index: int) -> NDArray[Any]:
        tensor = self._tensors[index]
        raw = memory[: tensor.bytes * self._samples].view(tensor.dtype)
        if self._samples == 1:
            return raw.reshape(tensor.shape)
        return raw.reshape(self._samples * tensor.shape[0], *tensor.shape[1:])

    def _calls(self, segment: Segment) -> list[_FrameCall]:
        made = []
        for kernel in segment.kernels:
            for native in kernel.calls:
                together = self._samples > 1 and native.takes_samples and self._leads_with_samples(native)
                params = native.params(self._samples, together)
                self._kept.append(params)
                size = self._library.buffer_size(native.call.function, params)
                samples = range(1 if together else self._samples)
                made += [_FrameCall(native, params, size, sample) for sample in samples]
        return made

    def _leads_with_samples(self, native: NativeCall) -> bool:
        arguments = (*native.call.inputs, *native.call.outputs)
        tensors = [self._tensors[argument.tensor] for argument in arguments]
        return all(tensor.shape[:1] == (1,) for tensor in tensors if tensor.data is None)

    def _program(self, calls: Sequence[_FrameCall]) -> ctypes.Array[NativeStep]:
        program = (NativeStep * len(calls))()
        for position, item in enumerate(calls):
            call = item.native.call
            pointers: list[int] = [ctypes.addressof(item.params)]
            if item.native.filter is not None:
                pointers.append(ctypes.addressof(item.native.filter))
            for argument in (*call.inputs, *call.outputs):
                pointers.append(self._address(argument.tensor, item.sample) + argument.offset)
            if call.function.has_scratch:
                pointers.append(self._scratch_address(item.scratch))
            array = (ctypes.c_void_p * len(pointers))(*pointers)
            self._kept.append(array)
            program[position] = NativeStep(item.native.entry, ctypes.addressof(array))
        return program

    def _scratch_address(self, size: int) -> int:
        """Where a call finds so many bytes of scratch: all calls share them."""
        assert size <= self._scratch.size
        return int(self._scratch.ctypes.data)

    def _address(self, index: int, sample: int) -> int:
        tensor = self._tensors[index]
        if tensor.data is None:
            return int(self.values[index].ctypes.data) + sample * tensor.bytes
        constant = np.require(tensor.data, requirements=["C", "A"])
        self._kept.append(constant)
        return int(constant.ctypes.data)


def place(sizes: Mapping[int, int], lives: Mapping[int, tuple[int, int]]) -> tuple[dict[int, int], int]:
    """Place buffers in one block of memory, the largest first, each as low as its life allows.

    Args:
        sizes: Bytes by key.
        lives: First and last moment by key; buffers whose lives share a moment do not overlap.

    Returns:
        Offset by key, and the bytes of the block.
    """
    placed: list[tuple[int, int, int]] = []
    offsets: dict[int, int] = {}
    for key in sorted(sizes, key=lambda item: (-sizes[item], item)):
        first, last = lives[key]
        start = 0
        for offset, end, other in placed:
            if offset >= start + sizes[key]:
                break
            if lives[other][0] <= last and first <= lives[other][1]:
                start = max(start, end)
        offsets[key] = start
        placed.append((start, start + sizes[key], key))
        placed.sort()
    return offsets, max((end for _, end, _ in placed), default=0)


def _round_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _aligned_bytes(size: int) -> NDArray[np.uint8]:
    """Zeroed memory that starts at a cache line; one at least."""
    raw = np.zeros(max(size, 1) + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + max(size, 1)]
