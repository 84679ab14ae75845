"""Nested operators: what stands in a TFLNEST_* operator of a file, and the stock operator it is at a level.

A nested operator computes what its stock counterpart computes, with weights from planes, and with a bias and
requantization per level. Its inputs are the activation, and a tensor of bytes per level: the plane, and behind it what
else the level brings. FORMAT.md is the specification.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers import flexbuffers
from numpy.typing import NDArray

from tflnest.container import Directory
from tflnest.errors import FormatError, UsageError
from tflnest.graph import Graph, Operator, Quantization, Subgraph, Tensor
from tflnest.nesting import MASTER_BITS, Nesting, Scheme
from tflnest.packing import packed_bytes, unpack
from tflnest.parts import Layout, Part, find_parts
from tflnest.requantization import recover_filter_scales
from tflnest.schema import enum_names, enum_value

PREFIX = "TFLNEST_"
OPERATOR_VERSION = 1
MAX_OPTION_ITEMS = 16
MAX_DIMENSION = (1 << 24) - 1
MAX_WEIGHTS = (1 << 31) - 1

#: Options of the stock operators that a nested one keeps, with the value that is not written.
STOCK_OPTIONS: dict[str, dict[str, Any]] = {
    "CONV_2D": {
        "padding": "SAME",
        "stride_w": 1,
        "stride_h": 1,
        "dilation_w_factor": 1,
        "dilation_h_factor": 1,
        "fused_activation_function": "NONE",
    },
    "DEPTHWISE_CONV_2D": {
        "padding": "SAME",
        "stride_w": 1,
        "stride_h": 1,
        "depth_multiplier": 0,
        "dilation_w_factor": 1,
        "dilation_h_factor": 1,
        "fused_activation_function": "NONE",
    },
    "FULLY_CONNECTED": {"fused_activation_function": "NONE", "keep_num_dims": 0},
}

#: The axis of the filter that counts output channels.
CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}

#: Dimensions of the filter.
FILTER_RANK = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 2}

#: Options of every nested operator.
_OWN_OPTIONS = (
    "activation_bits",
    "bias",
    "filter_shape",
    "levels",
    "model_levels",
    "requantization",
    "scheme",
    "separate",
    "version",
)

#: Range of each option of a stock operator that is a number; the schema's integers have 32 bits.
OPTION_RANGES = {"depth_multiplier": (0, (1 << 31) - 1), "keep_num_dims": (0, 1), "separate": (0, 1)}

#: Range of all others that are numbers.
POSITIVE = (1, (1 << 31) - 1)

#: Schema enum of each option that is given by name.
OPTION_ENUMS = {"padding": "Padding", "fused_activation_function": "ActivationFunctionType"}

#: Reads a constant tensor of the subgraph; `PagedConstants.read` on a board, the file's data otherwise.
ReadTensor = Callable[[Tensor], NDArray[Any]]


def is_nested(operator: Operator) -> bool:
    """Whether an operator is a nested one."""
    return operator.is_custom and operator.name.startswith(PREFIX)


def page_of(model_levels: Sequence[int], position: int) -> int:
    """The page that brings an own level.

    Args:
        model_levels: For each level of the model the position of the own level that it runs; rising.
        position: Position of the own level.

    Returns:
        The first level of the model that runs this own level or a higher one.
    """
    return next(page for page, own in enumerate(model_levels) if own >= position)


@dataclass(frozen=True)
class StockForm:
    """A nested operator at one level, as the stock operator that computes the same.

    Attributes:
        operator: CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED with inputs (activation, filter, bias).
        filter: int8 constant with its scales, as if it were the tensor of plane 0.
        bias: int32 constant, as if it were the tensor that holds it, which may be that of plane 0 too.
    """

    operator: Operator
    filter: Tensor
    bias: Tensor


@dataclass(frozen=True)
class NestedOperator:
    """A checked nested operator.

    Attributes:
        operator: The custom operator as it stands in the graph.
        stock: Name of the stock operator.
        stock_version: Version of the stock operator.
        options: Options of the stock operator.
        nesting: Chain and scheme of its weights.
        model_levels: For each level of the model, the position in `nesting.levels` that this operator runs.
        filter_shape: Shape of the filter.
        biases: The int32 bias of each own level; levels may share one.
        multipliers: The int32 multipliers of each own level; levels may share them.
        shifts: The int8 shifts of each own level, as many as multipliers.
        planes: Each plane.
        activation_bits: Bits at which each own level reads its activation; 8 is all of them.
        scope: Name that recipes and `set_level` match: that of the filter, or of the output where it has none.
    """

    operator: Operator
    stock: str
    stock_version: int
    options: Mapping[str, Any]
    nesting: Nesting
    model_levels: tuple[int, ...]
    filter_shape: tuple[int, ...]
    biases: tuple[Part, ...]
    multipliers: tuple[Part, ...]
    shifts: tuple[Part, ...]
    planes: tuple[Part, ...]
    activation_bits: tuple[int, ...]
    scope: str

    @property
    def weights(self) -> int:
        """Number of weights."""
        return math.prod(self.filter_shape)

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return self.filter_shape[CHANNEL_AXIS[self.stock]]

    def level_at(self, model_level: int) -> int:
        """The own bit-width at a level of the model, given by its position in the directory."""
        return self.nesting.levels[self.model_levels[model_level]]

    def page_of(self, position: int) -> int:
        """The page that completes an own level: the first model level that runs it or a higher one."""
        return page_of(self.model_levels, position)

    def pages_of_inputs(self) -> dict[int, int]:
        """The highest page that each constant input may lie in, by tensor index."""
        pages: dict[int, int] = {}
        for position, parts in enumerate(
            zip(self.biases, self.multipliers, self.shifts, self.planes, strict=True)
        ):
            page = self.page_of(position)
            pages.update({part.tensor: min(page, pages.get(part.tensor, page)) for part in parts})
        return pages

    def weights_at(self, subgraph: Subgraph, level: int, read: ReadTensor) -> NDArray[np.int8]:
        """The weights of a level, expanded.

        Args:
            subgraph: The subgraph that the operator stands in.
            level: One of `nesting.levels`.
            read: Gives the values of a constant tensor; raises where its page is not resident.

        Returns:
            int8, read-only, of the filter's shape.

        Raises:
            FormatError: They leave the range of int8.
        """
        codes = [
            unpack(part.values(read(subgraph.tensors[part.tensor]), "u1"), plane.bits, self.weights)
            for part, plane in zip(
                self.planes[: self.nesting.index(level) + 1], self.nesting.planes, strict=False
            )
        ]
        weights = self.nesting.join(codes, level).reshape(self.filter_shape)
        weights.flags.writeable = False
        return weights

    def stock_form(
        self, subgraph: Subgraph, level: int, read: ReadTensor, expanded: bool = True
    ) -> StockForm:
        """The stock operator that this one is at a level.

        Args:
            subgraph: The subgraph that the operator stands in.
            level: One of `nesting.levels`.
            read: Gives the values of a constant tensor; raises where its page is not resident.
            expanded: Whether the filter has its weights; otherwise it has none (`data` is None).
        """
        position = self.nesting.index(level)
        tensors = subgraph.tensors
        weights = self.weights_at(subgraph, level, read) if expanded else None
        activation, output = tensors[self.operator.inputs[0]], tensors[self.operator.outputs[0]]

        def values(part: Part, dtype: str) -> NDArray[Any]:
            return part.values(read(tensors[part.tensor]), dtype)

        multiplier, shift = values(self.multipliers[position], "<i4"), values(self.shifts[position], "i1")
        scales = recover_filter_scales(activation.scale, output.scale, multiplier, shift)
        axis = CHANNEL_AXIS[self.stock]
        zeros = np.zeros(scales.size, dtype=np.int64)
        plane, bias = self.planes[0].tensor, self.biases[position]
        filter_tensor = Tensor(
            index=plane,
            name=tensors[plane].name,
            shape=self.filter_shape,
            shape_signature=self.filter_shape,
            type="INT8",
            quantization=Quantization(scales, zeros, axis),
            buffer=0,
            data=weights,
        )
        bias_scales = (np.float32(activation.scale) * scales).astype(np.float32)
        bias_tensor = Tensor(
            index=bias.tensor,
            name="",
            shape=(self.channels,),
            shape_signature=(self.channels,),
            type="INT32",
            quantization=Quantization(bias_scales, zeros, 0),
            buffer=0,
            data=values(bias, "<i4"),
        )
        inputs = (self.operator.inputs[0], filter_tensor.index, bias.tensor)
        operator = Operator(
            self.operator.index, self.stock, self.stock_version, inputs, self.operator.outputs, self.options
        )
        return StockForm(operator, filter_tensor, bias_tensor)


def nested_operators(graph: Graph) -> list[tuple[Subgraph, NestedOperator]]:
    """All nested operators of a model, each with its subgraph, checked.

    Raises:
        FormatError: One of them is not what FORMAT.md says.
    """
    return [
        (subgraph, parse(operator, subgraph))
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
        if is_nested(operator)
    ]


def check_pages(graph: Graph, directory: Directory) -> None:
    """Check that every constant of a model lies in a page that is resident wherever it is read.

    Raises:
        FormatError: A constant lies in no page or in too high a one, or an operator has other levels than the
            model.
    """
    holder = {segment.buffer: page.index for page in directory.pages for segment in page.segments}
    for subgraph in graph.subgraphs:
        needed: dict[int, int] = {}
        for operator in subgraph.operators:
            if not is_nested(operator):
                needed.update(dict.fromkeys(operator.inputs, 0))
                continue
            nested = parse(operator, subgraph)
            if len(nested.model_levels) != len(directory.levels):
                raise FormatError(
                    f"subgraph {subgraph.index}, operator {operator.label}: model_levels has "
                    f"{len(nested.model_levels)} entries for {len(directory.levels)} levels of the model"
                )
            for index, page in nested.pages_of_inputs().items():
                needed[index] = min(page, needed.get(index, page))
        for tensor in subgraph.tensors:
            allowed = needed.get(tensor.index, 0)
            if tensor.is_constant and not 0 <= holder.get(tensor.buffer, -1) <= allowed:
                raise FormatError(
                    f"subgraph {subgraph.index}: the buffer of tensor {tensor.label} lies in "
                    f"{f'page {holder[tensor.buffer]}' if tensor.buffer in holder else 'no page'}, "
                    f"and is read when pages 0 to {allowed} are resident"
                )


# ---------------------------------------------------------------------------------------------- options


def encode_options(
    stock: str,
    version: int,
    options: Mapping[str, Any],
    nesting: Nesting,
    model_levels: Sequence[int],
    filter_shape: Sequence[int],
    *,
    bias: Sequence[int],
    requantization: Sequence[int],
    activation_bits: Sequence[int] = (),
    is_separate: bool = False,
) -> bytes:
    """The flexbuffer of a nested operator.

    Args:
        stock: Name of the stock operator.
        version: Version of the stock operator.
        options: Its options.
        nesting: Chain and scheme.
        model_levels: Own level position per model level.
        filter_shape: Shape of the filter.
        bias: Which bias each own level uses.
        requantization: Requantization set per own level.
        activation_bits: Bits at which each own level reads its activation; empty for 8 everywhere.
        is_separate: Whether what levels bring beside their planes lies in tensors of its own.
    """
    values: dict[str, Any] = {
        "filter_shape": list(filter_shape),
        "levels": list(nesting.levels),
        "model_levels": list(model_levels),
        "version": version,
    }
    if list(bias) != list(range(len(bias))):
        values["bias"] = list(bias)
    if any(requantization):
        values["requantization"] = list(requantization)
    if any(bits != MASTER_BITS for bits in activation_bits):
        values["activation_bits"] = list(activation_bits)
    if is_separate:
        values["separate"] = 1
    if nesting.scheme is not Scheme.BUCKET:
        values["scheme"] = list(Scheme).index(nesting.scheme)
    for name, default in STOCK_OPTIONS[stock].items():
        value = options.get(name, default)
        if value != default:
            values[name] = enum_value(OPTION_ENUMS[name], value) if name in OPTION_ENUMS else int(value)
    builder = flexbuffers.Builder()
    with builder.Map():
        for name in sorted(values):
            if isinstance(values[name], list):
                builder.TypedVectorFromElements(name, values[name])
            else:
                builder.Int(name, values[name])
    return bytes(builder.Finish())


def unusable_option(stock: str, version: int, options: Mapping[str, Any]) -> str | None:
    """What a nested operator can't hold of a stock operator, in words; None where it can hold everything."""
    for name, default in {**STOCK_OPTIONS[stock], "version": 1}.items():
        value = version if name == "version" else options.get(name, default)
        low, high = OPTION_RANGES.get(name, POSITIVE)
        known = isinstance(value, str) if name in OPTION_ENUMS else low <= value <= high
        if not known:
            return f"{name} {value} makes no sense"
    return None


