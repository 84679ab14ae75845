"""Constants of the type INT4: two codes of -8 to 7 in a byte, the first in the low half, two's complement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tflnest.graph import Tensor

#: Range of a code.
LOWEST, HIGHEST = -8, 7


def pack(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Codes as bytes.

    Args:
        codes: int8 in -8..7, any shape.

    Returns:
        uint8, half as many; the upper half of the last byte is 0 where it is free.
    """
    flat = codes.reshape(-1)
    halves = np.zeros(flat.size + flat.size % 2, np.uint8)
    halves[: flat.size] = flat.view(np.uint8) & 0x0F
    halves[1::2] <<= 4
    packed: NDArray[np.uint8] = halves[::2] | halves[1::2]
    return packed


def unpack(content: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
    """The inverse of `pack`.

    Args:
        content: uint8, 1-D, at least half as many.
        count: How many codes.
    """
    halves = np.stack([content & 0x0F, content >> 4], axis=1).reshape(-1)[:count]
    codes: NDArray[np.int8] = (halves ^ 8).view(np.int8) - np.int8(8)
    return codes


def expanded(tensor: Tensor) -> Tensor:
    """A constant of type INT4 as the INT8 constant with the same values and scales; any other tensor as it is."""
    if tensor.type != "INT4" or tensor.data is None:
        return tensor
    values = unpack(tensor.data, tensor.size).reshape(tensor.shape)
    values.flags.writeable = False
    return replace(tensor, type="INT8", data=values)
