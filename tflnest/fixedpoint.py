"""Fixed-point arithmetic of TensorFlow Lite for Microcontrollers: multipliers, shifts, requantization.

A real factor is kept as an int32 `multiplier` (Q0.31) and a `shift`: real = multiplier / 2^31 * 2^shift, so a
positive shift is a left shift. The functions here are the obvious forms; `Requantizer` is the same
arithmetic, prepared once and evaluated over whole blocks of accumulators.

Sources: TFLM kernels/internal/quantization_util.cc, kernels/internal/common.cc, kernels/kernel_util.cc.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tflnest.errors import FormatError

INT32_MIN = -(1 << 31)
INT32_MAX = (1 << 31) - 1

#: Shifts that a multiplier may have when it is applied to an accumulator.
MIN_SHIFT, MAX_SHIFT = -31, 30


class Rounding(StrEnum):
    """How a product is brought back to 32 bits.

    DOUBLE rounds the high half of the product, then the right shift (TFLM's and CMSIS-NN's default). SINGLE
    rounds once (TFLITE_SINGLE_ROUNDING, CMSIS_NN_USE_SINGLE_ROUNDING).
    """

    DOUBLE = "double"
    SINGLE = "single"


# -------------------------------------------------------------------------------------------- multipliers


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Multiplier and shift of a real factor (TFLM QuantizeMultiplier).

    Args:
        real: Any finite factor.

    Returns:
        int32 multiplier and shift; factors below 2^-32 or so become (0, 0).

    Raises:
        FormatError: `real` is NaN or infinite.
    """
    if not math.isfinite(real):
        raise FormatError(f"a factor between scales is {real}, and must be finite")
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    scaled = mantissa * (1 << 31)
    multiplier = int(math.copysign(math.floor(abs(scaled) + 0.5), scaled))
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    if shift < MIN_SHIFT:
        return 0, 0
    return multiplier, shift


def quantize_multipliers(real: ArrayLike) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`quantize_multiplier` of every element.

    Args:
        real: Factors, any shape.

    Returns:
        int32 multipliers and int32 shifts, shaped like `real`.
    """
    factors = np.asarray(real, dtype=np.float64)
    pairs = [quantize_multiplier(float(factor)) for factor in factors.reshape(-1)]
    multipliers = np.array([pair[0] for pair in pairs], dtype=np.int32).reshape(factors.shape)
    shifts = np.array([pair[1] for pair in pairs], dtype=np.int32).reshape(factors.shape)
    return multipliers, shifts


def quantize_multiplier_smaller_than_one(real: float) -> tuple[int, int]:
    """Multiplier and shift (<= 0) of a factor between 0 and 1 (TFLM QuantizeMultiplierSmallerThanOneExp).

    Raises:
        FormatError: `real` is not in (0, 1); TFLM aborts there.
    """
    if not 0.0 < real < 1.0:
        raise FormatError(f"a factor between scales is {real}, and must lie between 0 and 1")
    return quantize_multiplier(real)


# ------------------------------------------------------------------------------------------ elementary steps


def saturating_rounding_doubling_high_mul(a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """High 32 bits of 2ab, rounded to nearest, ties up (gemmlowp SaturatingRoundingDoublingHighMul).

    Args:
        a: Integers in the int32 range.
        b: Integers in the int32 range, broadcast against `a`.

    Returns:
        int64 array with values in the int32 range; only -2^31 times -2^31 saturates.
    """
    product = np.asarray(a, dtype=np.int64) * np.asarray(b, dtype=np.int64)
    high: NDArray[np.int64] = np.minimum((product + (1 << 30)) >> 31, INT32_MAX)
    return high


def rounding_divide_by_pot(x: ArrayLike, exponent: ArrayLike) -> NDArray[np.int64]:
    """Divide by 2^exponent, rounded to nearest, ties away from zero (gemmlowp RoundingDivideByPOT).

    Args:
        x: Integers in the int32 range.
        exponent: 0 to 31, broadcast against `x`.
    """
    values = np.asarray(x, dtype=np.int64)
    powers = np.asarray(exponent, dtype=np.int64)
    half = (np.int64(1) << powers) >> 1
    return (values + half - ((values < 0) & (powers > 0))) >> powers


def wrap_int32(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is left of `x` in a 32-bit register, as int64."""
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def multiply_by_quantized_multiplier(
    acc: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, rounding: Rounding = Rounding.DOUBLE
) -> NDArray[np.int64]:
    """Product acc * multiplier / 2^31 * 2^shift in integers (TFLM MultiplyByQuantizedMultiplier, int32 form).

    Args:
        acc: Integers in the int32 range.
        multiplier: int32 values, scalar or per channel (last axis of `acc`).
        shift: -31 to 30, like `multiplier`. A left shift wraps at 32 bits under double rounding, as in C.
        rounding: Which of the two roundings.

    Returns:
        int64 array with values in the int32 range, broadcast shape.
    """
    values = np.asarray(acc, dtype=np.int64)
    factors = np.asarray(multiplier, dtype=np.int64)
    shifts = np.asarray(shift, dtype=np.int64)
    if rounding is Rounding.SINGLE:
        total = 31 - shifts
        return wrap_int32((values * factors + (np.int64(1) << (total - 1))) >> total)
    shifted = wrap_int32(values << np.maximum(shifts, 0))
    high = saturating_rounding_doubling_high_mul(shifted, factors)
    return rounding_divide_by_pot(high, np.maximum(-shifts, 0))


