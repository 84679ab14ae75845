"""What each TensorFlow Lite Micro kernel asks the arena for.

Every kernel keeps a parsed copy of its options and a structure of its own in the tail, and may ask for
persistent buffers (per-channel multipliers), for scratch that lives while the operator runs, and for
temporary tensors while it prepares. Facts from TFLM's kernels (kernels/*.cc) and from its option parser
(core/api/flatbuffer_conversions.cc); structures are written as `firmware_sim.target` explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from firmware_sim.target import Target
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.nested import PREFIX, is_nested

_POOL = "e4ie(4i)"
_RESIZE = "2b"
_CONV_PARAMS = "(b4h4h9i)"
_PAD_PARAMS = "(b5ib5ib)"

#: Members of the parsed options of each operator; operators that are not named have none. What only the
#: wheel's build has follows a vertical bar.
OPTIONS = {
    "ADD": "eb",
    "ARG_MAX": "e",
    "ARG_MIN": "e",
    "AVERAGE_POOL_2D": _POOL,
    "BATCH_MATMUL": "3b",
    "CALL_ONCE": "i",
    "CAST": "2e",
    "CONCATENATION": "ie",
    "CONV_2D": "e2ie2ie",
    "CUMSUM": "2b",
    "DEPTH_TO_SPACE": "i",
    "DEPTHWISE_CONV_2D": "e3ie2i",
    "DIV": "e",
    "FULLY_CONNECTED": "2e2be|2P",
    "GATHER": "2i",
    "IF": "2i",
    "L2_NORMALIZATION": "e",
    "L2_POOL_2D": _POOL,
    "LEAKY_RELU": "i",
    "MAX_POOL_2D": _POOL,
    "MEAN": "b",
    "MIRROR_PAD": "e",
    "MUL": "e",
    "PACK": "2i",
    "REDUCE_ALL": "b",
    "REDUCE_MAX": "b",
    "REDUCE_MIN": "b",
    "RESHAPE": "9i",
    "RESIZE_BILINEAR": _RESIZE,
    "RESIZE_NEAREST_NEIGHBOR": _RESIZE,
    "SHAPE": "e",
    "SOFTMAX": "i",
    "SPACE_TO_DEPTH": "i",
    "SPLIT": "i",
    "SPLIT_V": "i",
    "SQUEEZE": "9i",
    "STRIDED_SLICE": "5ib",
    "SUB": "eb",
    "SUM": "b",
    "SVDF": "ieb",
    "TRANSPOSE_CONV": "e2i2e",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "e2i3b",
    "UNPACK": "2i",
    "VAR_HANDLE": "2P",
    "WHILE": "2i",
}

_CONV_STATE = "4i3i2i2P2ii"
_COMPARISON = "(7ib)"
_REDUCE = "11i"

#: Members of each kernel's own structure, written likewise; what follows a second bar every build has.
STATE = {
    "ADD": "b14i",
    "ADD_N": "10i",
    "ASSIGN_VARIABLE": "i",
    "AVERAGE_POOL_2D": "4i2i2i",
    "CALL_ONCE": "ib",
    "CONCATENATION": "(iPPiii)|10i",
    "CONV_2D": _CONV_STATE + "|2i",
    "CUMSUM": "9i",
    "DEPTHWISE_CONV_2D": _CONV_STATE + "|2i",
    "DEQUANTIZE": "(qi)3i",
    "DIV": "7i",
    "ELU": "256b",
    "EQUAL": _COMPARISON,
    "FULLY_CONNECTED": "9i2Pb|2i",
    "GREATER": _COMPARISON,
    "GREATER_EQUAL": _COMPARISON,
    "HARD_SWISH": "3hihi",
    "IF": "2i",
    "L2_NORMALIZATION": "i",
    "LEAKY_RELU": "6i",
    "LESS": _COMPARISON,
    "LESS_EQUAL": _COMPARISON,
    "LOG_SOFTMAX": "5i2z",
    "LOGISTIC": "4i",
    "MAX_POOL_2D": "4i2i2i",
    "MEAN": _REDUCE,
    "MIRROR_PAD": "5i",
    "MUL": "9i",
    "NOT_EQUAL": _COMPARISON,
    "PAD": _PAD_PARAMS + "i",
    "PADV2": _PAD_PARAMS + "i",
    "PRELU": "7i",
    "QUANTIZE": "(iq)3i",
    "REDUCE_ALL": _REDUCE,
    "REDUCE_MAX": _REDUCE,
    "REDUCE_MIN": _REDUCE,
    "RELU": "(b6i)",
    "RELU6": "2i",
    "SELECT_V2": "b",
    "SOFTMAX": "q7i5P",
    "SPACE_TO_BATCH_ND": "i",
    "STRIDED_SLICE": "b5ib5ib5i5hb",
    "SUB": "b12i",
    "SUM": _REDUCE,
    "SVDF": "9i",
    "TANH": "4i",
    "TRANSPOSE_CONV": _CONV_PARAMS + "i|2i|i2P",
    "VAR_HANDLE": "i",
    "WHILE": "2i",
}

#: Kernels that keep nothing of their own in the arena.
STATELESS = frozenset({
    "ARG_MAX", "ARG_MIN", "BATCH_TO_SPACE_ND", "BROADCAST_ARGS", "BROADCAST_TO", "CAST", "CEIL", "COS",
    "DEPTH_TO_SPACE", "DYNAMIC_UPDATE_SLICE", "EXP", "EXPAND_DIMS", "FILL", "FLOOR", "FLOOR_DIV", "FLOOR_MOD",
    "GATHER", "GATHER_ND", "LOG", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "MAXIMUM", "MINIMUM", "NEG",
    "PACK", "READ_VARIABLE", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "ROUND",
    "SHAPE", "SIN", "SLICE", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQRT", "SQUARE", "SQUEEZE", "TRANSPOSE",
    "UNPACK", "ZEROS_LIKE",
})  # fmt: skip

_SOFTMAX_TABLE_BYTES = 513 * 2


@dataclass(frozen=True)
class Ask:
    """One thing that a kernel asks for while it prepares.

    Attributes:
        kind: "temp" (a temporary tensor), "persistent" (a buffer in the tail) or "scratch".
        amount: The tensor's index, or bytes.
    """

    kind: Literal["temp", "persistent", "scratch"]
    amount: int


def base_name(operator: Operator) -> str:
    """The builtin operator whose rules count.

    The kernel of a nested operator keeps what TFLM's kernel for the stock operator keeps, except for the
    per-channel multipliers, which lie in flash.
    """
    return operator.name.removeprefix(PREFIX) if is_nested(operator) else operator.name


def is_known(operator: Operator) -> bool:
    """Whether the bytes that the kernel keeps are known."""
    name = base_name(operator)
    return name in STATE or name in STATELESS


def options_layout(operator: Operator, target: Target) -> tuple[int, int]:
    """Size and alignment of the parsed options; size 0 where TFLM parses none. Custom options stay in flash."""
    members = None if operator.is_custom else OPTIONS.get(operator.name)
    return (0, 1) if members is None else target.layout(_for_target(members, target))


def state_bytes(operator: Operator, target: Target) -> int:
    """Bytes of the kernel's own structure; 0 where it has none, or where it is not known."""
    members = STATE.get(base_name(operator))
    return 0 if members is None else target.sizeof(_for_target(members, target))


