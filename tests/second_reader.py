"""A second reader of nested files, written from FORMAT.md alone.

It shares nothing with tflnest and reads the flatbuffer byte by byte, so that the specification, and not a
common piece of code, is what makes both readers agree. Section numbers are those of FORMAT.md.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers import flexbuffers
from numpy.typing import NDArray

INT32, UINT8, INT8 = 2, 3, 9
TYPE_BYTES = {INT32: 4, UINT8: 1, INT8: 1}
CUSTOM, SHAPE = 32, 77

#: Options of the stock operators: default, smallest and largest value (6.3).
POSITIVE = (1, 1, 2**31 - 1)
WINDOW = {"padding": (0, 0, 1)} | dict.fromkeys(
    ("stride_w", "stride_h", "dilation_w_factor", "dilation_h_factor"), POSITIVE
)
ACTIVATION = {"fused_activation_function": (0, 0, 5)}

#: Stock operator: its options, rank of the filter, channel axis (6.1).
OPERATORS: dict[str, tuple[dict[str, tuple[int, int, int]], int, int]] = {
    "CONV_2D": (WINDOW | ACTIVATION, 4, 0),
    "DEPTHWISE_CONV_2D": (WINDOW | {"depth_multiplier": (0, 0, 2**31 - 1)} | ACTIVATION, 4, 3),
    "FULLY_CONNECTED": ({"keep_num_dims": (0, 0, 1)} | ACTIVATION, 2, 0),
}


class RejectedError(Exception):
    """The file breaks a rule of section 9."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise RejectedError(message)


# ------------------------------------------------------------------------------------------- flatbuffer


class Table:
    """A flatbuffer table; fields by their number in the TFLite schema."""

    def __init__(self, content: bytes, position: int) -> None:
        require(4 <= position <= len(content) - 4, "a table outside the file")
        self.content, self.position = content, position
        self.vtable = position - struct.unpack_from("<i", content, position)[0]
        require(0 <= self.vtable <= len(content) - 4, "a vtable outside the file")

    def field(self, number: int) -> int:
        """Position of a field; 0 where it is absent."""
        size = struct.unpack_from("<H", self.content, self.vtable)[0]
        slot = 4 + 2 * number
        offset = struct.unpack_from("<H", self.content, self.vtable + slot)[0] if slot + 2 <= size else 0
        return self.position + offset if offset else 0

    def scalar(self, number: int, code: str, default: int = 0) -> int:
        place = self.field(number)
        return struct.unpack_from(f"<{code}", self.content, place)[0] if place else default

    def vector(self, number: int) -> tuple[int, int]:
        """Position of the first element and number of elements; (0, 0) where absent."""
        place = self.field(number)
        if not place:
            return 0, 0
        start = place + struct.unpack_from("<I", self.content, place)[0]
        return start + 4, struct.unpack_from("<I", self.content, start)[0]

    def numbers(self, number: int, dtype: str) -> list[Any]:
        start, count = self.vector(number)
        size = np.dtype(dtype).itemsize
        require(start + count * size <= len(self.content), "a vector outside the file")
        return np.frombuffer(self.content, dtype, count, start).tolist() if count else []

    def data(self, number: int) -> bytes:
        start, count = self.vector(number)
        require(start + count <= len(self.content), "a vector outside the file")
        return self.content[start : start + count]

    def table(self, number: int) -> Table | None:
        place = self.field(number)
        return (
            Table(self.content, place + struct.unpack_from("<I", self.content, place)[0]) if place else None
        )

    def tables(self, number: int) -> Iterator[Table]:
        start, count = self.vector(number)
        for place in range(start, start + 4 * count, 4):
            yield Table(self.content, place + struct.unpack_from("<I", self.content, place)[0])


@dataclass(frozen=True)
class TensorView:
    """What this reader wants of a tensor."""

    name: str
    type: int
    shape: list[int]
    elements: int
    buffer: int
    scales: list[float]
    zero_point: int
    variable: bool
    data: bytes

    def values(self) -> NDArray[Any]:
        return np.frombuffer(self.data, {INT32: "<i4", UINT8: "u1", INT8: "i1"}[self.type])


