"""Firmware without a protocol runs the model on input of its own and reports: run it in QEMU, and read that.

The input is the same everywhere, so that its outputs can be compared with those of any other engine: bytes of a
linear congruential generator, the highest byte of each 32-bit state.
"""

from __future__ import annotations

import re
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firmware_sim.board import Board
from firmware_sim.counting import Counter, Region
from firmware_sim.emulator import Emulator
from firmware_sim.image import Image
from tflnest.errors import DeviceError
from tflnest.interpreter import Interpreter
from tflnest.model import Model

#: Of the input that firmware has of its own.
SEED = 0x12345678
_FACTOR = 1664525
_INCREMENT = 1013904223
_STATES = 1 << 32

#: The region that encloses a whole inference; operators have their own index.
INFERENCE_REGION = 1023

_POLL_S = 0.1
_LINE = re.compile(r"level (\d+) status (-?\d+)(?: crc ([0-9a-f]{8}))?(?: widths((?: \d+:\d+)+))?")


@dataclass(frozen=True)
class Run:
    """One inference.

    Attributes:
        level: Bits.
        status: 0, or why it could not run (`tflnest_status`).
        crc32: Of all outputs, one after another; None where it did not run.
        widths: What a controller chose: position of the own level and bits of the activation of every operator that
            it controls.
    """

    level: int
    status: int
    crc32: int | None
    widths: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Report:
    """What a firmware said.

    Attributes:
        identity: Of its model, in hexadecimal.
        start_status: 0, or why the model could not be started.
        runs: Levels upwards, then downwards again.
        stack_bytes: The most that was in use.
        regions: Instruction counts, where they were asked for.
    """

    identity: str
    start_status: int
    runs: tuple[Run, ...]
    stack_bytes: int
    regions: tuple[Region, ...] = ()


def parse_report(text: str, regions: tuple[Region, ...] = ()) -> Report:
    """Read what a firmware wrote to its serial port.

    Raises:
        DeviceError: It is not complete, or no report.
    """
    identity, stack, start, runs = "", None, 0, []
    lines = text.splitlines()
    for line in lines:
        match = _LINE.fullmatch(line)
        word, _, rest = line.partition(" ")
        if match is not None:
            crc = int(match[3], 16) if match[3] else None
            pairs = tuple(tuple(map(int, pair.split(":"))) for pair in (match[4] or "").split())
            runs.append(Run(int(match[1]), int(match[2]), crc, tuple((own, bits) for own, bits in pairs)))
        elif word == "model":
            identity = rest
        elif word == "start":
            start = int(rest.removeprefix("status "))
        elif word == "stack":
            stack = int(rest)
    if not lines or lines[-1] != "end" or stack is None:
        raise DeviceError(f"the firmware sent no complete report, but {text[-200:]!r}")
    return Report(identity, start, tuple(runs), stack, regions)


def run_selftest(
    board: Board, elf: str | Path | Image, *, counter: Counter | None = None, timeout_s: float = 120.0
) -> Report:
    """Run a firmware on an emulated board until it has reported.

    Args:
        board: The board.
        elf: Firmware without a protocol.
        counter: Counts marked regions.
        timeout_s: Seconds that it may take.

    Raises:
        DeviceError: QEMU is not installed, the board died or had a fault, or nothing comes in time.
    """
    received = b""
    deadline = time.monotonic() + timeout_s
    with Emulator(board, elf, counter=counter) as machine:
        while not received.endswith(b"\nend\n"):
            received += machine.read_some(timeout_s=_POLL_S)
            fault = None if received else machine.take_fault()
            if fault is not None:
                raise DeviceError(f"the firmware had a fault: {fault.describe(board, machine.image)}")
            machine.check()
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"the firmware did not end within {timeout_s:g} s", f"it sent {received[-200:]!r}"
                )
        return parse_report(received.decode("ascii", "replace"), tuple(machine.regions()))


def input_bytes(count: int, seed: int = SEED) -> NDArray[np.uint8]:
    """The bytes that inputs are filled with, one input after another."""
    values = np.empty(count, np.uint8)
    state = seed
    for position in range(count):
        state = (state * _FACTOR + _INCREMENT) % _STATES
        values[position] = state >> 24
    return values


def expected_crc32(
    model: Model,
    level: int | None = None,
    engine: str = "reference",
    policy: str | None = None,
    seed: int = SEED,
) -> int:
    """The CRC-32 of the outputs that a level must give.

    Args:
        model: The model.
        level: Bits; None for the highest.
        engine: Of `tflnest.Interpreter`.
        policy: Of `tflnest.Interpreter`; None for that of generated firmware: "dynamic" where the model has a controller.
        seed: Of the input.
    """
    if policy is None:
        policy = "static" if model.controller is None else "dynamic"
    interpreter = Interpreter(model=model, level=level, engine=engine, policy=policy)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    sizes = [
        int(np.prod(item["shape"], dtype=np.int64)) * np.dtype(item["dtype"]).itemsize for item in details
    ]
    content = input_bytes(sum(sizes), seed)
    start = 0
    for item, size in zip(details, sizes, strict=True):
        value = content[start : start + size].view(item["dtype"]).reshape(item["shape"])
        interpreter.set_tensor(item["index"], value)
        start += size
    interpreter.invoke()
    crc = 0
    for item in interpreter.get_output_details():
        crc = zlib.crc32(np.ascontiguousarray(interpreter.get_tensor(item["index"])).tobytes(), crc)
    return crc
