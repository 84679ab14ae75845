"""Operators that are ready to run in the compiled runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.device.calls import Call
from tflnest.device.structures import Constant, Memory
from tflnest.errors import UnsupportedError
from tflnest.kernels.registry import Evaluate, Kernel
from tflnest.native.library import STATUS_OK, Library

#: Bytes of decoded weights that are used while they are in the second-level cache.
TILE_BYTES = 1 << 17

#: Channels of a tile are a multiple of this, where the operator has so many.
TILE_STEP = 32

#: Gives the values of constants where they lie.
Locate = Callable[[Constant], NDArray[Any]]


@dataclass(frozen=True)
class NativeCall:
    """One call of a kernel with its constants in memory.

    Attributes:
        call: What it is made of.
        entry: Address of the C function that takes its pointers as an array.
        filter: The weights, or None.
        memory: Keeps alive what the structures point to.
        library: What runs it.
    """

    call: Call
    entry: int
    filter: ctypes.Structure | None
    memory: Memory
    library: Library

    def params(self, samples: int, together: bool) -> ctypes.Structure:
        """Parameters for one sample, or for many together."""
        params = self.call.params
        return self.memory.make(params.for_samples(samples) if together else params)

    @property
    def takes_samples(self) -> bool:
        """Whether one call can compute many samples."""
        return hasattr(self.call.params, "for_samples")


@dataclass(frozen=True)
class NativeKernel(Kernel):
    """An operator that the compiled runtime computes.

    Attributes:
        calls: In order.
    """

    calls: tuple[NativeCall, ...]


def native_kernel(
    calls: Sequence[Call], library: Library, locate: Locate, evaluate: Evaluate
) -> NativeKernel:
    """Put the constants of an operator's calls into memory and check them.

    Args:
        calls: With at most one filter each.
        library: The compiled runtime.
        locate: Gives the values of constants where they lie.
        evaluate: Computes the operator where it is computed alone.

    Raises:
        UnsupportedError: A kernel does not compute with these parameters.
    """
    made = []
    for call in map(with_large_tile, calls):
        memory = Memory(locate)
        filter_ = memory.make(call.filters[0].filter) if call.filters else None
        native = NativeCall(call, library.call(call.function), filter_, memory, library)
        if library.check(call.function, native.params(1, False), filter_) != STATUS_OK:
            raise UnsupportedError(f"the kernel {call.function.name} does not compute with these parameters")
        made.append(native)
    return NativeKernel(evaluate, True, tuple(made))


def with_large_tile(call: Call) -> Call:
    """The call with a tile for a processor with caches: as many channels as `TILE_BYTES` hold."""
    if not call.has_tile:
        return call
    return call.with_tile(max(TILE_BYTES // call.params.products // TILE_STEP, 1) * TILE_STEP)


def constant_location(read: Callable[[int], NDArray[Any]]) -> Locate:
    """Locates constants, given how to read a tensor."""

    def locate(constant: Constant) -> NDArray[Any]:
        values = read(constant.tensor).reshape(-1)
        if not constant.offset:
            return values
        return values.view(np.uint8)[constant.offset :]

    return locate