def _for_target(members: str, target: Target) -> str:
    common, _, rest = members.partition("|")
    wheel, _, last = rest.partition("|")
    return common + (wheel if target.wheel else "") + last


def prepare(operator: Operator, subgraph: Subgraph) -> Iterator[Ask]:
    """What the kernel asks for while it prepares, in TFLM's order."""
    if is_nested(operator):
        yield from _temps((*operator.inputs[:1], *operator.outputs))
    else:
        yield from _RULES.get("" if operator.is_custom else operator.name, _default)(operator, subgraph)


def _temps(indices: tuple[int, ...]) -> Iterator[Ask]:
    for index in indices:
        if index >= 0:
            yield Ask("temp", index)


def _at(indices: tuple[int, ...], position: int) -> int:
    return indices[position] if position < len(indices) else -1


def _tensor(operator: Operator, subgraph: Subgraph, position: int) -> Tensor | None:
    index = _at(operator.inputs, position)
    return subgraph.tensors[index] if index >= 0 else None


def _default(operator: Operator, _subgraph: Subgraph) -> Iterator[Ask]:
    yield from _temps(operator.inputs + operator.outputs)


def _multipliers(channels: int) -> Iterator[Ask]:
    yield Ask("persistent", 4 * channels)
    yield Ask("persistent", 4 * channels)


def _dimension(tensor: Tensor | None, axis: int) -> int:
    return tensor.shape[axis] if tensor is not None and len(tensor.shape) > axis else 0


def _convolution(operator: Operator, subgraph: Subgraph) -> Iterator[Ask]:
    source, weights, bias = (_at(operator.inputs, position) for position in range(3))
    output = _at(operator.outputs, 0)
    filter_tensor = _tensor(operator, subgraph, 1)
    yield from _temps((output, source, weights))
    yield from _multipliers(_dimension(filter_tensor, 3 if operator.name == "DEPTHWISE_CONV_2D" else 0))
    yield from _temps((source, weights, bias, output))
    yield from _unpacked_filter(filter_tensor)


