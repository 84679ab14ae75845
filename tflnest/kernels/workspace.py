"""Scratch memory that all kernels of a thread share.

Kernels work in blocks that fit the processor's cache, so a few small buffers serve a model of any size. A
buffer is overwritten by the next kernel that asks for its slot: nothing that outlives a call may lie in one.
"""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Elements of one block of work: 32 Ki doubles are 256 KiB, which leaves room in a 1 MiB cache.
BLOCK_ELEMENTS = 1 << 15

#: A buffer has at least this size, so that it is rarely replaced.
MIN_KEPT_BYTES = 1 << 18

#: Larger buffers are not kept between calls.
MAX_KEPT_BYTES = 16 << 20


class _Slots(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, NDArray[np.uint8]] = {}


_slots = _Slots()


def scratch(slot: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised C-contiguous array in a slot of this thread's scratch memory.

    Args:
        slot: Name of the buffer; two arrays that are in use at the same time need two slots.
        shape: Of the array.
        dtype: Of the array.
    """
    buffers = _slots.buffers
    try:
        return np.ndarray(shape, dtype, buffers[slot])
    except (KeyError, TypeError):  # not there yet, or too small
        size = prod(shape) * np.dtype(dtype).itemsize
        buffer = np.empty(max(size, MIN_KEPT_BYTES), dtype=np.uint8)
        if size <= MAX_KEPT_BYTES:
            buffers[slot] = buffer
        return np.ndarray(shape, dtype, buffer)