class _Options:
    """Bounded reading of an operator's flexbuffer."""

    def __init__(self, content: bytes, allowed: Sequence[str], where: str) -> None:
        self._where = where
        try:
            self._map = flexbuffers.GetRoot(bytearray(content)).AsMap
            keys = [str(key.AsKey) for key in _bounded(self._map.Keys)]
            self._values = dict(zip(keys, _bounded(self._map.Values), strict=True))
        except Exception as error:
            raise FormatError(f"{where}: its options are no flexbuffer map: {error}") from error
        unknown = sorted(set(keys) - set(allowed))
        if unknown or len(self._values) != len(keys):
            raise FormatError(
                f"{where}: its options have the unknown keys {unknown}"
                if unknown
                else f"{where}: its options name a key twice",
                "the file may be newer than this tflnest",
            )

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._values.get(name)
        if value is None:
            if default is None:
                raise FormatError(f"{self._where}: the option {name!r} is missing")
            return default
        if not value.IsInt:
            raise FormatError(f"{self._where}: the option {name!r} is no integer")
        return int(value.AsInt)

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self._values.get(name)
        if value is None:
            if default is None:
                raise FormatError(f"{self._where}: the option {name!r} is missing")
            return default
        try:
            items = _bounded(value.AsTypedVector)
            if all(item.IsInt for item in items):
                return tuple(int(item.AsInt) for item in items)
            raise FormatError(f"it holds {value.Value!r:.80}")
        except Exception as error:
            raise FormatError(
                f"{self._where}: the option {name!r} is no list of integers: {error}"
            ) from error


