"""What the serial protocol tells of a model, as C text."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from firmware_sim.firmware.names import struct_text
from firmware_sim.firmware.plan import FirmwarePlan
from firmware_sim.pager import Placement
from tflnest.bridge.messages import MAX_DIMENSIONS
from tflnest.errors import UnsupportedError
from tflnest.graph import Tensor
from tflnest.schema import enum_value

_PLACES = {
    Placement.FLASH: "TFLNEST_PLACE_FLASH",
    Placement.SRAM: "TFLNEST_PLACE_SRAM",
    Placement.HOST: "TFLNEST_PLACE_HOST",
}

#: Functions of the model that the pager answers, in the order of the struct.
_FUNCTIONS = (
    "resident",
    "level",
    "operator_level",
    "page_begin",
    "page_write",
    "page_end",
    "page_out",
    "page_image",
    "page_found",
    "set_level",
    "set_operator_level",
    "invoke",
)


def protocol_header(heading: str, board: str, frame_bytes: int) -> str:
    """The text of `model_protocol.h`.

    Args:
        heading: First line.
        board: Name of the board.
        frame_bytes: Size of the buffer for one frame.
    """
    return "\n".join(
        [
            heading,
            "#ifndef MODEL_PROTOCOL_H",
            "#define MODEL_PROTOCOL_H",
            "",
            '#include "tflnest/tflnest_protocol.h"',
            "",
            "/* The buffer for one frame. */",
            f"#define MODEL_FRAME_BYTES {frame_bytes}u",
            "",
            "/* What the board calls itself. */",
            f'#define MODEL_BOARD "{board}"',
            "",
            "/* The model as the serial protocol sees it. */",
            "extern const tflnest_protocol_model model_protocol;",
            "",
            "#endif",
            "",
        ]
    )


def protocol_text(plan: FirmwarePlan, places: dict[int, str], free_sram_bytes: int) -> list[str]:
    """The lines of `model.c` that describe the model to the protocol.

    Args:
        plan: What is generated.
        places: C expressions of where inputs and outputs lie, by tensor.
        free_sram_bytes: SRAM that nothing uses, slots without a page not counted.

    Raises:
        UnsupportedError: An input or output has more dimensions than the protocol tells.
    """
    program = plan.program
    subgraph = program.subgraph
    lines = [f"static const tflnest_protocol_page protocol_pages[{len(program.pages)}] = {{"]
    lines += [f"    {_page_row(plan, page)}," for page in range(len(program.pages))]
    lines.append("};")
    steps = program.nested_steps
    if steps:
        lines += ["", f"static const tflnest_protocol_operator protocol_operators[{len(steps)}] = {{"]
        for step in steps:
            assert step.nested is not None
            own = step.nested.nesting.levels
            lines.append(
                f"    {{.index = {step.operator.index}, .level_count = {len(own)}, "
                f".levels = {{{', '.join(map(str, own))}}}}},"
            )
        lines.append("};")
    for name, tensors in (("inputs", subgraph.input_tensors()), ("outputs", subgraph.output_tensors())):
        lines += ["", f"static const tflnest_protocol_tensor protocol_{name}[{len(tensors)}] = {{"]
        for tensor in tensors:
            lines += struct_text(_tensor_row(tensor, places[tensor.index]), 1)
            lines[-1] += ","
        lines.append("};")
    members = [
        ".identity = model.identity",
        ".levels = levels",
        ".pages = protocol_pages",
        f".operators = {'protocol_operators' if steps else 'NULL'}",
        ".inputs = protocol_inputs",
        ".outputs = protocol_outputs",
        f".level_count = {len(program.levels)}",
        f".page_count = {len(program.pages)}",
        f".operator_count = {len(steps)}",
        f".input_count = {len(subgraph.inputs)}",
        f".output_count = {len(subgraph.outputs)}",
        ".context = &model_pager",
        ".free_sram = free_sram",
        *(f".{name} = tflnest_protocol_pager_{name}" for name in _FUNCTIONS),
    ]
    return [
        *lines,
        "",
        "static uint32_t free_sram(void *context)",
        "{",
        f"    return {free_sram_bytes}u + tflnest_pager_unused_bytes(context);",
        "}",
        "",
        "const tflnest_protocol_model model_protocol = {",
        *(f"    {member}," for member in members),
        "};",
    ]


def _page_row(plan: FirmwarePlan, page: int) -> str:
    entry = plan.program.pages[page]
    placement = plan.placement(page)
    capacity = entry.size if page in (*plan.slots, *plan.stored_pages) else 0
    place = _PLACES[placement or Placement.HOST]
    return (
        f"{{.level = {plan.program.levels[page]}, .place = {place}, .size = {entry.size}, "
        f".crc32 = 0x{entry.crc32:08x}u, .capacity = {capacity}}}"
    )


def _tensor_row(tensor: Tensor, place: str) -> str:
    if len(tensor.shape) > MAX_DIMENSIONS:
        raise UnsupportedError(
            f"tensor {tensor.label} has {len(tensor.shape)} dimensions, the serial protocol tells {MAX_DIMENSIONS}",
            "generate the firmware with --protocol none",
        )
    scale = 0 if tensor.quantization is None else struct.unpack("<I", struct.pack("<f", tensor.scale))[0]
    shape: Sequence[int] = tensor.shape or (1,)
    members = {
        "data": place,
        "size": tensor.bytes,
        "type": enum_value("TensorType", tensor.type),
        "rank": len(tensor.shape),
        "shape": f"{{{', '.join(map(str, shape))}}}",
        "scale": f"0x{scale:08x}u",
        "zero_point": tensor.zero_point,
    }
    return "{" + ", ".join(f".{name} = {value}" for name, value in members.items()) + "}"