# ---------------------------------------------------------------------------------------- activation ranges


def _quantize_bound(value: float, scale: np.float32, zero_point: int) -> int:
    """The quantized value of an activation's bound, in float32 as TFLM computes it."""
    with np.errstate(over="ignore"):
        ratio = float(np.float32(value) / scale)
    rounded = math.copysign(np.floor(abs(ratio) + 0.5), ratio)
    if not INT32_MIN <= rounded <= INT32_MAX:
        raise FormatError(f"the activation bound {value} does not fit 32 bits at scale {float(scale)}")
    return zero_point + int(rounded)


def activation_range(
    activation: str | int | None, scale: float, zero_point: int, dtype: np.dtype[Any] | type = np.int8
) -> tuple[int, int]:
    """Smallest and largest output of a fused activation (TFLM CalculateActivationRangeQuantized).

    Args:
        activation: "NONE", "RELU", "RELU6" or "RELU_N1_TO_1"; others clamp to the dtype only, as in TFLM.
        scale: Of the output, > 0.
        zero_point: Of the output.
        dtype: Integer dtype of the output.

    Returns:
        (minimum, maximum) as quantized values.

    Raises:
        FormatError: The bounds are empty (a scale or zero point that makes no sense).
    """
    info = np.iinfo(dtype)
    low, high = int(info.min), int(info.max)
    single = np.float32(scale)
    if activation in ("RELU", "RELU6", "RELU_N1_TO_1") and not (single > 0 and np.isfinite(single)):
        raise FormatError(f"the output scale {scale} must be a positive number")
    if activation == "RELU":
        low = max(low, _quantize_bound(0.0, single, zero_point))
    elif activation == "RELU6":
        low = max(low, _quantize_bound(0.0, single, zero_point))
        high = min(high, _quantize_bound(6.0, single, zero_point))
    elif activation == "RELU_N1_TO_1":
        low = max(low, _quantize_bound(-1.0, single, zero_point))
        high = min(high, _quantize_bound(1.0, single, zero_point))
    if low > high:
        raise FormatError(f"activation {activation} at scale {scale}, zero point {zero_point} is empty")
    return low, high


# ------------------------------------------------------------------------------------------- requantization

#: Accumulators up to this magnitude give exact products with a 31-bit multiplier in float64 (53 bits).
EXACT_ACCUMULATOR = (1 << 22) - 1

#: Turns "nearest, ties up" into "nearest, ties away from zero" for integers below 2^22 (see `Requantizer`).
_AWAY_FROM_ZERO = 1.0 + 2.0**-30

#: Elements that are requantized at a time.
_BLOCK_ELEMENTS = 1 << 15

#: Per-channel vectors are repeated up to this length, so that numpy's inner loop is long.
_TILE_ELEMENTS = 4096

#: Different repetitions that are kept.
_MAX_TILES = 8

#: Columns that may be left to int64 while the others are computed in float64: one in so many.
_FEW_COLUMNS = 4