def _bounded(items: Any) -> list[Any]:
    """The items of a flexbuffer vector, whose claimed length must not make anyone loop."""
    count = len(items)
    if count > MAX_OPTION_ITEMS:
        raise FormatError(f"{count:,} items, at most {MAX_OPTION_ITEMS} are allowed")
    return [items[index] for index in range(count)]


# ---------------------------------------------------------------------------------------------- reading


def parse(operator: Operator, subgraph: Subgraph) -> NestedOperator:
    """Check a nested operator.

    Raises:
        FormatError: Its options or tensors are not what FORMAT.md says.
    """
    where = f"subgraph {subgraph.index}, operator {operator.label}"
    stock = operator.name.removeprefix(PREFIX)
    if stock not in STOCK_OPTIONS:
        raise FormatError(
            f"{where}: there is no such nested operator", "the file may be newer than this tflnest"
        )
    if operator.version != OPERATOR_VERSION:
        raise FormatError(
            f"{where}: it has version {operator.version}, this tflnest reads version {OPERATOR_VERSION}",
            "update tflnest",
        )
    options = _Options(operator.options["custom_options"], (*_OWN_OPTIONS, *STOCK_OPTIONS[stock]), where)
    nesting = _parse_nesting(options, where)
    count = len(nesting.levels)
    model_levels = _parse_model_levels(options, count, where)
    activation_bits = options.integers("activation_bits", (MASTER_BITS,) * count)
    if len(activation_bits) != count or not all(1 <= bits <= MASTER_BITS for bits in activation_bits):
        raise FormatError(
            f"{where}: activation_bits {list(activation_bits)} are not {count} widths of 1..{MASTER_BITS}"
        )
    stock_version = _in_range("version", options.integer("version"), where)
    stock_options = _parse_stock_options(stock, options, where)
    filter_shape = options.integers("filter_shape")
    _check_shape(stock, filter_shape, where)
    layout = _parse_layout(filter_shape, filter_shape[CHANNEL_AXIS[stock]], nesting, options, where)
    tensors = subgraph.tensors
    parts = find_parts(operator, layout, tensors, where)
    nested = NestedOperator(
        operator=operator,
        stock=stock,
        stock_version=stock_version,
        options=stock_options,
        nesting=nesting,
        model_levels=model_levels,
        filter_shape=filter_shape,
        biases=parts.biases,
        multipliers=parts.multipliers,
        shifts=parts.shifts,
        planes=parts.planes,
        activation_bits=activation_bits,
        scope=tensors[parts.planes[0].tensor].name or tensors[operator.outputs[0]].name,
    )
    for index in (operator.inputs[0], operator.outputs[0]):
        if tensors[index].type != "INT8" or not 0 < tensors[index].scale < math.inf:
            raise FormatError(f"{where}: tensor {tensors[index].label} is no quantized INT8 activation")
    return nested


