"""exp, logistic, tanh and reciprocals in fixed point, as gemmlowp computes them.

A value with m integer bits is an int32 that stands for raw / 2^(31 - m). Everything here is int64 arrays with
values in the int32 range; products of two values have the integer bits of both.

Sources: gemmlowp fixedpoint/fixedpoint.h, TFLM kernels/internal/common.h (GetReciprocal, inverse square root).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import INT32_MAX, INT32_MIN, rounding_divide_by_pot, wrap_int32

Raw = NDArray[np.int64]
RawOrInt = TypeVar("RawOrInt", Raw, int)

#: One with no integer bits: the largest value there is.
ONE = INT32_MAX

_EXP_MINUS_EIGHTH = 1895147668
_ONE_THIRD = 715827883

#: exp(-2^k) for k = -2 ... 4, no integer bits.
_EXP_POWERS = {
    -2: 1672461947,
    -1: 1302514674,
    0: 790015084,
    1: 290630308,
    2: 39332535,
    3: 720401,
    4: 242,
}

#: Start of the division by Newton's method, with two integer bits: 48/17 and -32/17.
_FORTY_EIGHT_17THS = 1515870810
_MINUS_THIRTY_TWO_17THS = -1010580540

_HALF_SQRT_2 = 1518500250


def multiply(a: Any, b: Any) -> Any:
    """The rounded high half of 2ab. Nothing here ever squares -2^31, the one product that saturates."""
    return (a * b + (1 << 30)) >> 31


def _shift_left_saturating(x: Raw, bits: int) -> Raw:
    shifted: Raw = np.minimum(np.maximum(x << bits, INT32_MIN), INT32_MAX)
    return shifted


def _exp_near_minus_eighth(x: Raw) -> Raw:
    """Value of exp for arguments in [-1/4, 0), no integer bits in or out: Taylor's series around -1/8."""
    x = x + (1 << 28)
    square = multiply(x, x)
    cube = multiply(square, x)
    quarter_fourth = rounding_divide_by_pot(multiply(square, square), 2)
    tail = rounding_divide_by_pot(multiply(quarter_fourth + cube, _ONE_THIRD) + square, 1)
    result: Raw = _EXP_MINUS_EIGHTH + multiply(_EXP_MINUS_EIGHTH, x + tail)
    return result


def exp_of_negative(x: Raw, integer_bits: int) -> Raw:
    """Value of exp for arguments <= 0.

    Args:
        x: Raw values <= 0 with `integer_bits` (at most 5) integer bits.
        integer_bits: Integer bits of `x`.

    Returns:
        Raw values with no integer bits.
    """
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    remainder = (x & (quarter - 1)) - quarter
    result = _exp_near_minus_eighth(remainder << integer_bits)
    whole = remainder - x
    for power, factor in _EXP_POWERS.items():
        if integer_bits > power:
            result = np.where(whole & (1 << (fraction_bits + power)), multiply(result, factor), result)
    return np.where(x == 0, ONE, result)


def _reciprocal_of_mean_with_one(x: RawOrInt) -> RawOrInt:
    """2 / (1 + x) for x in [0, 1): no integer bits in, two out, by three steps of Newton's method."""
    half_denominator = (x + ONE + 1) >> 1
    estimate = _FORTY_EIGHT_17THS + multiply(half_denominator, _MINUS_THIRTY_TWO_17THS)
    for _ in range(3):
        error = (1 << 29) - multiply(half_denominator, estimate)
        estimate = estimate + (multiply(estimate, error) << 2)
    result: RawOrInt = estimate
    return result


def one_over_one_plus(x: Raw) -> Raw:
    """1 / (1 + x) for x in [0, 1), no integer bits in or out."""
    result: Raw = np.minimum(_reciprocal_of_mean_with_one(x) << 1, INT32_MAX)
    return result


def logistic(x: Raw, integer_bits: int) -> Raw:
    """The logistic function, no integer bits out."""
    positive = one_over_one_plus(exp_of_negative(-np.abs(x), integer_bits))
    return np.where(x == 0, 1 << 30, np.where(x > 0, positive, ONE - positive))


def tanh(x: Raw, integer_bits: int) -> Raw:
    """The hyperbolic tangent, no integer bits out; twice `x` is `x` with one integer bit more."""
    denominator = exp_of_negative(-np.abs(x), integer_bits + 1)
    positive = _shift_left_saturating(_reciprocal_of_mean_with_one(denominator) - (1 << 29), 2)
    return np.where(x == 0, 0, np.where(x > 0, positive, -positive))


def leading_zeros(x: Raw) -> Raw:
    """Leading zero bits of values in 1 ... 2^32 - 1 seen as 32-bit words."""
    return 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)


def reciprocal(x: Raw, integer_bits: int) -> tuple[Raw, Raw]:
    """Reciprocal of a positive value.

    Args:
        x: Raw values from 1 to 2^32 - 1, as 32-bit words.
        integer_bits: Integer bits of `x`.

    Returns:
        Raw mantissas in (1/2, 1] with no integer bits, and the bits by which to shift them right.
    """
    headroom = leading_zeros(x)
    return one_over_one_plus((x << headroom) - (1 << 31)), integer_bits - headroom


def reciprocal_of_int(x: int, integer_bits: int) -> tuple[int, int]:
    """`reciprocal` of a single value, without the cost of arrays."""
    headroom = 32 - x.bit_length()
    mantissa = _reciprocal_of_mean_with_one((x << headroom) - (1 << 31)) << 1
    return min(mantissa, INT32_MAX), integer_bits - headroom


def inverse_square_root(x: Raw) -> tuple[Raw, Raw]:
    """Inverse square root as a multiplier and a (left) shift.

    Args:
        x: Integers from 0 to 2^31 - 1; 0 is taken as 1.

    Returns:
        int32 multipliers and shifts <= 0, for `multiply_by_quantized_multiplier`.
    """
    value = np.maximum(x, 2)
    large = value >= 1 << 29
    value = np.where(large, value >> 2, value)
    shift = 11 + large.astype(np.int64)
    pairs = (leading_zeros(value) - 1) // 2 - 1
    shift -= pairs
    value = (value << (2 * pairs)) >> 1
    half = rounding_divide_by_pot(value, 1)
    estimate = np.full(value.shape, 1 << 28, dtype=np.int64)
    for _ in range(5):
        cube = _shift_left_saturating(multiply(multiply(estimate, estimate), estimate), 6)
        change = wrap_int32(multiply((1 << 28) + (1 << 27), estimate) - multiply(half, cube))
        estimate = _shift_left_saturating(change, 3)
    estimate = multiply(estimate, _HALF_SQRT_2)
    estimate = np.where(shift < 0, estimate << np.maximum(-shift, 0), estimate)
    one = x <= 1
    return np.where(one, INT32_MAX, estimate), np.where(one, 0, -np.maximum(shift, 0))
