"""The SRAM of generated firmware, object by object, to the byte, before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from firmware_sim.allocator import ARENA_ALIGNMENT
from firmware_sim.board import Board, Port
from firmware_sim.firmware.arena import plan_firmware_arena
from firmware_sim.firmware.plan import FirmwarePlan, Protocol
from firmware_sim.target import CORTEX_M, align_up

#: Alignment of variables, and of the end of everything.
_WORD = 4
_END = 8

#: Buffer for one frame of the protocol, on boards with less SRAM than `_SMALL_SRAM_BYTES` and on others.
_SMALL_FRAME_BYTES = 256
_FRAME_BYTES = 1024
_SMALL_SRAM_BYTES = 32 * 1024

#: What a port keeps through a reset: `port_saved` of port_startup.c.
_SAVED_BYTES = CORTEX_M.sizeof("3i(7i)")
#: Counters of the receive buffer, and ticks of the clock.
_PORT_COUNTERS_BYTES = 4 * _WORD
#: Further variables of a driver.
_UART_BYTES = {"nrf51": _WORD}

#: Structures of the runtime, in the notation of `Target`.
PAGER = "Pi6b"
PROTOCOL = "2P(4i)(14i)7i3h6b"
TRANSFER = "4i"


def frame_bytes(board: Board) -> int:
    """Bytes of the protocol's buffer on a board."""
    return _SMALL_FRAME_BYTES if board.sram_bytes < _SMALL_SRAM_BYTES else _FRAME_BYTES


@dataclass(frozen=True)
class Sram:
    """What lies in the SRAM of a firmware, in bytes.

    Attributes:
        stack_bytes: Stacks of `main` and of interrupts.
        arena_bytes: Activations and scratch.
        slot_bytes: Pages that come from the host.
        static_bytes: All other variables, with the gaps between objects.
    """

    stack_bytes: int
    arena_bytes: int
    slot_bytes: int
    static_bytes: int

    @property
    def total_bytes(self) -> int:
        """Everything."""
        return self.stack_bytes + self.arena_bytes + self.slot_bytes + self.static_bytes

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {**asdict(self), "total_bytes": self.total_bytes}


def plan_sram(plan: FirmwarePlan, board: Board) -> Sram:
    """Lay out the SRAM as the linker will.

    Args:
        plan: What runs.
        board: Where; a board without a port counts with the stacks of its profile and nothing for the port.
    """
    port = board.port
    stack = board.stack_bytes if port is None else port.thread_stack_bytes + port.interrupt_stack_bytes
    serial = plan.options.protocol is Protocol.SERIAL
    slots = [align_up(plan.program.pages[page].size, ARENA_ALIGNMENT) for page in plan.slots]
    kept = (0 if port is None else _SAVED_BYTES) + (CORTEX_M.sizeof(TRANSFER) if serial else 0)
    end = stack
    if serial and slots:
        end = align_up(end, ARENA_ALIGNMENT) + _unpadded(plan, slots)
    end = align_up(end, _WORD) + kept
    end = align_up(end, ARENA_ALIGNMENT) + plan.arena.bytes
    if not serial:
        end += sum(slots)
    end += sum(align_up(size, _WORD) for size in _variables(plan, board).values())
    end = align_up(end, _END)
    page_bytes = sum(plan.program.pages[page].size for page in plan.slots)
    return Sram(stack, plan.arena.bytes, page_bytes, end - stack - plan.arena.bytes - page_bytes)


def fit_tiles(plan: FirmwarePlan, board: Board) -> FirmwarePlan:
    """The same, with smaller tiles where a board's SRAM is too small for the usual ones.

    Where no tiles are small enough, the arena is the smallest one.
    """
    short = plan_sram(plan, board).total_bytes - board.sram_bytes
    if short <= 0 or plan.options.smallest:
        return plan
    room = plan.arena.bytes - align_up(short, ARENA_ALIGNMENT)
    return replace(plan, arena=plan_firmware_arena(plan.program, plan.core, room=room))


def _unpadded(plan: FirmwarePlan, slots: list[int]) -> int:
    """Slots one after another; the last one has no gap behind it."""
    return sum(slots[:-1]) + plan.program.pages[plan.slots[-1]].size


def _variables(plan: FirmwarePlan, board: Board) -> Mapping[str, int]:
    """Variables that start at zero, arena and slots apart."""
    sizes = {"model_pager": CORTEX_M.sizeof(PAGER), "positions": len(plan.program.nested_steps)}
    if plan.program.choosing is not None:
        sizes["model_widths"] = 2 * len(plan.program.choosing.operators)
    if board.port is not None:
        sizes |= _port_variables(plan, board.port)
    if plan.options.protocol is Protocol.SERIAL:
        sizes |= {"protocol": CORTEX_M.sizeof(PROTOCOL), "frame": frame_bytes(board)}
    return sizes


def _port_variables(plan: FirmwarePlan, port: Port) -> dict[str, int]:
    return {
        "port_ring": plan.ring_bytes(port),
        "port counters": _PORT_COUNTERS_BYTES,
        "port_uart": _UART_BYTES.get(port.uart, 0),
    }
