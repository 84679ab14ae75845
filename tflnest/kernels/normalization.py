"""L2_NORMALIZATION over the last axis, int8.

Source: TFLM kernels/l2norm.cc, reference/integer_ops/l2normalization.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import multiply_by_quantized_multiplier
from tflnest.kernels import functions
from tflnest.kernels.checks import (
    fused_activation,
    input_tensor,
    leads_with_samples,
    malformed,
    output_tensor,
    require_arity,
    require_same_type,
    require_shape,
    require_type,
    scale_of,
    unsupported,
    zero_point_of,
)
from tflnest.kernels.registry import Arrays, Kernel, Node, register

#: The output is in 128ths.
OUTPUT_BITS = 7

#: Longest last axis: the sum of squares must fit 31 bits.
MAX_DEPTH = 1 << 15


@register("L2_NORMALIZATION")
def prepare_l2_normalization(node: Node) -> Kernel:
    """L2_NORMALIZATION: INT8 of at most four dimensions."""
    require_arity(node, 1)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, tensor, ("INT8",))
    require_same_type(node, [tensor, output])
    require_shape(node, output, tensor.shape)
    if fused_activation(node) != "NONE":
        raise unsupported(node, f"fused activation {fused_activation(node)}")
    if not 1 <= len(tensor.shape) <= 4 or tensor.shape[-1] > MAX_DEPTH:
        raise malformed(
            node, f"its input has shape {list(tensor.shape)}, at most 4 dimensions and {MAX_DEPTH} expected"
        )
    scale_of(node, tensor)
    zero_point = zero_point_of(node, tensor)

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        centred = values.astype(np.int64) - zero_point
        multiplier, shift = functions.inverse_square_root((centred * centred).sum(axis=-1, keepdims=True))
        result = multiply_by_quantized_multiplier(centred, multiplier, shift + OUTPUT_BITS, node.rounding)
        return (np.clip(result, -128, 127).astype(np.int8),)

    return Kernel(evaluate, leads_with_samples(node) and len(tensor.shape) > 1)
