"""The code of generated firmware as C text: parameters, direct kernel calls, the model's description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firmware_sim.firmware import choosing
from firmware_sim.firmware.data import Constants
from firmware_sim.firmware.names import c_type, comment, shortened, struct_text, wrapped
from firmware_sim.firmware.plan import FirmwarePlan, Protocol
from firmware_sim.firmware.program import DeviceStep
from firmware_sim.firmware.protocol import protocol_text
from tflnest.device import Argument, Call, Constant, Core, LevelFilter, initializer
from tflnest.device.narrowing import NARROW
from tflnest.graph import Tensor

#: Names in tflnest_variant.h.
_VARIANTS = {
    Core.PORTABLE: "TFLNEST_VARIANT_NARROW",
    Core.DSP: "TFLNEST_VARIANT_DSP",
    Core.MVE: "TFLNEST_VARIANT_MVE",
}

_SECTORS_INCLUDE = ('#include "tflnest/tflnest_sectors.h"',)


@dataclass
class ModelCode:
    """Makes `model.c` and `model.h`.

    Args:
        constants: Names of all constants; what lies in no page is added to it.
        free_sram_bytes: What the protocol says of the board's SRAM.
    """

    constants: Constants
    free_sram_bytes: int = 0

    @property
    def plan(self) -> FirmwarePlan:
        """What is generated."""
        return self.constants.plan

    # ------------------------------------------------------------------------------------------------ model.c

    def source(self, heading: str) -> str:
        """The text of `model.c`."""
        plan = self.plan
        headers = {call.function.header for calls in plan.calls for call in calls}
        if plan.options.protocol is Protocol.SERIAL:
            headers.add("tflnest/tflnest_protocol_pager.h")
        lines = [
            heading,
            '#include "model.h"',
            "",
            "#include <string.h>",
            "",
            '#include "model_data.h"',
            *(['#include "model_protocol.h"'] if plan.options.protocol is Protocol.SERIAL else []),
            *(['#include "port.h"'] if plan.options.marks or plan.stored_pages else []),
            *(['#include "port_config.h"', *_SECTORS_INCLUDE] if plan.stored_pages else []),
            *(f'#include "{header}"' for header in sorted(headers)),
            *self._variant(),
            "",
            *self._memory(),
        ]
        for position, step in enumerate(plan.program.steps):
            lines += ["", *self._parameters(position, step)]
        if any(call.function is NARROW for calls in plan.calls for call in calls):
            lines += ["", *choosing.narrow_function()]
        if plan.program.choosing is not None:
            lines += ["", *choosing.choose_function(plan.program.choosing, plan.program)]
        lines += ["", *self._invoke(), "", *self._description(), "", *self._functions()]
        if plan.options.protocol is Protocol.SERIAL:
            places = {
                tensor.index: self._place(tensor, "uint8_t")
                for group in self._interface().values()
                for tensor in group
            }
            lines += ["", *protocol_text(plan, places, self.free_sram_bytes)]
        return "\n".join([*lines, ""])

    def _variant(self) -> list[str]:
        """A check that the compiler chooses the variant of the kernels whose scratch was planned."""
        if not any(call.function.has_scratch for calls in self.plan.calls for call in calls):
            return []
        name = _VARIANTS[self.plan.core]
        return [
            '#include "runtime/src/tflnest_variant.h"',
            "",
            f"#if TFLNEST_VARIANT != {name}",
            f'#error "scratch was planned for {name}: generate for this processor, or define TFLNEST_VARIANT"',
            "#endif",
        ]

    def _memory(self) -> list[str]:
        plan, arena = self.plan, self.plan.arena
        lines = [
            f"/* The arena: activations take {arena.activation_bytes:,} of {arena.bytes:,} bytes, and share them with "
            "scratch. */"
        ]
        if arena.bytes:
            lines.append(f"static MODEL_ALIGNED(16) uint8_t arena[{arena.bytes}];")
            lines.append("#define AT(type, offset) ((type *)(void *)(arena + (offset)))")
        if self._keeps_slots and plan.slots:
            lines += [
                "",
                "/* What lies here survives a reset. */",
                '#define MODEL_KEPT __attribute__((section(".noinit")))',
            ]
        if plan.program.nested_steps:
            lines.append("")
            lines.append("/* Which of its levels each operator with levels runs at. */")
            lines.append(f"static uint8_t positions[{len(plan.program.nested_steps)}];")
        if plan.program.choosing is not None:
            lines += choosing.variables(plan.program.choosing)
        for page in plan.slots:
            if page == plan.slots[0]:
                lines += ["", "/* Rooms for pages that come from the host. */"]
            attribute = "MODEL_ALIGNED(16) MODEL_KEPT" if self._keeps_slots else "MODEL_ALIGNED(16)"
            lines.append(f"static {attribute} struct model_page_{page} model_slot_{page};")
        return [*lines, *self._rooms()]

    def _rooms(self) -> list[str]:
        """Flash for pages that come later, and what writes them."""
        if not self.plan.stored_pages:
            return []
        lines = [
            "",
            "/* Flash sectors for pages that come from the host, with a mark behind each page. */",
            '#define MODEL_SECTORS __attribute__((section(".sectors"), aligned(PORT_FLASH_SECTOR_BYTES)))',
        ]
        for page in self.plan.stored_pages:
            lines += [
                "static MODEL_SECTORS struct {",
                f"    struct model_page_{page} page;",
                "    uint8_t mark[TFLNEST_SECTORS_MARK_BYTES];",
                f"}} model_room_{page};",
            ]
        return [
            *lines,
            "",
            "static const tflnest_sectors sectors = {",
            "    .sector_bytes = PORT_FLASH_SECTOR_BYTES, .erase = port_flash_erase, .program = port_flash_program};",
            "static const tflnest_page_store store = TFLNEST_SECTORS_STORE(&sectors);",
        ]

    @property
    def _keeps_slots(self) -> bool:
        return self.plan.options.protocol is Protocol.SERIAL

    def _parameters(self, position: int, step: DeviceStep) -> list[str]:
        lines = [f"/* {self._title(step)}. */"]
        for number, call in enumerate(self.plan.calls[position]):
            prefix = self._prefix(position, number)
            if call.function is NARROW:
                if step.operator.index not in self._chosen:
                    levels = len(self.plan.calls[position][number + 1].filters)
                    lines += choosing.activation_bits(step, levels)
                continue
            lines += self._filters(call, prefix)
            lines += self._struct(call.params, prefix, "params")
        return lines

    def _title(self, step: DeviceStep) -> str:
        """Index, name and scope of an operator, with the shapes of what it reads and writes."""
        tensors = self.plan.program.tensors
        calls = step.calls
        sources = [tensors[argument.tensor] for call in calls for argument in call.inputs]
        outputs = [tensors[argument.tensor] for call in calls for argument in call.outputs]
        shapes = " -> ".join(_shapes(group) for group in (sources, outputs))
        scope = step.nested.scope if step.nested is not None else outputs[0].name
        name = f' "{shortened(scope)}"' if scope else ""
        return comment(f"{step.operator.index}: {step.operator.name}{name}, {shapes}")

    def _prefix(self, position: int, number: int) -> str:
        index = self.plan.program.steps[position].operator.index
        return f"operator_{index}" if len(self.plan.calls[position]) == 1 else f"operator_{index}_{number}"

    def _filters(self, call: Call, prefix: str) -> list[str]:
        if not call.filters:
            return []
        longest = max((level.filter.fields for level in call.filters), key=len)
        lines: list[str] = []
        if longest:
            rows = [
                initializer(row, lambda value: self.constants.name(value, f"model_{prefix}"), _no_array)
                for row in longest
            ]
            lines = [f"static const tflnest_field {prefix}_fields[{len(rows)}] = {{", *wrapped(rows), "};"]
        if len(call.filters) == 1:
            text = self._filter_text(call.filters[0], longest, prefix)
            return [*lines, *_definition(f"static const tflnest_filter {prefix}_filter", text)]
        lines.append(f"static const tflnest_filter {prefix}_filters[{len(call.filters)}] = {{")
        for level in call.filters:
            lines.append(f"    /* {level.level} bits */")
            rows = struct_text(self._filter_text(level, longest, prefix), 1)
            rows[-1] += ","
            lines += rows
        return [*lines, "};"]

    def _filter_text(self, level: LevelFilter, longest: Sequence[Any], prefix: str) -> str:
        """The initialiser of a filter; every level reads the first fields of the highest one."""

        def name_of_array(fields: tuple[Any, ...]) -> str:
            assert fields == tuple(longest[: len(fields)]), "a level reads the fields of the level below it"
            return f"{prefix}_fields"

        return initializer(
            level.filter, lambda value: self.constants.name(value, f"model_{prefix}"), name_of_array
        )

    def _struct(self, value: Any, prefix: str, what: str) -> list[str]:
        """A constant of a mirrored struct, after the arrays of structs that it points to."""
        lines: list[str] = []
        numbers = iter(range(1, 1 << 16))

        def name_of_array(items: tuple[Any, ...]) -> str:
            name = f"{prefix}_{what}_{next(numbers)}"
            rows = [initializer(item, name_of, name_of_array) for item in items]
            lines.append(f"static const {type(items[0]).c_name} {name}[{len(rows)}] = {{")
            lines.extend(wrapped(rows))
            lines.append("};")
            return name

        def name_of(data: Any) -> str:
            return self.constants.name(data, f"model_{prefix}")

        text = initializer(value, name_of, name_of_array)
        return [*lines, *_definition(f"static const {type(value).c_name} {prefix}_{what}", text)]

    def _invoke(self) -> list[str]:
        plan = self.plan
        lines = ["static void invoke(const uint8_t *at)", "{"]
        rows = {step.operator.index: row for row, step in enumerate(plan.program.nested_steps)}
        if not rows:
            lines.append("    (void)at;")
        for position, step in enumerate(plan.program.steps):
            lines += [f"    port_mark_start({step.operator.index}u);"] if plan.options.marks else []
            for number, call in enumerate(plan.calls[position]):
                lines += self._call(position, number, call, rows.get(step.operator.index))
            lines += [f"    port_mark_stop({step.operator.index}u);"] if plan.options.marks else []
            decided = plan.program.choosing
            if decided is not None and decided.after == step.operator.index:
                logits = self._argument(Argument(decided.logits), "const int8_t")
                lines.append(f"    choose({logits}, at);")
        return [*lines, "}"]

    @property
    def _chosen(self) -> dict[int, int]:
        """Where the controller's choice for each operator stands, by index."""
        decided = self.plan.program.choosing
        return {} if decided is None else {index: row for row, index in enumerate(decided.operators)}

    def _narrow(self, call: Call, step: DeviceStep, row: int | None) -> list[str]:
        """The call that narrows an activation; in place it has nothing to do at 8 bits."""
        index = step.operator.index
        chosen = self._chosen.get(index)
        bits = (
            f"operator_{index}_activation_bits[at[{row}]]" if chosen is None else f"model_widths[{chosen}][1]"
        )
        source, target = call.inputs[0], call.outputs[0]
        arguments = [
            self._argument(source, "const int8_t"),
            self._argument(target, "int8_t"),
            str(call.params.size),
            bits,
        ]
        lines = _call_text("narrow", arguments)
        if source != target:
            return lines
        return [f"    if ({bits} < 8u) {{", *(f"    {line}" for line in lines), "    }"]

    def _call(self, position: int, number: int, call: Call, row: int | None) -> list[str]:
        step = self.plan.program.steps[position]
        if call.function is NARROW:
            return self._narrow(call, step, row)
        prefix = self._prefix(position, number)
        arguments = [f"&{prefix}_params"]
        if call.function.has_filter:
            several = len(call.filters) > 1
            chosen = self._chosen.get(step.operator.index)
            at = f"at[{row}]" if chosen is None else f"model_widths[{chosen}][0]"
            arguments.append(f"&{prefix}_filters[{at}]" if several else f"&{prefix}_filter")
        for argument, scalar in zip(call.inputs, call.function.inputs, strict=True):
            arguments.append(self._argument(argument, f"const {scalar.name}"))
        for argument, scalar in zip(call.outputs, call.function.outputs, strict=True):
            arguments.append(self._argument(argument, scalar.name))
        if call.kernel.has_scratch:
            scratch = self.plan.arena.scratch.get(position)
            arguments.append("NULL" if scratch is None else f"AT(void, {scratch.offset})")
        return _call_text(call.kernel.name, arguments)

    def _argument(self, argument: Argument, type_name: str) -> str:
        tensor = self.plan.program.tensors[argument.tensor]
        if tensor.data is not None:
            text = self.constants.name(Constant(argument.tensor, argument.offset), "model")
            return f"({type_name} *){text}"
        return f"AT({type_name}, {self.plan.arena.offsets[argument.tensor] + argument.offset})"

    # ---------------------------------------------------------------------------------------- the description

    def _description(self) -> list[str]:
        program = self.plan.program
        levels = ", ".join(str(level) for level in program.levels)
        lines = [f"static const uint8_t levels[{len(program.levels)}] = {{{levels}}};"]
        for step in program.nested_steps:
            lines += self._operator_levels(step)
        lines += ["", f"static const tflnest_page pages[{len(program.pages)}] = {{"]
        lines += [f"    {self._page_row(page)}," for page in range(len(program.pages))]
        lines.append("};")
        if program.nested_steps:
            lines += ["", f"static const tflnest_model_operator operators[{len(program.nested_steps)}] = {{"]
            for step in program.nested_steps:
                lines += struct_text(_operator_row(step), 1)
                lines[-1] += ","
            lines.append("};")
        for what, tensors in self._interface().items():
            lines += ["", f"static const tflnest_tensor {what}[{len(tensors)}] = {{"]
            lines += [
                f"    {{.data = {self._place(tensor)}, .bytes = {tensor.bytes}}}," for tensor in tensors
            ]
            lines.append("};")
        has_operators = bool(program.nested_steps)
        identity = wrapped([f"0x{byte:02x}" for byte in program.identity], 2)
        return [
            *lines,
            "",
            "const tflnest_model model = {",
            "    .magic = TFLNEST_MODEL_MAGIC,",
            "    .version = TFLNEST_MODEL_VERSION,",
            f"    .level_count = {len(program.levels)},",
            f"    .stored_pages = {sum(1 << page for page in self.plan.stored_pages)},",
            f"    .operator_count = {len(program.nested_steps)},",
            f"    .input_count = {len(program.subgraph.inputs)},",
            f"    .output_count = {len(program.subgraph.outputs)},",
            "    .identity = {",
            *identity,
            "    },",
            "    .levels = levels,",
            "    .pages = pages,",
            f"    .store = {'&store' if self.plan.stored_pages else 'NULL'},",
            f"    .operators = {'operators' if has_operators else 'NULL'},",
            "    .inputs = inputs,",
            "    .outputs = outputs,",
            f"    .positions = {'positions' if has_operators else 'NULL'},",
            "    .invoke = invoke,",
            "};",
        ]

    def _interface(self) -> dict[str, tuple[Tensor, ...]]:
        subgraph = self.plan.program.subgraph
        return {"inputs": subgraph.input_tensors(), "outputs": subgraph.output_tensors()}

    def _place(self, tensor: Tensor, type_name: str = "void") -> str:
        return f"AT({type_name}, {self.plan.arena.offsets[tensor.index]})"

    def _operator_levels(self, step: DeviceStep) -> list[str]:
        nested = step.nested
        assert nested is not None
        prefix = f"static const uint8_t operator_{step.operator.index}"
        own = nested.nesting.levels
        rows = {
            f"levels[{len(own)}]": own,
            f"pages[{len(own)}]": [nested.page_of(position) for position in range(len(own))],
            f"model_levels[{len(nested.model_levels)}]": nested.model_levels,
        }
        return [f"{prefix}_{name} = {{{', '.join(map(str, values))}}};" for name, values in rows.items()]

    def _page_row(self, page: int) -> str:
        entry = self.plan.program.pages[page]
        image = slot = "NULL"
        if page in self.plan.flash_pages and entry.size:
            image = f"(const uint8_t *)&model_page_{page}"
        elif page in self.plan.stored_pages:
            image = f"(const uint8_t *)&model_room_{page}"
        elif page in self.plan.slots:
            slot = f"(uint8_t *)&model_slot_{page}"
        return f"{{.image = {image}, .slot = {slot}, .size = {entry.size}, .crc32 = 0x{entry.crc32:08x}u}}"

    # -------------------------------------------------------------------------------------------- the functions

    def _functions(self) -> list[str]:
        tensors = self._interface()
        copies = [
            f"    memcpy(inputs[{number}].data, {name}, {tensor.bytes}u);"
            for number, (tensor, name) in enumerate(zip(tensors["inputs"], self._names("input"), strict=True))
        ]
        results = [
            f"        memcpy({name}, outputs[{number}].data, {tensor.bytes}u);"
            for number, (tensor, name) in enumerate(
                zip(tensors["outputs"], self._names("output"), strict=True)
            )
        ]
        return [
            "tflnest_pager model_pager;",
            "",
            "tflnest_status model_start(void)",
            "{",
            "    return tflnest_pager_start(&model_pager, &model);",
            "}",
            "",
            *self._signature(),
            "{",
            "    tflnest_status status;",
            "",
            *copies,
            "    status = tflnest_pager_invoke(&model_pager);",
            "    if (status == TFLNEST_OK) {",
            *results,
            "    }",
            "    return status;",
            "}",
        ]

    def _names(self, what: str) -> list[str]:
        """Names of the arguments of `model_invoke`."""
        count = len(getattr(self.plan.program.subgraph, f"{what}s"))
        return [what] if count == 1 else [f"{what}_{number}" for number in range(count)]

    def _signature(self) -> list[str]:
        tensors = self._interface()
        arguments = [
            f"const {c_type(tensor.dtype)} *{name}"
            for tensor, name in zip(tensors["inputs"], self._names("input"), strict=True)
        ] + [
            f"{c_type(tensor.dtype)} *{name}"
            for tensor, name in zip(tensors["outputs"], self._names("output"), strict=True)
        ]
        return _joined("tflnest_status model_invoke(", arguments, ")")

    # ------------------------------------------------------------------------------------------------- model.h

    def header(self, heading: str) -> str:
        """The text of `model.h`."""
        lines = [
            heading,
            "#ifndef MODEL_H",
            "#define MODEL_H",
            "",
            '#include "tflnest/tflnest_pager.h"',
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            f'#define MODEL_IDENTITY "{self.plan.program.identity.hex()}"',
            "",
        ]
        for what, tensors in self._interface().items():
            lines += [f"/* {what.capitalize()}. */"]
            for name, tensor in zip(self._names(what[:-1]), tensors, strict=True):
                lines.append(
                    f"#define MODEL_{name.upper()}_BYTES {tensor.bytes}u /* {_tensor_text(tensor)} */"
                )
            lines.append("")
        signature = self._signature()
        signature[-1] += ";"
        lines += [
            *([] if self.plan.program.choosing is None else choosing.declaration(self.plan.program.choosing)),
            "/* The model, and what changes while it runs: see tflnest_pager.h for pages and levels. */",
            "extern const tflnest_model model;",
            "extern tflnest_pager model_pager;",
            "",
            "/* Check the model and choose the highest level whose pages are there. Call it once, first. */",
            "tflnest_status model_start(void);",
            "",
            "/* Run the model: copies the inputs in, and the outputs out. */",
            *signature,
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
            "",
        ]
        return "\n".join(lines)


