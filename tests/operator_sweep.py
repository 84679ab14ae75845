"""Random one-operator models for every operator of the reference interpreter.

Each function of `CASES` draws one model with its inputs from a generator; names read "OPERATOR-variant".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.single_operator import GraphBuilder
from tflnest.graph import DTYPES

ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")

#: Invokes per model.
INVOKES = 2


@dataclass(frozen=True)
class Case:
    """One model and its inputs, one list of arrays per invoke."""

    model: bytes
    inputs: list[list[NDArray[Any]]]


@dataclass
class Draw:
    """A random model in the making; with `extreme`, scales are from 1e-6 to 20 and do not fit each other."""

    rng: np.random.Generator
    extreme: bool = False
    graph: GraphBuilder = field(default_factory=GraphBuilder)
    inputs: list[list[NDArray[Any]]] = field(default_factory=lambda: [[] for _ in range(INVOKES)])

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def shape(self, rank: int, largest: int = 7) -> tuple[int, ...]:
        return tuple(self.integer(1, largest) for _ in range(rank))

    def scale(self, low: float = 0.003, high: float = 0.3) -> float:
        low, high = (1e-6, 20.0) if self.extreme else (low, high)
        return float(np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high)))))

    def around(self, scale: float, spread: float = 3.0) -> float:
        spread = 1e6 if self.extreme else spread
        return float(np.float32(scale * np.exp(self.rng.uniform(-np.log(spread), np.log(spread)))))

    def zero_point(self) -> int:
        return self.choice((-128, 0, 127, *(self.integer(-128, 127) for _ in range(5))))

    def activation(self) -> str:
        return self.choice(ACTIVATIONS)

    def values(self, shape: Sequence[int], type_name: str = "INT8") -> NDArray[Any]:
        dtype = DTYPES[type_name]
        if dtype.kind == "f":
            return (self.rng.standard_normal(shape) * self.choice((0.1, 1.0, 10.0))).astype(dtype)
        if dtype.kind == "b":
            return self.rng.integers(0, 2, shape).astype(bool)
        info = np.iinfo(dtype)
        low, high = max(int(info.min), -(1 << 20)), min(int(info.max), 1 << 20)
        if self.chance(0.2):
            return self.rng.choice(np.array([low, high], dtype=dtype), size=shape)
        return self.rng.integers(low, high, shape, dtype=dtype, endpoint=True)

    def input(
        self, shape: Sequence[int], type_name: str = "INT8", scale: float | None = None, zero_point: int = 0
    ) -> int:
        """An input of the model with values for every invoke."""
        for row in self.inputs:
            row.append(self.values(shape, type_name))
        return self.graph.input(shape, type_name, scale, zero_point)

    def quantized(self, shape: Sequence[int], scale: float | None = None) -> int:
        """An int8 input with random quantization."""
        return self.input(shape, "INT8", self.scale() if scale is None else scale, self.zero_point())

    def constant(self, *values: int) -> int:
        return self.graph.constant(np.array(values, dtype=np.int32))

    def finish(self, *outputs: int) -> Case:
        return Case(self.graph.build(outputs), self.inputs)

    def operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> Case:
        """Add the operator and finish."""
        self.graph.operator(name, inputs, outputs, **options)
        return self.finish(*outputs)


Make = Callable[[Draw], Case]
CASES: dict[str, Make] = {}

#: Cases that TFLM does not run (operator or type not there); LiteRT's reference kernels are their oracle.
WITHOUT_TFLM: set[str] = set()

#: Cases that LiteRT's reference kernels compute differently from TFLM, or refuse.
WITHOUT_LITERT = {
    "ADD-int32",
    "CONV_2D-int8-absent-bias",
    "CONV_2D-int8-no-bias",
    "FULLY_CONNECTED-int8",
    "FULLY_CONNECTED-int8-per-channel",
    "QUANTIZE-int8-int32",
    "QUANTIZE-int16-int32",
    "RELU6-int8",
    "SUM-int8",
}


def case(name: str, tflm: bool = True) -> Callable[[Make], Make]:
    def decorate(function: Make) -> Make:
        CASES[name] = function
        if not tflm:
            WITHOUT_TFLM.add(name)
        return function

    return decorate


# ---------------------------------------------------------------------------------------- element-wise


def _broadcast_shapes(d: Draw, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    output = d.shape(rank)
    shapes = []
    for _ in range(2):
        shape = tuple(1 if d.chance(0.3) else size for size in output)
        shapes.append(shape[d.integer(0, rank - 1) :] if d.chance(0.3) else shape)
    return shapes[0], shapes[1], np.broadcast_shapes(*shapes)


def _register_binary(name: str) -> None:
    fused = name in ("ADD", "SUB", "MUL")

    def options(d: Draw) -> dict[str, Any]:
        return {"fused_activation_function": d.activation()} if fused else {}

    def int8(d: Draw, first: Sequence[int], second: Sequence[int], output: Sequence[int]) -> Case:
        scales = d.scale(), d.scale()
        x = d.quantized(first, scales[0])
        if d.chance(0.3):
            y = d.graph.constant(d.values(second), scales[1], d.zero_point())
        else:
            y = d.quantized(second, scales[1])
        natural = scales[0] * scales[1] * 60 if name == "MUL" else max(scales)
        out = d.graph.tensor(output, "INT8", d.around(natural), d.zero_point())
        return d.operator(name, [x, y], [out], **options(d))

    def same(d: Draw) -> Case:
        shape = d.shape(d.integer(1, 4))
        return int8(d, shape, shape, shape)

    def broadcast(d: Draw) -> Case:
        return int8(d, *_broadcast_shapes(d, d.integer(2, 4)))

    def plain(type_name: str) -> Make:
        def make(d: Draw) -> Case:
            first, second, output = _broadcast_shapes(d, d.integer(1, 4))
            x, y = d.input(first, type_name), d.input(second, type_name)
            return d.operator(name, [x, y], [d.graph.tensor(output, type_name)], **options(d))

        return make

    case(f"{name}-int8")(same)
    case(f"{name}-int8-broadcast")(broadcast)
    for type_name in ("INT32", "FLOAT32"):
        case(f"{name}-{type_name.lower()}")(plain(type_name))


for _name in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
    _register_binary(_name)


# -------------------------------------------------------------------------------- pooling and reductions


def _register_pool(name: str) -> None:
    @case(f"{name}-int8")
    def make(d: Draw) -> Case:
        padding = d.choice(("SAME", "VALID"))
        height, width, channels = d.integer(1, 12), d.integer(1, 12), d.integer(1, 9)
        size = [d.integer(1, 6 if padding == "SAME" else limit) for limit in (height, width)]
        if d.chance(0.2):
            size, padding = [height, width], "VALID"
        stride = d.integer(1, 3), d.integer(1, 3)
        span = (1, 1) if padding == "SAME" else size
        out = [
            -(-(extent - part + 1) // step)
            for extent, part, step in zip((height, width), span, stride, strict=True)
        ]
        scale, zero_point = d.scale(), d.zero_point()
        samples = d.choice((1, 1, 2))
        x = d.input((samples, height, width, channels), "INT8", scale, zero_point)
        y = d.graph.tensor((samples, *out, channels), "INT8", scale, zero_point)
        return d.operator(
            name,
            [x],
            [y],
            padding=padding,
            stride_h=stride[0],
            stride_w=stride[1],
            filter_height=size[0],
            filter_width=size[1],
            fused_activation_function=d.activation(),
        )


_register_pool("AVERAGE_POOL_2D")
_register_pool("MAX_POOL_2D")


def _register_reduction(name: str) -> None:
    @case(f"{name}-int8")
    def make(d: Draw) -> Case:
        rank = d.integer(1, 4)
        shape = d.shape(rank, 9)
        axes = [axis for axis in range(rank) if d.chance()] or [d.integer(0, rank - 1)]
        keep = d.chance()
        output = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
        count = int(np.prod([shape[axis] for axis in axes]))
        scale = d.scale()
        x = d.quantized(shape, scale)
        given = d.constant(*(axis - rank if d.chance(0.3) else axis for axis in axes))
        natural = scale if name == "MEAN" else scale * np.sqrt(count)
        y = d.graph.tensor(output, "INT8", d.around(natural), d.zero_point())
        return d.operator(name, [x, given], [y], keep_dims=keep)


_register_reduction("MEAN")
_register_reduction("SUM")


def _arg_max(d: Draw, type_name: str, output_type: str) -> Case:
    rank = d.integer(1, 4)
    shape = d.shape(rank)
    axis = d.integer(0, rank - 1)
    x = d.input(shape, type_name, 0.1 if type_name == "INT8" else None)
    y = d.graph.tensor(shape[:axis] + shape[axis + 1 :], output_type)
    output = {"INT32": 2, "INT64": 4}[output_type]
    return d.operator("ARG_MAX", [x, d.constant(axis)], [y], output_type=output)


case("ARG_MAX-int8")(lambda d: _arg_max(d, "INT8", "INT32"))
case("ARG_MAX-float32")(lambda d: _arg_max(d, "FLOAT32", "INT32"))
case("ARG_MAX-int8-int64", tflm=False)(lambda d: _arg_max(d, "INT8", "INT64"))


# ------------------------------------------------------------------------------------------- activations


def _unary(
    d: Draw, name: str, scale_in: float, scale_out: float, zero_out: int | None = None, **options: Any
) -> Case:
    shape = d.shape(d.integer(1, 4), 9)
    x = d.quantized(shape, scale_in)
    y = d.graph.tensor(shape, "INT8", scale_out, d.zero_point() if zero_out is None else zero_out)
    return d.operator(name, [x], [y], **options)


def _float_unary(d: Draw, name: str, **options: Any) -> Case:
    shape = d.shape(d.integer(1, 4), 9)
    return d.operator(name, [d.input(shape, "FLOAT32")], [d.graph.tensor(shape, "FLOAT32")], **options)


@case("LOGISTIC-int8")
def _logistic(d: Draw) -> Case:
    return _unary(d, "LOGISTIC", d.scale(), 1 / 256, -128)


@case("TANH-int8")
def _tanh(d: Draw) -> Case:
    return _unary(d, "TANH", d.scale(), 1 / 128, 0)


@case("RELU-int8")
def _relu(d: Draw) -> Case:
    scale = d.scale()
    return _unary(d, "RELU", scale, d.around(scale))


@case("RELU6-int8")
def _relu6(d: Draw) -> Case:
    scale = d.scale()
    return _unary(d, "RELU6", scale, d.around(scale))


@case("LEAKY_RELU-int8")
def _leaky_relu(d: Draw) -> Case:
    scale = d.scale()
    return _unary(d, "LEAKY_RELU", scale, d.around(scale), alpha=d.choice((0.01, 0.1, 0.3, 1.5, -0.5)))


@case("HARD_SWISH-int8")
def _hard_swish(d: Draw) -> Case:
    scale = d.scale()
    return _unary(d, "HARD_SWISH", scale, d.around(scale))


case("RELU-float32")(lambda d: _float_unary(d, "RELU"))
case("RELU6-float32")(lambda d: _float_unary(d, "RELU6"))
case("LEAKY_RELU-float32")(lambda d: _float_unary(d, "LEAKY_RELU", alpha=0.3))


@case("PRELU-int8")
def _prelu(d: Draw) -> Case:
    shape = d.shape(4)
    alpha = d.choice((shape, (1, 1, shape[3]), (1, 1, 1, shape[3]), (1, 1, 1, 1)))
    scale, slope = d.scale(), d.scale(0.002, 0.02)
    x = d.quantized(shape, scale)
    a = d.graph.constant(d.values(alpha), slope, d.zero_point())
    y = d.graph.tensor(shape, "INT8", d.around(scale), d.zero_point())
    return d.operator("PRELU", [x, a], [y])


@case("PRELU-float32")
def _float_prelu(d: Draw) -> Case:
    shape = d.shape(4)
    x = d.input(shape, "FLOAT32")
    a = d.graph.constant(d.values((1, 1, 1, shape[3]), "FLOAT32"))
    return d.operator("PRELU", [x, a], [d.graph.tensor(shape, "FLOAT32")])


def _softmax(d: Draw, output_type: str) -> Case:
    shape = (*d.shape(d.integer(0, 3), 4), d.choice((1, 2, 3, 10, 12, 100, 1000)))
    x = d.quantized(shape, d.scale(0.001, 1.0))
    scale, zero_point = {"INT8": (1 / 256, -128), "INT16": (1 / 65536, -32768)}[output_type]
    y = d.graph.tensor(shape, output_type, scale, zero_point)
    return d.operator("SOFTMAX", [x], [y], beta=d.choice((1.0, 1.0, 0.5, 3.0)))


case("SOFTMAX-int8")(lambda d: _softmax(d, "INT8"))
case("SOFTMAX-int16")(lambda d: _softmax(d, "INT16"))


@case("L2_NORMALIZATION-int8")
def _l2_normalization(d: Draw) -> Case:
    shape = (*d.shape(d.integer(0, 3), 5), d.choice((1, 2, 5, 64, 700)))
    y = d.graph.tensor(shape, "INT8", 1 / 128, 0)
    return d.operator("L2_NORMALIZATION", [d.quantized(shape)], [y], fused_activation_function="NONE")


# -------------------------------------------------------------------------------------------------- shapes


def _any(d: Draw, shape: Sequence[int], type_name: str) -> tuple[int, float | None, int]:
    """An input of any type with its quantization."""
    scale, zero_point = (d.scale(), d.zero_point()) if type_name == "INT8" else (None, 0)
    return d.input(shape, type_name, scale, zero_point), scale, zero_point


def _moving(*types: str) -> Callable[[Callable[[Draw, str], Case]], None]:
    """Register a case of a data movement operator for several types; "-X" marks types TFLM lacks."""

    def decorate(function: Callable[[Draw, str], Case]) -> None:
        name = function.__name__.strip("_").upper()
        for entry in types:
            type_name = entry.lstrip("-")
            case(f"{name}-{type_name.lower()}", tflm=not entry.startswith("-"))(
                lambda d, type_name=type_name: function(d, type_name)
            )

    return decorate


@_moving("INT8", "FLOAT32", "INT32")
def _reshape(d: Draw, type_name: str) -> Case:
    shape = d.shape(d.integer(1, 4))
    target = d.choice(((int(np.prod(shape)),), (1, *shape), shape[::-1], (shape[0], int(np.prod(shape[1:])))))
    x, scale, zero_point = _any(d, shape, type_name)
    y = d.graph.tensor(target, type_name, scale, zero_point)
    return d.operator("RESHAPE", [x, d.constant(*target)], [y], new_shape=list(target))


@_moving("INT8", "FLOAT32")
def _squeeze(d: Draw, type_name: str) -> Case:
    shape = tuple(1 if d.chance() else size for size in d.shape(d.integer(2, 4)))
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    chosen = [axis for axis in ones if d.chance(0.6)]
    removed = chosen or ones
    x, scale, zero_point = _any(d, shape, type_name)
    target = [size for axis, size in enumerate(shape) if axis not in removed]
    y = d.graph.tensor(target, type_name, scale, zero_point)
    dims = [axis - len(shape) if d.chance(0.3) else axis for axis in chosen]
    return d.operator("SQUEEZE", [x], [y], squeeze_dims=dims)


@_moving("INT8", "FLOAT32", "-INT32")
def _expand_dims(d: Draw, type_name: str) -> Case:
    shape = d.shape(d.integer(1, 3))
    axis = d.integer(0, len(shape))
    x, scale, zero_point = _any(d, shape, type_name)
    y = d.graph.tensor((*shape[:axis], 1, *shape[axis:]), type_name, scale, zero_point)
    given = axis - len(shape) - 1 if d.chance(0.3) else axis
    return d.operator("EXPAND_DIMS", [x, d.constant(given)], [y])


@case("SHAPE-int32")
def _shape(d: Draw) -> Case:
    shape = d.shape(d.integer(1, 4))
    return d.operator("SHAPE", [d.quantized(shape)], [d.graph.tensor((len(shape),), "INT32")], out_type=2)


@_moving("INT8", "FLOAT32", "INT32", "BOOL")
def _strided_slice(d: Draw, type_name: str) -> Case:
    rank = d.integer(1, 4)
    shape = d.shape(rank, 9)
    begin, end, step, target = [], [], [], []
    masks = {"begin_mask": 0, "end_mask": 0, "shrink_axis_mask": 0}
    for axis, size in enumerate(shape):
        stride = d.choice((1, 1, 2, 3, -1, -2))
        first, last = sorted((d.integer(0, size - 1), d.integer(0, size - 1)))
        start, stop = (first, last + 1) if stride > 0 else (last, first - 1)
        if d.chance(0.2):
            stride, stop = 1, start + 1
            masks["shrink_axis_mask"] |= 1 << axis
        else:
            if d.chance(0.2):
                masks["begin_mask"] |= 1 << axis
                start = 0 if stride > 0 else size - 1
            if d.chance(0.2) or stop < 0:
                masks["end_mask"] |= 1 << axis
                stop = size if stride > 0 else -1
            target.append(len(range(start, stop, stride)))
        begin.append(start - size if d.chance(0.3) else start)
        end.append(stop + size * d.choice((0, 0, 5)) if stop == size else stop)
        step.append(stride)
    x, scale, zero_point = _any(d, shape, type_name)
    y = d.graph.tensor(target, type_name, scale, zero_point)
    given = [d.constant(*values) for values in (begin, end, step)]
    return d.operator("STRIDED_SLICE", [x, *given], [y], **masks)


@_moving("INT8", "FLOAT32", "INT32", "BOOL")
def _slice(d: Draw, type_name: str) -> Case:
    shape = d.shape(d.integer(1, 4), 9)
    begin = [d.integer(0, size - 1) for size in shape]
    size = [d.integer(1, extent - first) for first, extent in zip(begin, shape, strict=True)]
    given = [
        -1 if first + count == extent and d.chance(0.6) else count
        for first, count, extent in zip(begin, size, shape, strict=True)
    ]
    x, scale, zero_point = _any(d, shape, type_name)
    y = d.graph.tensor(size, type_name, scale, zero_point)
    return d.operator("SLICE", [x, d.constant(*begin), d.constant(*given)], [y])


@_moving("INT8", "FLOAT32", "INT32", "INT64")
def _pack(d: Draw, type_name: str) -> Case:
    shape, count = d.shape(d.integer(0, 3)), d.integer(1, 4)
    axis = d.integer(0, len(shape))
    scale, zero_point = (d.scale(), d.zero_point()) if type_name == "INT8" else (None, 0)
    inputs = [d.input(shape, type_name, scale, zero_point) for _ in range(count)]
    y = d.graph.tensor((*shape[:axis], count, *shape[axis:]), type_name, scale, zero_point)
    given = axis - len(shape) - 1 if d.chance(0.3) else axis
    return d.operator("PACK", inputs, [y], values_count=count, axis=given)


@_moving("INT8", "FLOAT32", "INT32")
def _unpack(d: Draw, type_name: str) -> Case:
    shape = d.shape(d.integer(2, 4), 4)
    axis = d.integer(0, len(shape) - 1)
    x, scale, zero_point = _any(d, shape, type_name)
    part = shape[:axis] + shape[axis + 1 :]
    outputs = [d.graph.tensor(part, type_name, scale, zero_point) for _ in range(shape[axis])]
    given = axis - len(shape) if d.chance(0.3) else axis
    return d.operator("UNPACK", [x], outputs, num=shape[axis], axis=given)


@_moving("INT8", "FLOAT32", "INT32")
def _split(d: Draw, type_name: str) -> Case:
    part = d.shape(d.integer(1, 4), 4)
    axis, count = d.integer(0, len(part) - 1), d.integer(1, 4)
    x, scale, zero_point = _any(d, (*part[:axis], part[axis] * count, *part[axis + 1 :]), type_name)
    outputs = [d.graph.tensor(part, type_name, scale, zero_point) for _ in range(count)]
    given = d.graph.constant(np.array(axis - len(part) if d.chance(0.3) else axis, np.int32))
    return d.operator("SPLIT", [given, x], outputs, num_splits=count)


@_moving("INT8", "FLOAT32", "INT32")
def _split_v(d: Draw, type_name: str) -> Case:
    part = d.shape(d.integer(1, 4), 4)
    axis = d.integer(0, len(part) - 1)
    sizes = [d.integer(1, 4) for _ in range(d.integer(1, 4))]
    x, scale, zero_point = _any(d, (*part[:axis], sum(sizes), *part[axis + 1 :]), type_name)
    outputs = [
        d.graph.tensor((*part[:axis], size, *part[axis + 1 :]), type_name, scale, zero_point)
        for size in sizes
    ]
    given = d.graph.constant(np.array(axis - len(part) if d.chance(0.3) else axis, np.int32))
    return d.operator("SPLIT_V", [x, d.constant(*sizes), given], outputs, num_splits=len(sizes))


@_moving("INT8", "FLOAT32", "INT32", "INT64", "BOOL")
def _concatenation(d: Draw, type_name: str) -> Case:
    part = d.shape(d.integer(1, 4), 4)
    axis = d.integer(0, len(part) - 1)
    sizes = [d.integer(1, 4) for _ in range(d.integer(1, 4))]
    scale, zero_point = (d.scale(), d.zero_point()) if type_name == "INT8" else (None, 0)
    inputs = [
        d.input((*part[:axis], size, *part[axis + 1 :]), type_name, scale, zero_point) for size in sizes
    ]
    y = d.graph.tensor((*part[:axis], sum(sizes), *part[axis + 1 :]), type_name, scale, zero_point)
    given = axis - len(part) if d.chance(0.3) else axis
    return d.operator("CONCATENATION", inputs, [y], axis=given, fused_activation_function="NONE")


def _padded(d: Draw, name: str, type_name: str) -> Case:
    shape = d.shape(d.integer(1, 4), 5)
    pads = [(d.integer(0, 3), d.integer(0, 3)) for _ in shape]
    if d.chance(0.3):
        pads[0] = (0, 0)
    x, scale, zero_point = _any(d, shape, type_name)
    target = [size + sum(pair) for size, pair in zip(shape, pads, strict=True)]
    y = d.graph.tensor(target, type_name, scale, zero_point)
    inputs = [x, d.graph.constant(np.array(pads, dtype=np.int32))]
    if name == "PADV2":
        inputs.append(d.graph.constant(d.values((1,), type_name), scale, zero_point))
    return d.operator(name, inputs, [y])


@_moving("INT8", "FLOAT32", "INT32")
def _pad(d: Draw, type_name: str) -> Case:
    return _padded(d, "PAD", type_name)


@_moving("INT8", "FLOAT32", "INT32")
def _padv2(d: Draw, type_name: str) -> Case:
    return _padded(d, "PADV2", type_name)


@_moving("INT8", "FLOAT32", "-INT32")
def _transpose(d: Draw, type_name: str) -> Case:
    shape = d.shape(d.integer(1, 5), 5)
    permutation = [int(axis) for axis in d.rng.permutation(len(shape))]
    x, scale, zero_point = _any(d, shape, type_name)
    y = d.graph.tensor([shape[axis] for axis in permutation], type_name, scale, zero_point)
    return d.operator("TRANSPOSE", [x, d.constant(*permutation)], [y])


def _resize(d: Draw, name: str, type_name: str, modes: Sequence[tuple[bool, bool]]) -> Case:
    shape = (d.choice((1, 1, 2)), d.integer(1, 9), d.integer(1, 9), d.integer(1, 5))
    size = d.integer(1, 17), d.integer(1, 17)
    align, half = d.choice(modes)
    x, scale, zero_point = _any(d, shape, type_name)
    y = d.graph.tensor((shape[0], *size, shape[3]), type_name, scale, zero_point)
    return d.operator(name, [x, d.constant(*size)], [y], align_corners=align, half_pixel_centers=half)


@_moving("INT8")
def _resize_bilinear(d: Draw, type_name: str) -> Case:
    return _resize(d, "RESIZE_BILINEAR", type_name, ((False, False), (True, False), (False, True)))


@_moving("INT8", "FLOAT32")
def _resize_nearest_neighbor(d: Draw, type_name: str) -> Case:
    modes = ((False, False), (True, False), (False, True), (True, True))
    return _resize(d, "RESIZE_NEAREST_NEIGHBOR", type_name, modes)


# --------------------------------------------------------------------------------------------- conversion


def _quantization(d: Draw, type_name: str, scale: float) -> tuple[float | None, int]:
    if type_name == "FLOAT32":
        return None, 0
    if type_name == "UINT8":
        return scale, d.integer(0, 255)
    return scale, d.zero_point() if type_name == "INT8" else 0


def _register_quantize(source: str, target: str, tflm: bool = True) -> None:
    @case(f"QUANTIZE-{source.lower()}-{target.lower()}", tflm)
    def make(d: Draw) -> Case:
        shape = d.shape(d.integer(1, 4), 9)
        width = {"INT8": 1.0, "UINT8": 1.0, "INT16": 256.0, "INT32": 65536.0, "FLOAT32": 1.0}
        scale = d.scale()
        x = d.input(shape, source, *_quantization(d, source, scale / width[source]))
        y = d.graph.tensor(shape, target, *_quantization(d, target, d.around(scale / width[target])))
        return d.operator("QUANTIZE", [x], [y])


for _source, _target in (
    ("FLOAT32", "INT8"),
    ("FLOAT32", "INT16"),
    ("INT8", "INT8"),
    ("INT8", "UINT8"),
    ("INT8", "INT16"),
    ("INT8", "INT32"),
    ("UINT8", "INT8"),
    ("INT16", "INT8"),
    ("INT16", "INT16"),
    ("INT16", "INT32"),
    ("INT32", "INT8"),
    ("INT32", "INT16"),
):
    _register_quantize(_source, _target)


@_moving("INT8", "UINT8", "INT16")
def _dequantize(d: Draw, type_name: str) -> Case:
    shape = d.shape(d.integer(1, 4), 9)
    x = d.input(shape, type_name, *_quantization(d, type_name, d.scale()))
    return d.operator("DEQUANTIZE", [x], [d.graph.tensor(shape, "FLOAT32")])


def _register_cast(source: str, target: str, tflm: bool = True) -> None:
    @case(f"CAST-{source.lower()}-{target.lower()}", tflm)
    def make(d: Draw) -> Case:
        shape = d.shape(d.integer(1, 4), 9)
        x, y = d.input(shape, source), d.graph.tensor(shape, target)
        return d.operator("CAST", [x], [y])


for _source in ("INT8", "INT16", "INT32", "FLOAT32", "BOOL"):
    for _target in ("INT8", "INT16", "INT32", "FLOAT32"):
        if _source != _target:
            _register_cast(_source, _target)
_register_cast("INT32", "INT64", tflm=False)
_register_cast("INT64", "INT32", tflm=False)
_register_cast("INT8", "BOOL", tflm=False)


# ------------------------------------------------------------------------------------------- convolutions


def _weights(
    d: Draw, shape: Sequence[int], axis: int, channels: int, per_channel: bool = True
) -> tuple[int, NDArray[Any]]:
    scales = np.array([d.scale(0.0005, 0.02) for _ in range(channels if per_channel else 1)], np.float32)
    values = d.rng.integers(-127, 127, shape, dtype=np.int8, endpoint=True)
    return d.graph.constant(values, scales, 0, axis), scales


def _bias(d: Draw, scale_in: float, scales: NDArray[Any], channels: int, spread: int) -> int:
    values = d.rng.integers(-spread, spread, channels, dtype=np.int32, endpoint=True)
    return d.graph.constant(values, (scales * np.float32(scale_in)).astype(np.float32), 0, 0)


def _accumulator_scale(d: Draw, scale_in: float, scales: NDArray[Any], products: int) -> float:
    """An output scale at which random sums of products fill the int8 range."""
    return d.around(float(scale_in * scales.mean() * 74 * 74 * np.sqrt(products) / 60))


def _window(d: Draw, limit: int = 4) -> dict[str, Any]:
    return {
        "padding": d.choice(("SAME", "VALID")),
        "stride_h": d.integer(1, 3),
        "stride_w": d.integer(1, 3),
        "fused_activation_function": d.activation(),
    }


def _output_size(
    options: dict[str, Any], image: Sequence[int], size: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    strides = options["stride_h"], options["stride_w"]
    if options["padding"] == "SAME":
        return [-(-extent // step) for extent, step in zip(image, strides, strict=True)]
    spans = [(taps - 1) * step + 1 for taps, step in zip(size, dilation, strict=True)]
    return [(extent - span) // step + 1 for extent, span, step in zip(image, spans, strides, strict=True)]


def _convolution(d: Draw, groups: int, dilated: bool, per_channel: bool = True, bias: str = "given") -> Case:
    size = d.choice(((1, 1), (1, 1), (3, 3), (d.integer(1, 4), d.integer(1, 4))))
    dilation = (d.integer(1, 3), d.integer(1, 3)) if dilated else (1, 1)
    image = [d.integer((taps - 1) * step + 1, 12) for taps, step in zip(size, dilation, strict=True)]
    depth, channels = d.integer(1, 6), d.integer(1, 6) * groups
    options = _window(d)
    scale = d.scale()
    samples = d.choice((1, 1, 3))
    x = d.quantized((samples, *image, depth * groups), scale)
    weights, scales = _weights(d, (channels, *size, depth), 0, channels, per_channel)
    products = size[0] * size[1] * depth
    inputs = [x, weights]
    if bias != "none":
        inputs.append(-1 if bias == "absent" else _bias(d, scale, scales, channels, 2000))
    output = (samples, *_output_size(options, image, size, dilation), channels)
    y = d.graph.tensor(output, "INT8", _accumulator_scale(d, scale, scales, products), d.zero_point())
    return d.operator(
        "CONV_2D", inputs, [y], dilation_h_factor=dilation[0], dilation_w_factor=dilation[1], **options
    )


case("CONV_2D-int8")(lambda d: _convolution(d, 1, False))
case("CONV_2D-int8-dilated")(lambda d: _convolution(d, 1, True))
case("CONV_2D-int8-grouped")(lambda d: _convolution(d, d.integer(2, 4), d.chance(0.3)))
case("CONV_2D-int8-per-tensor")(lambda d: _convolution(d, 1, False, per_channel=False))
case("CONV_2D-int8-no-bias")(lambda d: _convolution(d, 1, False, bias="none"))
case("CONV_2D-int8-absent-bias")(lambda d: _convolution(d, 1, False, bias="absent"))


def _depthwise(d: Draw, multiplier: int, dilated: bool, bias: bool = True) -> Case:
    size = d.choice(((3, 3), (d.integer(1, 5), d.integer(1, 5))))
    dilation = (d.integer(1, 3), d.integer(1, 3)) if dilated else (1, 1)
    image = [d.integer((taps - 1) * step + 1, 14) for taps, step in zip(size, dilation, strict=True)]
    depth = d.integer(1, 9)
    options = _window(d)
    scale = d.scale()
    samples = d.choice((1, 1, 2))
    x = d.quantized((samples, *image, depth), scale)
    channels = depth * multiplier
    weights, scales = _weights(d, (1, *size, channels), 3, channels, d.chance(0.8))
    inputs = [x, weights, _bias(d, scale, scales, channels, 1000)] if bias else [x, weights]
    output = (samples, *_output_size(options, image, size, dilation), channels)
    y = d.graph.tensor(
        output, "INT8", _accumulator_scale(d, scale, scales, size[0] * size[1]), d.zero_point()
    )
    return d.operator(
        "DEPTHWISE_CONV_2D",
        inputs,
        [y],
        depth_multiplier=multiplier,
        dilation_h_factor=dilation[0],
        dilation_w_factor=dilation[1],
        **options,
    )


case("DEPTHWISE_CONV_2D-int8")(lambda d: _depthwise(d, 1, False))
case("DEPTHWISE_CONV_2D-int8-dilated")(lambda d: _depthwise(d, d.integer(1, 2), True))
case("DEPTHWISE_CONV_2D-int8-multiplier")(lambda d: _depthwise(d, d.integer(2, 8), False))
# The wheel segfaults where the bias is given as absent (-1); without a third input it runs.
case("DEPTHWISE_CONV_2D-int8-no-bias")(lambda d: _depthwise(d, d.integer(1, 3), False, bias=False))


def _fully_connected(d: Draw, per_channel: bool) -> Case:
    rows, depth, channels = d.choice((1, 1, 3)), d.choice((1, 7, 64, 300)), d.integer(1, 20)
    scale = d.scale()
    keep = d.chance(0.3)
    shape = (1, rows, depth) if keep else (rows, depth)
    x = d.quantized(shape, scale)
    weights, scales = _weights(d, (channels, depth), 0, channels, per_channel)
    inputs = [x, weights, _bias(d, scale, scales, channels, 3000)] if d.chance(0.8) else [x, weights, -1]
    target = (*shape[:-1], channels)
    y = d.graph.tensor(target, "INT8", _accumulator_scale(d, scale, scales, depth), d.zero_point())
    return d.operator(
        "FULLY_CONNECTED", inputs, [y], keep_num_dims=keep, fused_activation_function=d.activation()
    )


case("FULLY_CONNECTED-int8")(lambda d: _fully_connected(d, False))
case("FULLY_CONNECTED-int8-per-channel")(lambda d: _fully_connected(d, True))


@case("TRANSPOSE_CONV-int8")
def _transpose_conv(d: Draw) -> Case:
    size = d.integer(1, 4), d.integer(1, 4)
    image = d.integer(1, 6), d.integer(1, 6)
    depth, channels = d.integer(1, 5), d.integer(1, 5)
    strides = d.integer(1, 3), d.integer(1, 3)
    padding = d.choice(("SAME", "VALID"))
    if padding == "SAME":
        output = [extent * step for extent, step in zip(image, strides, strict=True)]
    else:
        triples = zip(image, strides, size, strict=True)
        output = [(extent - 1) * step + max(taps, step) for extent, step, taps in triples]
    scale = d.scale()
    samples = d.choice((1, 1, 2))
    target = (samples, *output, channels)
    shape = d.constant(*target)
    x = d.quantized((samples, *image, depth), scale)
    weights, scales = _weights(d, (channels, *size, depth), 0, channels)
    inputs = [shape, weights, x]
    if d.chance(0.7):
        inputs.append(_bias(d, scale, scales, channels, 1000))
    y = d.graph.tensor(target, "INT8", _accumulator_scale(d, scale, scales, depth * 2), d.zero_point())
    return d.operator(
        "TRANSPOSE_CONV", inputs, [y], padding=padding, stride_h=strides[0], stride_w=strides[1]
    )


def draw(name: str, seed: int, extreme: bool = False) -> Case:
    """One random model of a case."""
    return CASES[name](Draw(np.random.default_rng([seed, *name.encode()]), extreme))
