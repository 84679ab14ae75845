"""The encoding of TFLM_DECODE, and the kernel that reads it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.single_operator import GraphBuilder
from tflnest.errors import FormatError, UnsupportedError
from tflnest.interpreter import Interpreter
from tflnest.lookup_table import DECODE, decode, encode, index_bits
from tflnest.model import Model, opcode_index
from tflnest.schema import schema


@pytest.mark.parametrize("values", [1, 2, 3, 5, 16, 17, 64, 65, 128])
@pytest.mark.parametrize("count", [1, 7, 64, 333])
def test_decoding_gives_the_weights_again(values, count):
    rng = np.random.default_rng(values)
    table = rng.choice(np.arange(-128, 128), values, replace=False).astype(np.int8)
    weights = rng.choice(table, count)
    packed, ancillary = encode(weights)
    bits = index_bits(np.unique(weights).size)
    assert packed.size == -(-count * bits // 8)
    assert ancillary.size == 16 + (1 << bits)
    np.testing.assert_array_equal(decode(packed, ancillary, count), weights)


def test_the_layout_is_that_of_tflm():
    packed, ancillary = encode(np.array([-3, 5, 5, 9, -3], np.int8))
    # Two bits per index, the first in the highest bits: 00 01 01 10, 00 and six free bits.
    assert packed.tolist() == [0b00010110, 0b00000000]
    assert ancillary.tolist() == [0, 1, 0, 0, 1, 15 << 4 | 2, 0, *[0] * 9, 253, 5, 9, 0]


@pytest.mark.parametrize("last", [False, True])
def test_each_channel_can_have_a_table(last):
    rng = np.random.default_rng(3)
    channels, each, bits, stride = 5, 12, 3, 8
    tables = rng.integers(-128, 128, (channels, stride)).astype(np.int8)
    indices = rng.integers(0, 1 << bits, (each, channels) if last else (channels, each))
    places = np.arange(bits - 1, -1, -1)
    packed = np.packbits((indices.reshape(-1, 1) >> places & 1).astype(np.uint8))
    header = np.array([0, 1, 0, 0, 1, bits, stride, *[0] * 9], np.uint8)
    ancillary = np.concatenate([header, tables.reshape(-1).view(np.uint8)])
    channel = np.broadcast_to(np.arange(channels), (each, channels))
    expected = tables[channel if last else channel.T, indices].reshape(-1)
    np.testing.assert_array_equal(decode(packed, ancillary, indices.size, channels, last), expected)


def test_what_contradicts_itself_is_refused():
    packed, ancillary = encode(np.arange(-20, 20, dtype=np.int8))
    with pytest.raises(FormatError, match="has 9 bytes"):
        decode(packed, ancillary[:9], 40)
    with pytest.raises(FormatError, match="41 indices of 6 bits are not in 30 bytes"):
        decode(packed, ancillary, 41)
    with pytest.raises(FormatError, match="leads to entry"):
        decode(packed, ancillary[:30], 40)
    for place, value in ((0, 2), (1, 3), (4, 2)):
        other = ancillary.copy()
        other[place] = value
        with pytest.raises(UnsupportedError, match="only LUT, 1 is known"):
            decode(packed, other, 40)
    other = ancillary.copy()
    other[5] = 0xF0
    with pytest.raises(FormatError, match="indices of 0 bits"):
        decode(packed, other, 40)


def decoder(packed, ancillary, shape, scales, axis, type_name="INT8", inputs=2):
    """A model whose only operator decodes constants into an output, and adds its input."""
    graph = GraphBuilder()
    x = graph.input(shape, scale=0.5)
    constants = [graph.constant(values) for values in (packed, ancillary)][:inputs]
    decoded = graph.tensor(shape, type_name, scale=0.5)
    tensor = graph.subgraph.tensors[decoded]
    tensor.quantization.scale = np.asarray(scales, np.float32)
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = axis
    operator = schema().OperatorT()
    operator.opcodeIndex = opcode_index(graph.tree, DECODE, custom=True)
    operator.inputs, operator.outputs = constants, [decoded]
    graph.subgraph.operators.append(operator)
    return Interpreter(model=Model.from_bytes(graph.build([x, decoded])))


def test_the_interpreter_decodes_constants():
    weights = np.arange(-12, 12, dtype=np.int8).reshape(1, 4, 6)
    packed, ancillary = encode(weights)
    for scales, axis in (([0.5], 0), ([0.5] * 6, 2)):
        interpreter = decoder(packed, ancillary, (1, 4, 6), scales, axis)
        interpreter.allocate_tensors()
        interpreter.invoke()
        place = interpreter.get_output_details()[1]["index"]
        np.testing.assert_array_equal(interpreter.get_tensor(place), weights)


def test_the_interpreter_refuses_what_tflm_refuses():
    packed, ancillary = encode(np.arange(-12, 12, dtype=np.int8))
    with pytest.raises(UnsupportedError, match="along axis 1"):
        decoder(packed, ancillary, (1, 4, 6), [0.5] * 4, 1).allocate_tensors()
    with pytest.raises(FormatError, match="each output takes two inputs"):
        decoder(packed, ancillary, (1, 4, 6), [0.5], 0, inputs=1).allocate_tensors()
    with pytest.raises(UnsupportedError, match="decodes INT16"):
        decoder(packed, ancillary, (1, 4, 6), [0.5], 0, "INT16").allocate_tensors()
