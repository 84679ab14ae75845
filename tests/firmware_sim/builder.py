"""Small models for the tests of the board."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.single_operator import GraphBuilder
from tflnest.model import Model, add_buffer, opcode_index, set_metadata
from tflnest.schema import enum_value, schema

SCALE = 0.05


class BoardBuilder(GraphBuilder):
    """A `GraphBuilder` that knows whole layers, custom operators, variables and metadata."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)

    def shape(self, index: int) -> tuple[int, ...]:
        return tuple(self.subgraph.tensors[index].shape)

    def weights(self, shape, per_channel: bool = True, axis: int = 0) -> int:
        values = self.random.integers(-127, 128, shape, dtype=np.int8)
        return self.constant(values, [0.01] * (shape[axis] if per_channel else 1), axis=axis)

    def bias(self, channels: int, per_channel: bool = True) -> int:
        values = self.random.integers(-1000, 1000, channels).astype(np.int32)
        return self.constant(values, [0.01 * SCALE] * (channels if per_channel else 1))

    def conv(self, source: int, channels: int, kernel: int = 3, stride: int = 1) -> int:
        _, height, width, depth = self.shape(source)
        output = self.tensor((1, -(-height // stride), -(-width // stride), channels), scale=SCALE)
        inputs = (source, self.weights((channels, kernel, kernel, depth)), self.bias(channels))
        strides = {"stride_w": stride, "stride_h": stride}
        dilations = {"dilation_w_factor": 1, "dilation_h_factor": 1}
        self.operator("CONV_2D", inputs, (output,), padding="SAME", **strides, **dilations)
        return output

    def depthwise(self, source: int, kernel: int = 3) -> int:
        shape = self.shape(source)
        output = self.tensor(shape, scale=SCALE)
        inputs = (source, self.weights((1, kernel, kernel, shape[3]), axis=3), self.bias(shape[3]))
        options = {
            "stride_w": 1,
            "stride_h": 1,
            "depth_multiplier": 1,
            "dilation_w_factor": 1,
            "dilation_h_factor": 1,
        }
        self.operator("DEPTHWISE_CONV_2D", inputs, (output,), padding="SAME", **options)
        return output

    def dense(self, source: int, units: int, per_channel: bool = False) -> int:
        depth = int(np.prod(self.shape(source)[1:]))
        output = self.tensor((1, units), scale=SCALE)
        inputs = (source, self.weights((units, depth), per_channel), self.bias(units, per_channel))
        self.operator("FULLY_CONNECTED", inputs, (output,))
        return output

    def softmax(self, source: int) -> int:
        output = self.tensor(self.shape(source), scale=1 / 256, zero_point=-128)
        self.operator("SOFTMAX", (source,), (output,), beta=1.0)
        return output

    def unary(
        self, name: str, source: int, shape=None, scale: float = SCALE, zero_point: int = 0, **options: Any
    ) -> int:
        output = self.tensor(shape or self.shape(source), scale=scale, zero_point=zero_point)
        self.operator(name, (source,), (output,), **options)
        return output

    def custom(self, name: str, inputs, outputs) -> None:
        operator = schema().OperatorT()
        operator.opcodeIndex = opcode_index(self.tree, name, custom=True)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        self.subgraph.operators.append(operator)

    def control_flow(self, name: str, inputs, outputs, **options: int) -> None:
        """IF or WHILE, whose options name subgraphs."""
        operator = schema().OperatorT()
        operator.opcodeIndex = opcode_index(self.tree, name)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        table = {"IF": "IfOptions", "WHILE": "WhileOptions"}[name]
        operator.builtinOptionsType = enum_value("BuiltinOptions", table)
        operator.builtinOptions = getattr(schema(), f"{table}T")()
        for key, value in options.items():
            setattr(operator.builtinOptions, key, value)
        self.subgraph.operators.append(operator)

    def another_subgraph(self, body) -> int:
        """Add a subgraph that `body(builder)` fills and whose outputs it returns; gives its index."""
        outer, inputs = self.subgraph, self._inputs
        self.subgraph, self._inputs = schema().SubGraphT(), []
        self.subgraph.tensors, self.subgraph.operators = [], []
        self.tree.subgraphs.append(self.subgraph)
        outputs = body(self)
        self.subgraph.inputs, self.subgraph.outputs = list(self._inputs), list(outputs)
        self.subgraph, self._inputs = outer, inputs
        return len(self.tree.subgraphs) - 1

    def offline_plan(self, offsets) -> None:
        set_metadata(
            self.tree, "OfflineMemoryAllocation", np.array([1, 1, len(offsets), *offsets], "<i4").tobytes()
        )

    def share(self, index: int, content: bytes) -> None:
        """Give a tensor constant data."""
        self.subgraph.tensors[index].buffer = add_buffer(self.tree, content)

    def model(self, *outputs: int) -> Model:
        return Model.from_bytes(self.build(outputs))


def small_cnn(seed: int = 0) -> Model:
    """A CNN of a few kilobytes: two convolutions, a pooling, a dense layer."""
    builder = BoardBuilder(seed)
    source = builder.input((1, 12, 12, 4), scale=SCALE)
    hidden = builder.conv(builder.conv(source, 16), 16, stride=2)
    pooled = builder.unary(
        "MAX_POOL_2D",
        hidden,
        (1, 3, 3, 16),
        padding="VALID",
        stride_w=2,
        stride_h=2,
        filter_width=2,
        filter_height=2,
    )
    flat = builder.unary("RESHAPE", pooled, (1, 144), new_shape=[1, 144])
    return builder.model(builder.softmax(builder.dense(flat, 10)))
