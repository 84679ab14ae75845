"""How much flash firmware takes, before it is compiled: measured code of the runtime, and its constants."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from firmware_sim.board import Board, list_boards
from firmware_sim.firmware.plan import FirmwarePlan, Protocol
from firmware_sim.target import align_up
from firmware_sim.toolchain import CORE_FLAGS
from tflnest.container import BUFFER_ALIGNMENT
from tflnest.device import Call, Computed
from tflnest.device.structures import Pointer, Scalar, members
from tflnest.files import read_file

#: Measured by `firmware_sim.firmware.code_measurement`.
CODE_SIZES = Path(__file__).with_name("code_sizes.json")

#: In place of a protocol: the serial one, and pages that come into flash.
SECTORS = "sectors"

_WORD = 4
#: Structures of the runtime on a 32-bit core, in bytes: tflnest_pager.h and tflnest_protocol.h.
_MODEL_BYTES = 80
_PAGE_BYTES = 16
_OPERATOR_BYTES = 16
_TENSOR_BYTES = 8
_PROTOCOL_MODEL_BYTES = 92
_PROTOCOL_PAGE_BYTES = 16
_PROTOCOL_OPERATOR_BYTES = 12
_PROTOCOL_TENSOR_BYTES = 44

#: Code of `model.c`: `model_start` and what surrounds the calls; then a call, and each of its arguments.
_START_CODE_BYTES = 24
_CALL_CODE_BYTES = 6
_ARGUMENT_CODE_BYTES = 6

#: The function of `model.c` that makes a controller's choice, unrolled by the compiler or not: a middle.
_CHOOSE_CODE_BYTES = 200


@dataclass(frozen=True)
class FlashUse:
    """What lies in flash, in bytes.

    Attributes:
        page_bytes: Page images.
        constant_bytes: Parameters, tables, and the description of the model.
        kernel_bytes: Code of the kernels and of the calls.
        base_bytes: Port, start-up, `main`, pager and protocol.
        sector_bytes: Sectors for pages that come over the line.
    """

    page_bytes: int
    constant_bytes: int
    kernel_bytes: int
    base_bytes: int
    sector_bytes: int = 0

    @property
    def code_bytes(self) -> int:
        """Everything that is not the model's."""
        return self.kernel_bytes + self.base_bytes

    @property
    def total_bytes(self) -> int:
        """Everything."""
        return self.page_bytes + self.constant_bytes + self.code_bytes + self.sector_bytes

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {**asdict(self), "total_bytes": self.total_bytes}


def measured_cores() -> tuple[str, ...]:
    """The cores of all boards that the compiler knows."""
    return tuple(sorted({Board.load(name).core for name in list_boards()} & set(CORE_FLAGS)))


@cache
def code_sizes() -> dict[str, Any]:
    """What was measured."""
    sizes: dict[str, Any] = json.loads(read_file(CODE_SIZES))
    return sizes


def plan_flash(plan: FirmwarePlan, board: Board) -> FlashUse | None:
    """What firmware takes in flash; None for a core whose code was not measured."""
    measured = code_sizes()["kernels"].get(board.core, {}).get(str(plan.options.optimization))
    if measured is None:
        return None
    pages = sum(align_up(plan.program.pages[page].size, BUFFER_ALIGNMENT) for page in plan.flash_pages)
    calls = [call for calls in plan.calls for call in calls]
    return FlashUse(
        page_bytes=pages,
        constant_bytes=_constants(plan, calls),
        kernel_bytes=_kernels(measured, calls) + _calls_code(calls) + _choosing_code(plan),
        base_bytes=_base(plan, board),
        sector_bytes=plan.sectors_bytes(board),
    )


def _kernels(measured: dict[str, Any], calls: Iterable[Call]) -> int:
    """Code of the kernels; what several need counts once."""
    sections = {section for call in calls for section in measured["functions"].get(call.kernel.name, ())}
    return sum(int(measured["sizes"][section]) for section in sections)