def _shapes(tensors: Sequence[Tensor]) -> str:
    texts = dict.fromkeys(
        f"{tensor.type.lower()} {'x'.join(map(str, tensor.shape)) or '1'}" for tensor in tensors
    )
    return " and ".join(texts) if texts else "nothing"


def _tensor_text(tensor: Tensor) -> str:
    """Type, shape and quantization."""
    text = f"{tensor.type.lower()}, shape {'x'.join(map(str, tensor.shape)) or '1'}"
    if tensor.quantization is not None:
        text += f", real = {tensor.scale:.9g} * (value - {tensor.zero_point})"
    return comment(text)


def _operator_row(step: DeviceStep) -> str:
    nested, prefix = step.nested, f"operator_{step.operator.index}"
    assert nested is not None
    members = {
        "levels": f"{prefix}_levels",
        "pages": f"{prefix}_pages",
        "model_levels": f"{prefix}_model_levels",
        "index": step.operator.index,
        "level_count": len(nested.nesting.levels),
    }
    return "{" + ", ".join(f".{name} = {value}" for name, value in members.items()) + "}"


def _no_array(items: tuple[Any, ...]) -> str:
    raise AssertionError(f"a field has no arrays: {items}")


def _definition(declaration: str, text: str) -> list[str]:
    lines = struct_text(text, before=len(declaration) + 3)
    lines[0] = f"{declaration} = {lines[0]}"
    lines[-1] += ";"
    return lines


def _call_text(name: str, arguments: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in _joined(f"{name}(", arguments, ");")]


def _joined(start: str, items: Sequence[str], end: str) -> list[str]:
    """A list in parentheses, broken after commas and aligned with the parenthesis."""
    lines, line = [], start
    for number, item in enumerate(items):
        word = item + (", " if number < len(items) - 1 else end)
        if len(line) + len(word.rstrip()) > 100 and line != start:
            lines.append(line.rstrip())
            line = " " * len(start)
        line += word
    return [*lines, line]
