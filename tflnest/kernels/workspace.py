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
    wanted = np.dtype(dtype)
    size = prod(shape) * wanted.itemsize
    buffer = _slots.buffers.get(slot)
    if buffer is None or buffer.size < size:
        buffer = np.empty(max(size, 1), dtype=np.uint8)
        if size <= MAX_KEPT_BYTES:
            _slots.buffers[slot] = buffer
    return buffer[:size].view(wanted).reshape(shape)