def read_tensor(table: Table, data: list[bytes]) -> TensorView:
    buffer = table.scalar(2, "I")
    require(buffer < len(data), "a tensor names a buffer that does not exist")
    quantization = table.table(4)
    shape = table.numbers(0, "<i4")
    zero_points = quantization.numbers(3, "<i8") if quantization is not None else []
    return TensorView(
        name=table.data(3).decode(),
        type=table.scalar(1, "b"),
        shape=shape,
        elements=math.prod(shape),
        buffer=buffer,
        scales=quantization.numbers(2, "<f4") if quantization is not None else [],
        zero_point=zero_points[0] if zero_points else 0,
        variable=bool(table.scalar(5, "b")),
        data=data[buffer],
    )


# --------------------------------------------------------------------------------------------- directory


@dataclass(frozen=True)
class PageRow:
    """A page: its image and the (buffer, offset, size) of its segments (8.3, 8.4)."""

    level: int
    crc32: int
    image: bytes
    segments: list[tuple[int, int, int]]


@dataclass(frozen=True)
class DirectoryView:
    """The decoded directory (8)."""

    levels: list[int]
    pages: list[PageRow]
    identity: bytes
    recipe: str

    def page_of_buffer(self) -> dict[int, int]:
        return {row[0]: number for number, page in enumerate(self.pages) for row in page.segments}


