"""Faults of a Cortex-M: what a board recorded, in words.

The bits are those of the Armv7-M and Armv8-M Architecture Reference Manuals.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from firmware_sim.board import Board
from firmware_sim.image import Image
from tflnest.errors import FormatError

#: The variable of `port_startup.c` that holds the last fault.
RECORD_SYMBOL = "port_saved"

#: Fields of `port_fault` in `port.h`, each 32 bits.
FIELDS = ("exception", "cfsr", "hfsr", "address", "pc", "lr", "sp")
#: `port_saved` begins with two words that say whether it is valid, and the number of faults.
_RECORD = struct.Struct(f"<3I{len(FIELDS)}I")
_MAGIC_COMPLEMENT = 0xFFFF_FFFF ^ 0x544C_5546

EXCEPTIONS = {
    2: "NMI",
    3: "HardFault",
    4: "MemManage fault",
    5: "BusFault",
    6: "UsageFault",
    7: "SecureFault",
}

#: Bits of the configurable fault status register, and what they say.
CFSR_BITS = {
    0: "instruction fetch from a forbidden address",
    1: "data access to a forbidden address",
    3: "exception return from a forbidden stack",
    4: "no access to the stack for an exception",
    5: "no access to the stack for floating point registers",
    8: "instruction fetch failed",
    9: "data access failed",
    10: "an earlier data access failed",
    11: "exception return from a stack that fails",
    12: "the stack failed for an exception",
    13: "the stack failed for floating point registers",
    16: "undefined instruction",
    17: "not in Thumb state",
    18: "invalid exception return",
    19: "the coprocessor or floating point unit is off",
    20: "stack overflow",
    24: "unaligned access",
    25: "division by zero",
}
_STACKING_BITS = (4, 5, 12, 13, 20)
_HARD_FAULT = 3
_VECTOR_TABLE_BIT = 1
_FORCED_BIT = 30


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        exception: Number of the exception, 3 for HardFault.
        cfsr: Configurable fault status register; 0 on Armv6-M.
        hfsr: HardFault status register; 0 on Armv6-M.
        address: Data address that faulted; 0 where the processor does not know it.
        pc: Where it happened; 0 where that could not be stored.
        lr: Where the function would have returned to; 0 likewise.
        sp: Stack pointer.
    """

    exception: int
    cfsr: int
    hfsr: int
    address: int
    pc: int
    lr: int
    sp: int

    @classmethod
    def from_record(cls, record: bytes) -> tuple[int, Fault | None]:
        """Read what a port keeps: the number of faults since power-up, and the last one.

        Raises:
            FormatError: The record is too short.
        """
        if len(record) < _RECORD.size:
            raise FormatError(f"a fault record has {_RECORD.size} bytes, got {len(record)}")
        _, complement, count, *values = _RECORD.unpack_from(record)
        if complement != _MAGIC_COMPLEMENT:
            return 0, None
        return count, cls(*values)

    @property
    def name(self) -> str:
        """The exception's name."""
        return EXCEPTIONS.get(self.exception, f"exception {self.exception}")

    @property
    def causes(self) -> list[str]:
        """What the status registers say."""
        causes = [text for bit, text in CFSR_BITS.items() if self.cfsr >> bit & 1]
        if self.hfsr >> _VECTOR_TABLE_BIT & 1:
            causes.append("vector table cannot be read")
        return causes

    def is_stack_overflow(self, board: Board) -> bool:
        """Whether the stack, which lies at the bottom of SRAM, has left it."""
        return self.sp < board.sram_base or any(self.cfsr >> bit & 1 for bit in _STACKING_BITS)

    def describe(self, board: Board, image: Image | None = None) -> str:
        """One line for people: what, which address, where in the source."""
        causes = self.causes
        if self.is_stack_overflow(board):
            causes = ["stack overflow"]
        if self.exception == _HARD_FAULT and self.hfsr >> _FORCED_BIT & 1:
            causes.append("while faults were off")
        text = self.name + (f": {', '.join(causes)}" if causes else "")
        if self.address:
            text += f", at address 0x{self.address:08x}{_beyond(self.address, board)}"
        if self.pc:
            line = image.locate(self.pc) if image else None
            text += f", in {line}" if line else f", pc 0x{self.pc:08x}"
        return text


def _beyond(address: int, board: Board) -> str:
    end = board.sram_base + board.sram_bytes
    if end <= address < end + board.sram_bytes:
        return f" (the SRAM ends at 0x{end:08x})"
    if board.sram_base - board.sram_bytes <= address < board.sram_base:
        return f" (the SRAM begins at 0x{board.sram_base:08x})"
    return ""
