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
    return np.minimum((product + (1 << 30)) >> 31, INT32_MAX)


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
    ratio = float(np.float32(value) / scale)
    rounded = math.copysign(math.floor(abs(ratio) + 0.5), ratio)
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
