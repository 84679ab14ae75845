"""A small untrained classifier of digits as a float `.tflite`, for trainings that take a second."""

from __future__ import annotations

import numpy as np

from tests.single_operator import GraphBuilder

CHANNELS = 16


def small_model(seed: int = 0) -> bytes:
    """convolution 3x3 -> relu -> fully connected -> softmax, 8 x 8 x 1 to 10 classes."""
    rng = np.random.default_rng(seed)
    graph = GraphBuilder()
    image = graph.input((1, 8, 8, 1), "FLOAT32")
    filters = graph.constant(rng.normal(0, 0.3, (CHANNELS, 3, 3, 1)).astype(np.float32))
    y = graph.tensor((1, 4, 4, CHANNELS), "FLOAT32")
    graph.operator(
        "CONV_2D",
        [image, filters, graph.constant(np.full(CHANNELS, 0.1, np.float32))],
        [y],
        padding="SAME",
        stride_w=2,
        stride_h=2,
        dilation_w_factor=1,
        dilation_h_factor=1,
        fused_activation_function="RELU",
    )
    size = 16 * CHANNELS
    flat, sums, classes = (graph.tensor((1, count), "FLOAT32") for count in (size, 10, 10))
    graph.operator("RESHAPE", [y, graph.constant(np.array([1, size], np.int32))], [flat], new_shape=[1, size])
    weights = graph.constant(rng.normal(0, 0.06, (10, size)).astype(np.float32))
    graph.operator("FULLY_CONNECTED", [flat, weights, graph.constant(np.zeros(10, np.float32))], [sums])
    graph.operator("SOFTMAX", [sums], [classes], beta=1.0)
    return graph.build([classes])
