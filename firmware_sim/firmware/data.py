"""The constants of generated firmware as C text: page images, and what the kernels need besides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_sim.firmware.names import buffer_names, c_type, identifier, literals, wrapped
from firmware_sim.firmware.plan import FirmwarePlan
from firmware_sim.firmware.program import DeviceProgram
from tflnest.container import SEGMENT_ALIGNMENT
from tflnest.device import Computed, Constant


@dataclass(frozen=True)
class Member:
    """One segment of a page.

    Attributes:
        name: Of the C struct's member.
        values: Flat, little-endian, of the dtype that the member has.
        padding: Bytes behind it.
    """

    name: str
    values: NDArray[Any]
    padding: int


@dataclass
class Constants:
    """All constants of a plan, and their C names.

    Attributes:
        plan: What is generated.
        members: Of every page, in order.
        computed: Values that lie in no page, by C name; grows while code is generated.
    """

    plan: FirmwarePlan
    members: tuple[tuple[Member, ...], ...] = field(init=False)
    computed: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.members = page_members(self.plan.program)

    def page(self, page: int) -> str:
        """The C variable of a page: constants in flash, a room in flash, or a slot in SRAM."""
        if page in self.plan.stored_pages:
            return f"model_room_{page}.page"
        return f"model_page_{page}" if page in self.plan.flash_pages else f"model_slot_{page}"

    def name(self, value: Constant | Computed, prefix: str) -> str:
        """The C expression of constant values.

        Args:
            value: What a parameter points to.
            prefix: What the name of values that lie in no page begins with.
        """
        if isinstance(value, Computed):
            return self._add(np.asarray(value.values), f"{prefix}_{identifier(value.purpose)}")
        program = self.plan.program
        if not program.is_paged(value.tensor):
            data = program.tensors[value.tensor].data
            assert data is not None, "a binding names constants only"
            name = self._add(data.reshape(-1), f"model_tensor_{value.tensor}")
            return name if value.offset == 0 else f"&{name}[{value.offset // data.itemsize}]"
        page, position = program.places[program.buffer_of(value.tensor)]
        member = self.members[page][position]
        own = program.tensors[value.tensor].dtype
        text = f"{self.page(page)}.{member.name}"
        if value.offset:
            return f"(const void *)&{text}[{value.offset // member.values.itemsize}]"
        # Bytes may be what a level brings, which holds values of several types.
        is_typed = own == member.values.dtype and own != np.uint8
        return text if is_typed else f"(const void *){text}"

    def _add(self, values: NDArray[Any], name: str) -> str:
        """The name of values that lie in no page; equal ones of one name are stored once."""
        number = 1
        while True:
            unique = name if number == 1 else f"{name}_{number}"
            known = self.computed.setdefault(unique, values)
            if known is values or (known.dtype == values.dtype and np.array_equal(known, values)):
                return unique
            number += 1

    @property
    def computed_bytes(self) -> int:
        """Bytes of everything that lies in no page."""
        return sum(values.nbytes for values in self.computed.values())


def page_members(program: DeviceProgram) -> tuple[tuple[Member, ...], ...]:
    """The segments of every page as members of a C struct."""
    names = buffer_names(program)
    types = _buffer_types(program)
    pages = []
    for page, image in zip(program.pages, program.images, strict=True):
        start, members = 0, []
        for segment in page.segments:
            dtype = types.get(segment.buffer, np.dtype(np.uint8))
            dtype = dtype if segment.size % dtype.itemsize == 0 else np.dtype(np.uint8)
            values = np.frombuffer(image, dtype, segment.size // dtype.itemsize, start)
            members.append(Member(names[segment.buffer], values, segment.image_size - segment.size))
            start += segment.image_size
        pages.append(tuple(members))
    return tuple(pages)


def _buffer_types(program: DeviceProgram) -> dict[int, np.dtype[Any]]:
    """The dtype of every buffer: that of the first tensor that uses it."""
    types: dict[int, np.dtype[Any]] = {}
    for subgraph in program.model.graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.data is not None and tensor.data.dtype.itemsize <= SEGMENT_ALIGNMENT:
                types.setdefault(tensor.buffer, tensor.data.dtype)
    return types


# ------------------------------------------------------------------------------------------------------- C text


def struct_declaration(name: str, members: tuple[Member, ...]) -> list[str]:
    """A C struct with exactly the bytes of a page."""
    lines = [f"struct {name} {{"]
    for number, member in enumerate(members):
        lines.append(f"    {c_type(member.values.dtype)} {member.name}[{member.values.size}];")
        if member.padding:
            lines.append(f"    uint8_t padding_{number}[{member.padding}];")
    return [*lines, "};"]


def struct_definition(variable: str, name: str, members: tuple[Member, ...]) -> list[str]:
    """The constants of a page."""
    lines = [f"MODEL_ALIGNED(16) const struct {name} {variable} = {{"]
    for member in members:
        lines.append(f"    .{member.name} = {{")
        lines += wrapped(literals(member.values), 2)
        lines.append("    },")
    return [*lines, "};"]


def array_declaration(name: str, values: NDArray[Any]) -> str:
    """The type and name of an array of constants."""
    return f"const {c_type(values.dtype)} {name}[{values.size}]"


def header_text(constants: Constants, heading: str) -> str:
    """The text of `model_data.h`."""
    plan = constants.plan
    lines = [
        heading,
        "#ifndef MODEL_DATA_H",
        "#define MODEL_DATA_H",
        "",
        "#include <stdint.h>",
        "",
        "#if defined(__GNUC__) || defined(__clang__)",
        "#define MODEL_ALIGNED(bytes) __attribute__((aligned(bytes)))",
        "#else",
        '#error "say here how this compiler aligns a variable"',
        "#endif",
    ]
    for page in range(plan.top + 1):
        if not plan.program.pages[page].size:
            continue
        level, size = plan.program.levels[page], plan.program.pages[page].size
        lines += [
            "",
            f"/* Page {page}, level {level}: {size:,} bytes, CRC-32 {plan.program.pages[page].crc32:08x}. */",
        ]
        lines += struct_declaration(f"model_page_{page}", constants.members[page])
        lines.append(
            f"typedef char model_page_{page}_has_its_size[sizeof(struct model_page_{page}) == {size}u ? 1 : -1];"
        )
        if page in plan.flash_pages:
            lines.append(f"extern const struct model_page_{page} model_page_{page};")
    if constants.computed:
        lines += ["", "/* What lies in no page: it follows from the scales of the file. */"]
        lines += [f"extern {array_declaration(*item)};" for item in constants.computed.items()]
    return "\n".join([*lines, "", "#endif", ""])


def source_text(constants: Constants, heading: str) -> str:
    """The text of `model_data.c`."""
    plan = constants.plan
    lines = [heading, '#include "model_data.h"']
    for page in plan.flash_pages:
        if plan.program.pages[page].size:
            lines += [
                "",
                *struct_definition(f"model_page_{page}", f"model_page_{page}", constants.members[page]),
            ]
    for name, values in constants.computed.items():
        lines += ["", f"{array_declaration(name, values)} = {{", *wrapped(literals(values)), "};"]
    return "\n".join([*lines, ""])