def _parse_model_levels(options: _Options, count: int, where: str) -> tuple[int, ...]:
    positions = options.integers("model_levels")
    if (
        not positions
        or list(positions) != sorted(positions)
        or positions[0] < 0
        or positions[-1] != count - 1
    ):
        raise FormatError(
            f"{where}: model_levels {list(positions)} do not rise to the last of {count} own levels"
        )
    return positions


def _parse_layout(
    shape: Sequence[int], channels: int, nesting: Nesting, options: _Options, where: str
) -> Layout:
    count = len(nesting.levels)
    return Layout(
        channels,
        tuple(packed_bytes(math.prod(shape), plane.bits) for plane in nesting.planes),
        _numbers("bias", options, tuple(range(count)), where),
        _numbers("requantization", options, (0,) * count, where),
        bool(_in_range("separate", options.integer("separate", 0), where)),
    )


def _numbers(name: str, options: _Options, default: tuple[int, ...], where: str) -> tuple[int, ...]:
    """Which bias or set each own level uses: one of a level below, or the next one."""
    numbers = options.integers(name, default)
    if len(numbers) != len(default) or not all(
        0 <= number <= max(numbers[:position], default=-1) + 1 for position, number in enumerate(numbers)
    ):
        raise FormatError(f"{where}: {name} {list(numbers)} does not fit {len(default)} levels")
    return numbers