def _base(plan: FirmwarePlan, board: Board) -> int:
    """Everything but model and kernels; on a board without a port, as on the one that takes the most."""
    bases = code_sizes()["bases"]
    names = [board.name] if board.name in bases else list(bases)
    kind = SECTORS if plan.stored_pages else str(plan.options.protocol)
    return max(int(bases[name][str(plan.options.optimization)][kind]) for name in names)


def _choosing_code(plan: FirmwarePlan) -> int:
    """Code that reads a controller's logits; its tables are among the constants."""
    return 0 if plan.program.choosing is None else _CHOOSE_CODE_BYTES


def _calls_code(calls: Iterable[Call]) -> int:
    total = _START_CODE_BYTES
    for call in calls:
        function = call.kernel
        count = 1 + function.has_filter + len(call.inputs) + len(call.outputs) + function.has_scratch
        total += _CALL_CODE_BYTES + _ARGUMENT_CODE_BYTES * count
    return total


def _constants(plan: FirmwarePlan, calls: Iterable[Call]) -> int:
    """Everything that `model.c` and `model_data.c` define besides the pages."""
    total = 0
    stored: set[tuple[Any, ...]] = set()
    for call in calls:
        total += _struct_bytes(call.params, stored)
        longest: tuple[Any, ...] = ()
        for level in call.filters:
            total += struct_size(type(level.filter))[0]
            longest = max(longest, level.filter.fields, key=len)
            total += _pointed(level.filter, stored, arrays=False)
        total += sum(struct_size(type(item))[0] for item in longest)
    program = plan.program
    total += align_up(len(program.levels), _WORD) + _MODEL_BYTES + _PAGE_BYTES * len(program.pages)
    interface = len(program.subgraph.inputs) + len(program.subgraph.outputs)
    total += _TENSOR_BYTES * interface
    if program.choosing is not None:
        choices = len(program.choosing.activation_bits)
        rows = len(program.choosing.operators)
        total += align_up(rows * choices, _WORD) + align_up(choices, _WORD) + align_up(2 * rows, _WORD)
    for step in program.nested_steps:
        assert step.nested is not None
        own = align_up(len(step.nested.nesting.levels), _WORD)
        total += _OPERATOR_BYTES + 2 * own + align_up(len(program.levels), _WORD)
    if plan.options.protocol is Protocol.SERIAL:
        total += _PROTOCOL_MODEL_BYTES + _PROTOCOL_PAGE_BYTES * len(program.pages)
        total += _PROTOCOL_OPERATOR_BYTES * len(program.nested_steps) + _PROTOCOL_TENSOR_BYTES * interface
    return total


def struct_size(cls: type[Any]) -> tuple[int, int]:
    """Size and alignment of a mirrored struct on a 32-bit core, in bytes."""
    size, alignment = 0, 1
    for member in members(cls):
        if isinstance(member.kind, Pointer) or member.is_array:
            one, own = _WORD, _WORD
        elif isinstance(member.kind, Scalar):
            one = own = ctypes.sizeof(member.kind.ctype)
        else:
            one, own = struct_size(member.kind)
        size = align_up(size, own) + one * (1 if member.count is None else member.count)
        alignment = max(alignment, own)
    return align_up(size, alignment), alignment


def _struct_bytes(value: Any, stored: set[tuple[Any, ...]]) -> int:
    """A struct and everything that it points to and that lies in no page."""
    return struct_size(type(value))[0] + _pointed(value, stored)


def _pointed(value: Any, stored: set[tuple[Any, ...]], arrays: bool = True) -> int:
    total = 0
    for member in members(type(value)):
        item = getattr(value, member.name)
        if isinstance(member.kind, Pointer):
            if isinstance(item, Computed):
                key = (item.purpose, item.values.tobytes())
                total += 0 if key in stored else align_up(item.values.nbytes, _WORD)
                stored.add(key)
        elif member.is_array:
            total += sum(_struct_bytes(part, stored) for part in item) if arrays else 0
        elif not isinstance(member.kind, Scalar):
            total += _pointed(item, stored, arrays)
    return total
