"""Real numbers as the integers of a quantized tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tflnest.errors import UsageError
from tflnest.graph import Tensor


def quantize(
    values: NDArray[np.float32], scale: float, zero_point: int, dtype: np.dtype[Any] | type = np.int8
) -> NDArray[Any]:
    """Quantize real values: float32 division, halves away from zero, clamp (TFLM AffineQuantize).

    Values of more than 2^31 steps, where the C conversion is undefined, saturate as they do on Arm.

    Args:
        values: float32, any shape; NaN becomes the zero point.
        scale: Positive.
        zero_point: In the range of `dtype`.
        dtype: Integer dtype of the result.
    """
    info = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        ratio = np.nan_to_num(values / np.float32(scale), nan=0.0)
    wide = np.clip(ratio, -(2.0**31), 2.0**31).astype(np.float64)
    rounded = np.copysign(np.floor(np.abs(wide) + 0.5), wide)
    quantized: NDArray[Any] = np.clip(rounded + zero_point, info.min, info.max).astype(dtype)
    return quantized


def quantize_for(tensor: Tensor, values: ArrayLike) -> NDArray[Any]:
    """Real values in a tensor's quantization.

    Args:
        tensor: Integer, with a scale.
        values: Finite reals, any shape.

    Raises:
        UsageError: The tensor has no scale, or a value is not finite.
    """
    if tensor.quantization is None or not tensor.scale > 0:
        raise UsageError(
            f"tensor {tensor.label} is {tensor.type} and has no scale, so real numbers mean nothing to it"
        )
    reals = np.asarray(values, np.float32)
    if not np.all(np.isfinite(reals)):
        raise UsageError(f"the values for tensor {tensor.label} are not all finite numbers")
    return quantize(reals, tensor.scale, tensor.zero_point, tensor.dtype)