def read_directory(entry: bytes, content: bytes) -> DirectoryView:
    """Checks 1 to 6 of section 9, and cuts the page images."""
    require(len(entry) >= 64, "directory too short")
    require(entry[0:8] == bytes.fromhex("54464c4e45535400"), "magic")
    version, header_size, flags = struct.unpack_from("<HHI", entry, 8)
    require((version, header_size, flags) == (1, 64, 0), "version, header size or flags")
    level_count, page_count, segment_count, recipe_size, crc = struct.unpack_from("<HHIII", entry, 48)
    require(1 <= level_count <= 8 and page_count == level_count, "counts")
    require(segment_count <= 1048576 and recipe_size <= 1048576, "limits")
    require(
        len(entry) == 64 + 4 * level_count + 20 * page_count + 12 * segment_count + recipe_size,
        "directory size",
    )
    require(zlib.crc32(entry[:16] + bytes(32) + entry[48:60] + bytes(4) + entry[64:]) == crc, "directory CRC")
    at = 64
    levels: list[int] = []
    for _ in range(level_count):
        bits, reserved, reserved_too = struct.unpack_from("<BBH", entry, at)
        require(reserved == reserved_too == 0, "reserved fields")
        require(1 <= bits <= 8 and (not levels or bits > levels[-1]), "levels increase")
        levels.append(bits)
        at += 4
    page_rows = [struct.unpack_from("<HHIIII", entry, at + 20 * number) for number in range(page_count)]
    at += 20 * page_count
    segments = [struct.unpack_from("<III", entry, at + 12 * number) for number in range(segment_count)]
    at += 12 * segment_count
    require(len({row[0] for row in segments}) == segment_count, "a buffer is listed twice")
    pages, used = [], 0
    for number, (index, level, size, page_crc, first, count) in enumerate(page_rows):
        require(index == number and level == levels[number] and first == used, "page row")
        require(first + count <= segment_count, "page row")
        rows = segments[first : first + count]
        require(sum((row[2] + 7) // 8 * 8 for row in rows) == size, "page size")
        image = bytearray()
        for _, offset, length in rows:
            image += content[offset : offset + length]
            image += bytes(-length % 8)
        pages.append(PageRow(level, page_crc, bytes(image), rows))
        used += count
    require(used == segment_count, "segments without a page")
    try:
        recipe = entry[at:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise RejectedError("recipe") from error
    return DirectoryView(levels, pages, entry[16:48], recipe)


def check_file(directory: DirectoryView, content: bytes, start: int, extents: list[tuple[int, int]]) -> None:
    """Checks 8 to 10 of section 9."""
    rows = [row for page in directory.pages for row in page.segments]
    for buffer, offset, size in rows:
        require(buffer < len(extents) and extents[buffer] == (offset, size), "segment is not its buffer")
        require(size > 0 and offset % 16 == 0, "empty or unaligned segment")
    require(sum(len(page.image) for page in directory.pages) <= len(content) + 8 * len(rows), "pages overlap")
    for page in directory.pages:
        require(zlib.crc32(page.image) == page.crc32, "page CRC")
    blank = content[: start + 16] + bytes(32) + content[start + 48 :]
    require(hashlib.sha256(blank).digest() == directory.identity, "identity")


# --------------------------------------------------------------------------------------------- operators


@dataclass(frozen=True)
class OperatorView:
    """A nested operator (6): everything that a runtime needs."""

    subgraph: int
    index: int
    stock: str
    version: int
    options: dict[str, int]
    compensated: bool
    levels: list[int]
    model_levels: list[int]
    filter_shape: list[int]
    biases: list[int]
    sets: list[int]
    separate: bool
    activation_bits: list[int]
    inputs: list[TensorView]
    output: TensorView

    @property
    def activation(self) -> TensorView:
        return self.inputs[0]

    @property
    def scope(self) -> str:
        return self.inputs[1].name or self.output.name

    @property
    def channels(self) -> int:
        return self.filter_shape[OPERATORS[self.stock][2]]

    @property
    def bringers(self) -> list[int]:
        """Own levels that bring more than a plane."""
        return sorted({numbers.index(number) for numbers in (self.biases, self.sets) for number in numbers})

    def holder(self, own: int) -> int:
        """The input that holds what an own level brings beside its plane."""
        return 1 + len(self.levels) + self.bringers.index(own) if self.separate else 1 + own

    def parts(self, own: int) -> dict[str, bytes]:
        """What an own level brings, cut to pieces (6.2)."""
        widths = field_widths(self.plane_shape(own)[0])
        plane = sum(field_bytes(math.prod(self.filter_shape), width) for width in widths)
        data = self.inputs[1 + own].data
        if self.separate:
            require(len(data) == plane, "size of a plane")
            data += self.inputs[self.holder(own)].data if own in self.bringers else b""
        bias = 4 * self.channels if own == self.biases.index(self.biases[own]) else 0
        scales = len(data) - plane - bias
        allowed = (5, 5 * self.channels) if own == self.sets.index(self.sets[own]) else (0,)
        require(scales in allowed, "size of a constant")
        at, parts = 0, {}
        count = scales // 5
        sizes = (("plane", plane), ("bias", bias), ("multipliers", 4 * count), ("shifts", count))
        for name, size in sizes:
            parts[name] = data[at : at + size]
            at += size
        return parts

    def bias(self, own: int) -> NDArray[np.int32]:
        return np.frombuffer(self.parts(self.biases.index(self.biases[own]))["bias"], "<i4")

    def requantization(self, own: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        parts = self.parts(self.sets.index(self.sets[own]))
        return np.frombuffer(parts["multipliers"], "<i4"), np.frombuffer(parts["shifts"], "i1")

    def plane(self, own: int) -> bytes:
        return self.parts(own)["plane"]

    def page_of(self, own: int) -> int:
        return min(page for page, position in enumerate(self.model_levels) if position >= own)

    def plane_shape(self, own: int) -> tuple[int, int, int]:
        """Bits, shift and zero of a plane (4.1)."""
        level = self.levels[own]
        if own == 0:
            return level, 8 - level, 2 ** (level - 1)
        step = level - self.levels[own - 1]
        return (step + 1, 8 - level, 2**step) if self.compensated else (step, 8 - level, 0)

    def weights(self, own: int) -> NDArray[np.int64]:
        """The weights of an own level (4.1), shaped like the filter."""
        count = math.prod(self.filter_shape)
        level = self.levels[own]
        total = np.full(count, 2 ** (7 - level) if level < 8 and not self.compensated else 0, np.int64)
        for number in range(own + 1):
            bits, shift, zero = self.plane_shape(number)
            total += (unpack(self.plane(number), bits, count) - zero) * 2**shift
        require(total.min() >= -128 and total.max() <= 127, "weights outside int8")
        return total.reshape(self.filter_shape)

    def filter_scales(self, own: int) -> list[float]:
        """The float32 filter scales of an own level (7.3)."""
        multipliers, shifts = (values.tolist() for values in self.requantization(own))
        return [
            recover_scale(self.activation.scales[0], self.output.scales[0], multiplier, shift)
            for multiplier, shift in zip(multipliers, shifts, strict=True)
        ]


def field_widths(bits: int) -> list[int]:
    """5.1."""
    return {1: [1], 2: [2], 3: [2, 1], 4: [4], 5: [4, 1], 6: [4, 2], 7: [4, 2, 1], 8: [4, 4]}[bits]


def field_bytes(count: int, width: int) -> int:
    """5.3."""
    return 4 * math.ceil(2 * width * math.ceil(count / 16) / 4)


def place_in_group(weight: int, width: int) -> tuple[int, int]:
    """Byte and lowest bit of a weight of a group (the table of 5.2)."""
    t, j = divmod(weight, 4)
    if width == 4:
        return 4 * (t // 2) + j, (4, 0, 4, 0)[t]
    if width == 2:
        return j, (6, 2, 4, 0)[t]
    return j // 2, 4 * (j % 2) + (3, 1, 2, 0)[t]


def unpack(data: bytes, bits: int, count: int) -> NDArray[np.int64]:
    """The codes of a plane (5)."""
    require(len(data) == sum(field_bytes(count, width) for width in field_widths(bits)), "plane size")
    codes = np.zeros(count, np.int64)
    start = 0
    for width in field_widths(bits):
        for weight in range(min(16, count)):
            byte, bit = place_in_group(weight, width)
            column = np.frombuffer(data, np.uint8)[
                start + byte : start + field_bytes(count, width) : 2 * width
            ]
            members = codes[weight::16]
            members[:] = members * 2**width + ((column[: members.size] >> bit) % 2**width)
        start += field_bytes(count, width)
    return codes


def multiplier_of(input_scale: float, scale: float, output_scale: float) -> tuple[int, int]:
    """7.2."""
    mantissa, shift = math.frexp(input_scale * scale / output_scale)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def recover_scale(input_scale: float, output_scale: float, multiplier: int, shift: int) -> float:
    """7.3."""
    guess = np.float32(multiplier * 2.0 ** (shift - 31) * output_scale / input_scale)
    for candidate in (guess, np.nextafter(guess, np.float32(0)), np.nextafter(guess, np.float32(np.inf))):
        scale = float(candidate)
        found = 0 < scale < math.inf and multiplier_of(input_scale, scale, output_scale)
        if found == (multiplier, shift):
            return scale
    raise RejectedError("no filter scale")


def read_options(content: bytes, stock: str) -> dict[str, Any]:
    """Check 12 of section 9: the option map with its defaults filled in."""
    lists = ("filter_shape", "levels", "model_levels", "bias", "requantization", "activation_bits")
    stock_options = OPERATORS[stock][0]
    numbers = stock_options | {"version": POSITIVE, "scheme": (0, 0, 1), "separate": (0, 0, 1)}
    try:
        root = flexbuffers.GetRoot(bytearray(content))
        require(root.IsMap and len(root.AsMap) <= 16, "options are no map")
        keys = [str(root.AsMap.Keys[number].AsKey) for number in range(len(root.AsMap))]
        values = [root.AsMap.Values[number] for number in range(len(root.AsMap))]
    except (TypeError, ValueError, IndexError, struct.error, OverflowError, UnicodeDecodeError) as error:
        raise RejectedError("options are no flexbuffer") from error
    require(len(set(keys)) == len(keys), "a key is repeated")
    options: dict[str, Any] = {name: default for name, (default, _, _) in numbers.items()}
    for key, value in zip(keys, values, strict=True):
        require(key in lists or key in numbers, f"unknown key {key}")
        if key in lists:
            require(value.IsTypedVector and len(value.AsTypedVector) <= 16, f"{key} is no list")
            items = [value.AsTypedVector[number] for number in range(len(value.AsTypedVector))]
            require(all(item.IsInt for item in items), f"{key} holds no integers")
            options[key] = [item.AsInt for item in items]
        else:
            require(value.IsInt, f"{key} is no integer")
            _, low, high = numbers[key]
            require(low <= value.AsInt <= high, f"{key} is out of range")
            options[key] = value.AsInt
    require({"filter_shape", "levels", "model_levels", "version"} <= set(keys), "a required key is missing")
    return options


def read_operator(
    place: tuple[int, int], stock: str, operator: Table, tensors: list[TensorView], level_count: int
) -> OperatorView:
    """Checks 12 to 14 of section 9."""
    options = read_options(operator.data(5), stock)
    levels, model_levels, shape = options["levels"], options["model_levels"], options["filter_shape"]
    require(
        levels == sorted(set(levels)) and len(levels) > 0 and levels[0] >= 1 and levels[-1] <= 8, "levels"
    )
    require(len(model_levels) == level_count and model_levels == sorted(model_levels), "model_levels")
    require(model_levels[0] >= 0 and model_levels[-1] == len(levels) - 1, "model_levels")
    biases = options.get("bias", list(range(len(levels))))
    sets = options.get("requantization", [0] * len(levels))
    for name, numbers in (("bias", biases), ("requantization", sets)):
        require(len(numbers) == len(levels) and numbers[0] == 0, name)
        for position in range(1, len(numbers)):
            before = numbers[:position]
            require(numbers[position] in (*before, max(before) + 1), name)
    activation_bits = options.get("activation_bits", [8] * len(levels))
    require(
        len(activation_bits) == len(levels) and all(1 <= bits <= 8 for bits in activation_bits),
        "activation_bits",
    )
    require(
        len(shape) == OPERATORS[stock][1] and all(1 <= size <= 16777215 for size in shape), "filter_shape"
    )
    require(math.prod(shape) <= 2147483647, "filter_shape")
    require(stock != "DEPTHWISE_CONV_2D" or shape[0] == 1, "filter_shape")
    inputs, outputs = operator.numbers(1, "<i4"), operator.numbers(2, "<i4")
    bringers = len({numbers.index(number) for numbers in (biases, sets) for number in numbers})
    more = bringers if options["separate"] else 0
    require(len(inputs) == 1 + len(levels) + more and len(outputs) == 1, "inputs")
    require(all(0 <= index < len(tensors) for index in (*inputs, *outputs)), "inputs")
    view = OperatorView(
        *place,
        stock,
        options["version"],
        {name: options[name] for name in OPERATORS[stock][0]},
        options["scheme"] == 1,
        levels,
        model_levels,
        shape,
        biases,
        sets,
        options["separate"] == 1,
        activation_bits,
        [tensors[index] for index in inputs],
        tensors[outputs[0]],
    )
    check_tensors(view)
    return view


def check_tensors(view: OperatorView) -> None:
    """The table of 6.2."""
    for tensor in (view.activation, view.output):
        require(
            tensor.type == INT8 and len(tensor.scales) >= 1 and 0 < tensor.scales[0] < math.inf, "activation"
        )
    for tensor in view.inputs[1:]:
        require(tensor.type == UINT8 and len(tensor.data) == tensor.elements > 0, "not constant")
    for own in range(len(view.levels)):
        view.parts(own)


# -------------------------------------------------------------------------------------------------- file


@dataclass(frozen=True)
class ControllerView:
    """A controller (15)."""

    subgraph: int
    stem: int
    operators: list[int]
    choices: list[tuple[int, int]]


@dataclass(frozen=True)
class NestedFile:
    """A nested file that passed all checks."""

    directory: DirectoryView
    operators: list[OperatorView]
    controller: ControllerView | None


def read_activation(value: int, bits: int) -> int:
    """What an operator reads (6.7)."""
    if bits == 8:
        return value
    code = min((value + 128 + 2 ** (7 - bits)) >> (8 - bits), 2**bits - 1)
    return (code << (8 - bits)) - 128


def read_controller(entry: bytes, model: Table, names: list[str], data: list[bytes]) -> ControllerView:
    """Check 17 of section 9; `names` has the operator codes, "" for those that are not controllable."""
    require(len(entry) >= 32 and entry[:8] == bytes.fromhex("54464c4e43544c00"), "controller magic")
    version, header_size, flags, subgraph, stem, count, choice_count, reserved = struct.unpack_from(
        "<HHIIIHHI", entry, 8
    )
    require((version, header_size, flags, reserved) == (1, 32, 0, 0), "controller header")
    require(1 <= count <= 4096 and 1 <= choice_count <= 64, "controller counts")
    require(len(entry) == 32 + 4 * count + 4 * choice_count, "controller size")
    operators = [struct.unpack_from("<I", entry, 32 + 4 * number)[0] for number in range(count)]
    rows = [struct.unpack_from("<BBH", entry, 32 + 4 * count + 4 * number) for number in range(choice_count)]
    require(not any(row[2] for row in rows), "reserved fields")
    choices = [(level, bits) for level, bits, _ in rows]
    graphs = list(model.tables(2))
    require(0 < subgraph == len(graphs) - 1, "controller subgraph")
    tensors = [read_tensor(table, data) for table in graphs[0].tables(0)]
    main = list(graphs[0].tables(3))
    writers = [index for index, item in enumerate(main) if stem in item.numbers(2, "<i4")]
    require(stem < len(tensors) and (bool(writers) or stem in graphs[0].numbers(1, "<i4")), "stem")
    require(tensors[stem].type == INT8, "stem")
    first = writers[0] + 1 if writers else 0
    require(operators == sorted(set(operators)) and first <= operators[0], "controlled operators")
    require(operators[-1] < len(main), "controlled operators")
    for index in operators:
        require(names[main[index].scalar(0, "I")] in OPERATORS, "controlled operators")
        activation = tensors[main[index].numbers(1, "<i4")[0]]
        require(activation.type == INT8 and not activation.data, "controlled operators")
    inner = [read_tensor(table, data) for table in graphs[subgraph].tables(0)]
    inputs, outputs = graphs[subgraph].numbers(1, "<i4"), graphs[subgraph].numbers(2, "<i4")
    require(len(inputs) == 1 and len(outputs) == 1, "controller inputs and outputs")
    shapes = [max(code.scalar(0, "b"), code.scalar(3, "i")) == SHAPE for code in model.tables(1)]
    varying: set[int] = set() if inner[inputs[0]].data else {inputs[0]}
    written: set[int] = set()
    for item in graphs[subgraph].tables(3):
        if not shapes[item.scalar(0, "I")] and varying.intersection(item.numbers(1, "<i4")):
            written.update(item.numbers(2, "<i4"))
            varying |= written
    require(outputs[0] in written, "the logits do not depend on the stem")
    source, target = inner[inputs[0]], tensors[stem]
    require((source.type, source.shape) == (target.type, target.shape), "controller input")
    require((source.scales, source.zero_point) == (target.scales, target.zero_point), "controller input")
    require(inner[outputs[0]].type == INT8, "controller output")
    require(inner[outputs[0]].elements == count * choice_count, "controller output")
    require(not any(tensor.variable for tensor in inner), "controller variables")
    return ControllerView(subgraph, stem, operators, choices)


def check_pages(
    model: Table, directory: DirectoryView, data: list[bytes], operators: list[OperatorView]
) -> None:
    """Check 15 of section 9."""
    page_of_buffer = directory.page_of_buffer()
    for number, subgraph in enumerate(model.tables(2)):
        operator_tables = list(subgraph.tables(3))
        nested = {view.index: view for view in operators if view.subgraph == number}
        allowed: dict[int, set[int]] = {}
        for index, operator in enumerate(operator_tables):
            inputs = operator.numbers(1, "<i4")
            if index not in nested:
                for tensor in inputs:
                    allowed.setdefault(tensor, set()).add(0)
                continue
            view = nested[index]
            for own in range(len(view.levels)):
                used = {view.holder(numbers.index(numbers[own])) for numbers in (view.biases, view.sets)}
                for place in {1 + own} | used:
                    allowed.setdefault(inputs[place], set()).add(view.page_of(own))
        for index, table in enumerate(subgraph.tables(0)):
            tensor = read_tensor(table, data)
            if tensor.data:
                highest = min(allowed.get(index, {0}))
                require(
                    page_of_buffer.get(tensor.buffer, 99) <= highest, "a constant lies in too high a page"
                )


def read(content: bytes) -> NestedFile:
    """Read and check a nested file.

    Raises:
        RejectedError: It breaks a rule of section 9.
    """
    try:
        return _read(content)
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise RejectedError(f"not a sound flatbuffer: {error}") from error


def _read(content: bytes) -> NestedFile:
    require(len(content) >= 8 and content[4:8] == b"TFL3", "file identifier")
    model = Table(content, struct.unpack_from("<I", content)[0])
    buffers = list(model.tables(4))
    data = [buffer.data(0) for buffer in buffers]
    extents = [buffer.vector(0) for buffer in buffers]
    entries = [entry.scalar(1, "I") for entry in model.tables(6) if entry.data(0) == b"TFLNEST"]
    require(len(entries) == 1 and entries[0] < len(buffers), "one TFLNEST entry")
    directory = read_directory(data[entries[0]], content)
    check_file(directory, content, extents[entries[0]][0], extents)
    codes = []
    for code in model.tables(1):
        builtin = max(code.scalar(0, "b"), code.scalar(3, "i"))
        codes.append((code.data(1).decode() if builtin == CUSTOM else "", code.scalar(2, "i", 1)))
    operators: list[OperatorView] = []
    for number, subgraph in enumerate(model.tables(2)):
        tensors = [read_tensor(table, data) for table in subgraph.tables(0)]
        for index, operator in enumerate(subgraph.tables(3)):
            name, version = codes[operator.scalar(0, "I")]
            if not name.startswith("TFLNEST_"):
                continue
            stock = name.removeprefix("TFLNEST_")
            require(stock in OPERATORS and version == 1, "operator code")
            operators.append(read_operator((number, index), stock, operator, tensors, len(directory.levels)))
    check_pages(model, directory, data, operators)
    entries = [entry.scalar(1, "I") for entry in model.tables(6) if entry.data(0) == b"TFLNEST_CONTROLLER"]
    require(len(entries) <= 1, "one TFLNEST_CONTROLLER entry")
    if not entries:
        return NestedFile(directory, operators, None)
    controller = read_controller(data[entries[0]], model, stock_names(model), data)
    require(all(view.subgraph != controller.subgraph for view in operators), "nested controller")
    levels = directory.levels
    require(len(set(controller.choices)) == len(controller.choices), "a choice twice")
    require(all(level in levels and 1 <= bits <= 8 for level, bits in controller.choices), "choices")
    return NestedFile(directory, operators, controller)


def stock_names(model: Table) -> list[str]:
    """The stock operator of every operator code with a filter, nested or not; "" for all others."""
    builtin = {3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 9: "FULLY_CONNECTED"}
    names = []
    for code in model.tables(1):
        number = max(code.scalar(0, "b"), code.scalar(3, "i"))
        nested = code.data(1).decode().removeprefix("TFLNEST_") if number == CUSTOM else ""
        names.append(builtin.get(number, nested))
    return names