def _unpacked_filter(filter_tensor: Tensor | None) -> Iterator[Ask]:
    """Filters of 4 bits are unpacked as a whole before they are used."""
    if filter_tensor is not None and filter_tensor.type == "INT4":
        yield Ask("scratch", filter_tensor.size)


def _fully_connected(operator: Operator, subgraph: Subgraph) -> Iterator[Ask]:
    weights = _tensor(operator, subgraph, 1)
    yield from _temps((*operator.inputs[:3], *operator.outputs))
    yield from _unpacked_filter(weights)
    quantization = weights.quantization if weights is not None else None
    if quantization is not None and quantization.per_channel:
        yield from _multipliers(quantization.scale.size)


def _transpose_conv(operator: Operator, subgraph: Subgraph) -> Iterator[Ask]:
    weights, source = _at(operator.inputs, 1), _at(operator.inputs, 2)
    output = _at(operator.outputs, 0)
    yield from _temps((output, source, weights))
    yield from _multipliers(_dimension(_tensor(operator, subgraph, 1), 0))
    accumulator = {"INT8": 4, "INT16": 8}.get(subgraph.tensors[source].type if source >= 0 else "", 0)
    if accumulator and output >= 0:
        yield Ask("scratch", accumulator * subgraph.tensors[output].size)
    yield from _temps((source, weights, _at(operator.inputs, 3), output))


def _reduction(operator: Operator, subgraph: Subgraph) -> Iterator[Ask]:
    source, axis = _tensor(operator, subgraph, 0), _tensor(operator, subgraph, 1)
    output = _at(operator.outputs, 0)
    both = (_at(operator.inputs, 0), _at(operator.inputs, 1))
    yield from _temps((both[0], output, both[1]))
    if source is None or axis is None or output < 0:
        return
    if operator.name in ("MEAN", "SUM") and source.type in ("INT8", "INT16"):
        yield Ask("scratch", 4 * subgraph.tensors[output].size)
    yield Ask("scratch", 4 * len(source.shape))
    yield Ask("scratch", 4 * axis.size)
    yield from _temps((both[0], both[1], output))


def _softmax(operator: Operator, subgraph: Subgraph) -> Iterator[Ask]:
    yield from _default(operator, subgraph)
    source = _tensor(operator, subgraph, 0)
    if source is not None and source.type == "INT16":
        yield Ask("persistent", _SOFTMAX_TABLE_BYTES)
        yield Ask("persistent", _SOFTMAX_TABLE_BYTES)


def _svdf(operator: Operator, subgraph: Subgraph) -> Iterator[Ask]:
    yield from _default(operator, subgraph)
    source, feature = _tensor(operator, subgraph, 0), _tensor(operator, subgraph, 1)
    batch, filters = _dimension(source, 0), _dimension(feature, 0)
    yield Ask("scratch", 4 * batch * filters)
    if source is not None and source.type == "INT8":
        rank = max(int(operator.options.get("rank", 1)), 1)
        yield Ask("scratch", 4 * batch * (filters // rank))


def _mirror_pad(operator: Operator, subgraph: Subgraph) -> Iterator[Ask]:
    yield from _default(operator, subgraph)
    source = _tensor(operator, subgraph, 0)
    rank = len(source.shape) if source is not None else 0
    yield Ask("scratch", 4 * rank)
    yield Ask("scratch", 4 * rank)


def _axis_of_split(operator: Operator, _subgraph: Subgraph) -> Iterator[Ask]:
    yield from _temps((_at(operator.inputs, 0 if operator.name == "SPLIT" else 2),))


def _nothing(_operator: Operator, _subgraph: Subgraph) -> Iterator[Ask]:
    yield from ()


_RULES: dict[str, Callable[[Operator, Subgraph], Iterator[Ask]]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transpose_conv,
    "MEAN": _reduction,
    "SUM": _reduction,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "REDUCE_ALL": _reduction,
    "SOFTMAX": _softmax,
    "SVDF": _svdf,
    "MIRROR_PAD": _mirror_pad,
    "SPLIT": _axis_of_split,
    "SPLIT_V": _axis_of_split,
    "MAXIMUM": _nothing,
    "MINIMUM": _nothing,
    "PACK": _nothing,
    "UNPACK": _nothing,
    "ARG_MAX": _nothing,
    "ARG_MIN": _nothing,
}