class Requantizer:
    """Brings accumulators to int8: offset, multiplier, shift, output zero point, clamp.

    The result is `clip(multiply_by_quantized_multiplier(acc + offset, ...) + output_zero_point)`, bit by bit.
    Where the bounds given here allow it, it is computed in float64 without any rounding:

    * acc * multiplier has at most 22 + 31 bits, so v = floor(acc * multiplier / 2^31 + 1/2) is exact;
    * v / 2^s rounded half away from zero is floor(v * (1 + e) / 2^s + 1/2) for any 0 < e < 1/|v|: the factor
      pushes negative ties, and nothing else, over the edge.

    The arithmetic is monotonic. So a channel whose smallest and largest accumulator give the same output is a
    constant, and accumulators may be clamped to 22 bits where the output is saturated there already. Channels
    that remain are computed in int64.

    Args:
        multiplier: int32, shape (channels,), >= 0.
        shift: int32, shape (channels,), -31 to 30, positive = left.
        output_zero_point: -128 to 127.
        activation_min: Smallest output, -128 to 127.
        activation_max: Largest output, -128 to 127.
        low: Smallest possible acc + offset per channel, integers, shape (channels,).
        high: Largest possible acc + offset per channel, integers, shape (channels,).
        offset: Added to the accumulators (bias, zero-point correction): int64, shape (channels,); None for 0.
        rounding: Which of the two roundings.

    Raises:
        FormatError: A multiplier or shift is out of range.
    """

    def __init__(
        self,
        multiplier: ArrayLike,
        shift: ArrayLike,
        *,
        output_zero_point: int,
        activation_min: int,
        activation_max: int,
        low: ArrayLike,
        high: ArrayLike,
        offset: ArrayLike | None = None,
        rounding: Rounding = Rounding.DOUBLE,
    ) -> None:
        self.multiplier = np.atleast_1d(np.asarray(multiplier, dtype=np.int64))
        self.shift = np.broadcast_to(np.asarray(shift, dtype=np.int64), self.multiplier.shape)
        self.rounding = rounding
        self.output_zero_point = int(output_zero_point)
        self.activation_min, self.activation_max = int(activation_min), int(activation_max)
        self.offset = np.zeros_like(self.multiplier) if offset is None else np.asarray(offset, dtype=np.int64)
        if self.multiplier.min(initial=0) < 0 or self.multiplier.max(initial=0) > INT32_MAX:
            raise FormatError("a multiplier must lie between 0 and 2^31 - 1")
        if np.any((self.shift < MIN_SHIFT) | (self.shift > MAX_SHIFT)):
            raise FormatError(
                f"a factor between scales needs a shift of {int(self.shift[np.abs(self.shift).argmax()])} bits, "
                f"and {MIN_SHIFT} to {MAX_SHIFT} are possible"
            )
        zeros = np.zeros_like(self.multiplier)
        self._choose_paths(np.asarray(low, np.int64) + zeros, np.asarray(high, np.int64) + zeros)
        self._tiles: dict[int, tuple[Any, Any, Any]] = {}

    @property
    def channels(self) -> int:
        """Length of the last axis of the accumulators."""
        return int(self.multiplier.size)

    def exact(self, acc: NDArray[Any]) -> NDArray[np.int8]:
        """The same result by the elementary functions: slow, obvious, for any accumulator.

        Args:
            acc: Integral values, shape (..., channels).
        """
        return self._outputs(acc.astype(np.int64) + self.offset).astype(np.int8)

    def __call__(
        self, acc: NDArray[Any], out: NDArray[np.int8], buffer: NDArray[np.float64] | None = None
    ) -> None:
        """Requantize a block.

        Args:
            acc: Integral values without the offset, C-contiguous, shape (rows, channels), any real dtype.
            out: int8, C-contiguous, same shape; filled.
            buffer: float64 scratch of at least `min(acc.size, 2^15 + channels)` elements; allocated if None.
        """
        rows, channels = acc.shape
        step = rows
        if acc.size > _BLOCK_ELEMENTS:
            step = max(_BLOCK_ELEMENTS // channels, 1)
            if step > 8:
                step &= -8  # keeps the number of rows even, so that per-channel vectors can be repeated
        if buffer is None and self._in_float:
            buffer = np.empty(step * channels)
        for start in range(0, rows, step or 1):
            stop = min(start + step, rows)
            if buffer is not None and self._in_float:
                self._requantize_in_float(acc[start:stop], out[start:stop], buffer)
            else:
                out[start:stop] = self.exact(acc[start:stop])

    def _choose_paths(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> None:
        """Sort the channels: exact in float64 as they are, constant, exact after a clamp, int64."""
        limit = np.full_like(low, EXACT_ACCUMULATOR)
        largest_unshifted = INT32_MAX >> np.maximum(self.shift, 0)
        bounds = np.maximum(np.abs(low), np.abs(high))
        without_offset = np.maximum(np.abs(low - self.offset), np.abs(high - self.offset))
        small = np.maximum(np.maximum(bounds, without_offset), np.abs(self.offset)) <= limit
        monotonic = bounds <= largest_unshifted  # beyond, a left shift wraps
        lowest, highest = self._outputs(np.stack([low, high]))
        constant = monotonic & (lowest == highest)
        exact = monotonic & small & ~constant
        at_limit = self._outputs(np.stack([-limit, limit]))
        saturated = (at_limit[0] == self.activation_min) & (at_limit[1] == self.activation_max)
        clamped = monotonic & saturated & (limit <= largest_unshifted) & ~(exact | constant)
        hard = ~(exact | constant | clamped)
        self._clamp = bool(np.any(clamped))
        self._hard_columns = np.flatnonzero(hard)
        self._in_float = self._hard_columns.size * _FEW_COLUMNS <= self.channels
        self._set_vectors(constant | hard, lowest)

    def _set_vectors(self, fixed: NDArray[np.bool_], value: NDArray[np.int64]) -> None:
        """Per-channel numbers of the float path; `fixed` channels give `value`."""
        factor = self.multiplier.astype(np.float64) * np.exp2(np.maximum(self.shift, 0) - 31.0)
        scale = np.exp2(np.minimum(self.shift, 0).astype(np.float64)) * _AWAY_FROM_ZERO
        scale[self.shift >= 0] = 1.0
        if self.rounding is Rounding.SINGLE:
            factor = self.multiplier.astype(np.float64) * np.exp2(self.shift - 31.0)
            scale[:] = 1.0
        factor[fixed], scale[fixed] = 0.0, 1.0
        self._offset = np.where(fixed, 0, self.offset).astype(np.float64)
        half = 0.5 + self._offset * factor * (0.0 if self._clamp else 1.0)
        half[fixed] = value[fixed] - self.output_zero_point
        self._vectors = (_scalar_if_uniform(factor), _scalar_if_uniform(half), _scalar_if_uniform(scale))

    def _outputs(self, total: NDArray[np.int64]) -> NDArray[np.int64]:
        """What accumulators, offset included, are brought to."""
        scaled = multiply_by_quantized_multiplier(
            wrap_int32(total), self.multiplier, self.shift, self.rounding
        )
        clipped: NDArray[np.int64] = np.clip(
            scaled + self.output_zero_point, self.activation_min, self.activation_max
        )
        return clipped

    def _tiled(self, repeat: int) -> tuple[Any, Any, Any]:
        """Factor, half and scale for `repeat` rows laid end to end."""
        tiles = self._tiles.get(repeat)
        if tiles is None:
            if len(self._tiles) == _MAX_TILES:
                self._tiles.clear()
            factor, half, scale = (v if np.ndim(v) == 0 else np.tile(v, repeat) for v in self._vectors)
            tiles = self._tiles[repeat] = (factor, half, scale)
        return tiles

    def _requantize_in_float(
        self, acc: NDArray[Any], out: NDArray[np.int8], buffer: NDArray[np.float64]
    ) -> None:
        rows, channels = acc.shape
        repeat = rows
        if acc.size > _TILE_ELEMENTS:
            repeat = 1
            while rows % (2 * repeat) == 0 and 2 * repeat * channels <= _TILE_ELEMENTS:
                repeat *= 2
        factor, half, scale = self._tiled(repeat)
        shape = (rows // repeat, repeat * channels)
        values = buffer[: acc.size].reshape(shape)
        np.copyto(values, acc.reshape(shape))
        if self._clamp:
            by_channel = values.reshape(rows, channels)
            np.add(by_channel, self._offset, out=by_channel)
            values.clip(-EXACT_ACCUMULATOR, EXACT_ACCUMULATOR, out=values)
        values *= factor
        values += half
        np.floor(values, out=values)
        values *= scale
        # Moved up by 128, what is kept is positive, and the conversion to uint8 is the floor.
        values += self.output_zero_point + 128.5
        values.clip(self.activation_min + 128.0, self.activation_max + 128.5, out=values)
        unsigned = out.view(np.uint8).reshape(shape)
        np.copyto(unsigned, values, casting="unsafe")
        np.bitwise_xor(unsigned, 128, out=unsigned)
        if self._hard_columns.size:
            out[:, self._hard_columns] = self.exact(acc)[:, self._hard_columns]


def _scalar_if_uniform(vector: NDArray[np.float64]) -> NDArray[np.float64] | float:
    """One number in place of a vector of equal ones: numpy is faster with it."""
    return float(vector[0]) if vector.size and bool(np.all(vector == vector[0])) else vector
