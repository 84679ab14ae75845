"""int8 functions as tables: one input has 256 values, two have 65,536.

A table is filled once, with the arithmetic in its obvious form over all possible inputs; evaluating is a
lookup, so that every element-wise int8 operator costs the same few tenths of a nanosecond per element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.kernels.registry import Arrays, Evaluate

#: All int8 values in the order in which their bytes count: 0 to 127, then -128 to -1.
INT8_VALUES = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)

#: Elements whose pair index is built at a time, so that it stays in the cache.
_BLOCK_ELEMENTS = 1 << 17


def table_of(function: Callable[[NDArray[np.int64]], NDArray[Any]]) -> bytes:
    """Tabulate an int8 function of one int8 value.

    Args:
        function: Takes int64 values of shape (256,), gives integers in the int8 range.

    Returns:
        256 bytes, indexed by the input's byte.
    """
    return function(INT8_VALUES).astype(np.int8).tobytes()


def lookup(table: bytes, values: NDArray[np.int8]) -> NDArray[np.int8]:
    """Apply a table to an int8 array of any shape."""
    content = bytearray(np.ascontiguousarray(values))
    return np.frombuffer(content.translate(table), dtype=np.int8).reshape(values.shape)


def unary(table: bytes) -> Evaluate:
    """The evaluation of an operator that applies a table to its first input."""

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        return (lookup(table, values),)

    return evaluate


def pair_table_of(
    function: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]],
) -> NDArray[np.int8]:
    """Tabulate an int8 function of two int8 values.

    Args:
        function: Takes int64 values of shapes (256, 1) and (1, 256), gives (256, 256) in the int8 range.

    Returns:
        int8, shape (65536,), indexed by 256 * first byte + second byte.
    """
    return function(INT8_VALUES[:, None], INT8_VALUES[None, :]).astype(np.int8).reshape(-1)


def lookup_pairs(
    table: NDArray[np.int8], first: NDArray[np.int8], second: NDArray[np.int8]
) -> NDArray[np.int8]:
    """Apply a pair table to two int8 arrays, broadcast against each other."""
    if first.shape == second.shape and first.size > _BLOCK_ELEMENTS:
        return _lookup_pairs_in_blocks(table, first, second)
    index = np.left_shift(first.view(np.uint8), 8, dtype=np.uint16)
    if first.shape == second.shape:
        index |= second.view(np.uint8)
    else:
        index = index | second.view(np.uint8)
    return table.take(index)


def _lookup_pairs_in_blocks(
    table: NDArray[np.int8], first: NDArray[np.int8], second: NDArray[np.int8]
) -> NDArray[np.int8]:
    result = np.empty(first.shape, dtype=np.int8)
    x, y, out = (
        np.ascontiguousarray(first).reshape(-1),
        np.ascontiguousarray(second).reshape(-1),
        result.reshape(-1),
    )
    for start in range(0, out.size, _BLOCK_ELEMENTS):
        block = slice(start, start + _BLOCK_ELEMENTS)
        index = np.left_shift(x[block].view(np.uint8), 8, dtype=np.uint16)
        index |= y[block].view(np.uint8)
        out[block] = table.take(index)
    return result


def binary(table: NDArray[np.int8]) -> Evaluate:
    """The evaluation of an operator that applies a pair table to its first two inputs."""

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        first, second = inputs[0], inputs[1]
        assert first is not None and second is not None
        return (lookup_pairs(table, first, second),)

    return evaluate
