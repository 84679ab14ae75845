"""Reading int8 activations at fewer bits: a shift with rounding and back (DQT, arXiv 2508.09176, equation 4).

Everything that is computed with stays int8 at the same scale and zero point: a width changes a shift and nothing
else. FORMAT.md, section 6.7, is the specification.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tflnest.nesting import MASTER_BITS


def narrowed(values: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """int8 values as an operator reads them at a width.

    Args:
        values: int8, any shape.
        bits: 1 to 8; at 8 they are what they were.

    Returns:
        int8, same shape: multiples of 2^(8 - bits) above -128, the last of them at most the largest code.
    """
    if bits == MASTER_BITS:
        return values
    result: NDArray[np.int8] = _table(bits)[values.view(np.uint8)]
    return result


@cache
def _table(bits: int) -> NDArray[np.int8]:
    """What every int8 value is read as, by its unsigned byte."""
    shift = MASTER_BITS - bits
    codes = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int32) + 128
    kept = np.minimum((codes + (1 << (shift - 1))) >> shift, (1 << bits) - 1)
    table: NDArray[np.int8] = ((kept << shift) - 128).astype(np.int8)
    table.flags.writeable = False
    return table