def _parse_nesting(options: _Options, where: str) -> Nesting:
    scheme = options.integer("scheme", 0)
    if not 0 <= scheme < len(Scheme):
        raise FormatError(f"{where}: scheme {scheme} is unknown", "the file may be newer than this tflnest")
    try:
        return Nesting(options.integers("levels"), list(Scheme)[scheme])
    except UsageError as error:
        raise FormatError(f"{where}: {error.message}") from error


def _parse_stock_options(stock: str, options: _Options, where: str) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, default in STOCK_OPTIONS[stock].items():
        if name not in OPTION_ENUMS:
            parsed[name] = _in_range(name, options.integer(name, default), where)
            continue
        names = enum_names(OPTION_ENUMS[name])
        value = options.integer(name, enum_value(OPTION_ENUMS[name], default))
        if value not in names:
            raise FormatError(f"{where}: {name} {value} is unknown")
        parsed[name] = names[value]
    return parsed


def _in_range(name: str, value: int, where: str) -> int:
    low, high = OPTION_RANGES.get(name, POSITIVE)
    if not low <= value <= high:
        raise FormatError(f"{where}: {name} {value} is not within {low}..{high}")
    return value


def _check_shape(stock: str, shape: Sequence[int], where: str) -> None:
    if (
        len(shape) != FILTER_RANK[stock]
        or any(not 0 < dimension <= MAX_DIMENSION for dimension in shape)
        or math.prod(shape) > MAX_WEIGHTS
        or (stock == "DEPTHWISE_CONV_2D" and shape[0] != 1)
    ):
        raise FormatError(f"{where}: filter_shape {list(shape)} is no shape of a {stock} filter")
