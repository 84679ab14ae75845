"""Calls of the kernels without weights on an emulated board: outputs and instructions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_sim.board import Board
from firmware_sim.counting import Counter
from firmware_sim.emulator import run
from firmware_sim.image import Image
from firmware_sim.toolchain import Toolchain
from tests.runtime.operator_library import GUARD_VALUE, WARNINGS, Row, kernels
from tests.runtime.weight_board import Blob
from tflnest.device import bind
from tflnest.device.sources import INCLUDE, SOURCE, needed_files
from tflnest.device.structures import Computed, Constant
from tflnest.kernels import Node, prepare
from tflnest.native.library import dispatch

FIRMWARE = Path(__file__).parent / "firmware" / "operator_cases.c"

#: Where the cases lie, counted from the start of the flash.
CASES_OFFSET = 0x30000

#: Most bytes of the board's output buffer; it takes at most half of the SRAM.
OUTPUT_BYTES = 3 << 15


@dataclass(frozen=True)
class Case:
    """An operator and values for its inputs."""

    node: Node
    row: Row


@dataclass(frozen=True)
class Measurement:
    """What a board says of one case.

    Attributes:
        wrong: Bytes of the outputs, and beside them, that differ from the reference.
        instructions: Of all calls; 0 where none were counted.
    """

    wrong: int
    instructions: int


def output_bytes(board: str) -> int:
    """What the board's output buffer holds."""
    return min(OUTPUT_BYTES, Board.load(board).sram_bytes // 2)


def build(board: str, folder: Path, optimization: str = "-O2", flags: Sequence[str] = ()) -> Image:
    """Link the firmware that runs cases."""
    profile = Board.load(board)
    names = [kernel.name for kernel in kernels()]
    table = folder / "kernels.c"
    listed = ", ".join(f"call_{name}" for name in names)
    table.write_text(
        f"{dispatch(kernels())}\nvoid (*const operator_kernels[])(void *const *) = {{{listed}}};\n"
    )
    sources = [path for path in needed_files(kernel.header for kernel in kernels()) if path.suffix == ".c"]
    definitions = (
        f"-DCASES_ADDRESS=0x{profile.flash_base + CASES_OFFSET:x}u",
        f"-DOUTPUT_BYTES={output_bytes(board)}u",
    )
    return Toolchain.find().link(
        profile,
        [FIRMWARE, table, *sources],
        folder / f"{board}.elf",
        include=[INCLUDE, SOURCE],
        optimization=optimization,
        flags=[*WARNINGS, *definitions, *flags],
    )


def _expected(case: Case, size: int, offsets: Sequence[int]) -> bytes:
    """The output buffer after all calls of an operator: guards around the outputs."""
    buffer = bytearray([GUARD_VALUE]) * size
    for offset, values in zip(offsets, prepare(case.node).evaluate(case.row), strict=True):
        content = np.ascontiguousarray(values).tobytes()
        buffer[offset : offset + len(content)] = content
    return bytes(buffer)


def _offsets(case: Case) -> list[int]:
    """Where each output lies in the buffer: 16 bytes apart at least, aligned to 16."""
    offsets, at = [], 16
    for tensor in case.node.outputs:
        offsets.append(at)
        at += -(-tensor.bytes // 16) * 16 + 16
    return [*offsets, at]


def _with_values(params: Any, case: Case) -> Any:
    """Parameters with the values of the file's constants in place."""

    def values(constant: Constant) -> NDArray[Any]:
        tensor = next(item for item in case.node.inputs if item is not None and item.index == constant.tensor)
        assert tensor.data is not None
        return tensor.data.reshape(-1)

    changed = {
        name: Computed(values(item), "constant")
        for name, item in vars(params).items()
        if isinstance(item, Constant)
    }
    return type(params)(**{**vars(params), **changed})


def _blob(base: int, cases: Sequence[Case]) -> tuple[bytes, list[int]]:
    """What lies in the board's memory, and the number of calls of each case."""
    listed = [bind(case.node) for case in cases]
    blob = Blob(base)
    head = 4 + 28 * sum(map(len, listed))
    blob.place(bytes(head))
    rows = [struct.pack("<I", sum(map(len, listed)))]
    indices = {kernel.name: number for number, kernel in enumerate(kernels())}
    for case, calls in zip(cases, listed, strict=True):
        *offsets, size = _offsets(case)
        places = {tensor.index: offset for tensor, offset in zip(case.node.outputs, offsets, strict=True)}
        inputs = {
            tensor.index: blob.array(np.asarray(values))
            for tensor, values in zip(case.node.inputs, case.row, strict=True)
            if tensor is not None and values is not None
        }
        for call in calls:
            params = blob.place(blob.structure(_with_values(call.params, case)))
            sources = [inputs[argument.tensor] for argument in call.inputs]
            second = sources[1] if len(sources) > 1 else 0
            expected = blob.place(_expected(case, size, offsets)) if call is calls[-1] else 0
            place = places[call.outputs[0].tensor]
            words = (indices[call.function.name], params, sources[0], second, place, expected, size)
            rows.append(struct.pack("<7I", *words))
    blob.content[:head] = b"".join(rows)
    return bytes(blob.content), [len(calls) for calls in listed]


def batches(board: str, cases: Sequence[Case]) -> list[list[Case]]:
    """Cases in groups that fit the board's flash; those with outputs that do not fit its SRAM are left out."""
    profile = Board.load(board)
    groups: list[list[Case]] = [[]]
    room = free = profile.flash_bytes - CASES_OFFSET
    for case in cases:
        if _offsets(case)[-1] <= output_bytes(board):
            size = len(_blob(0, [case])[0]) + 64
            if size > free:
                groups.append([])
                free = room
            groups[-1].append(case)
            free -= size
    return groups


def measure(
    board: str, image: Image, cases: Sequence[Case], folder: Path, *, count: bool = False
) -> list[Measurement]:
    """Run cases on an emulated board.

    Args:
        board: Name of its profile.
        image: What `build` made.
        cases: They must fit the board's flash together.
        folder: For the cases' file.
        count: Count instructions.
    """
    profile = Board.load(board)
    base = profile.flash_base + CASES_OFFSET
    assert max(_offsets(case)[-1] for case in cases) <= output_bytes(board)
    content, calls = _blob(base, cases)
    assert image.flash_bytes <= CASES_OFFSET and len(content) <= profile.flash_bytes - CASES_OFFSET
    path = folder / f"{board}.cases"
    path.write_bytes(content)
    counter = Counter() if count else None
    done = run(profile, image.path, counter=counter, blobs={base: path}, timeout_s=300.0)
    wrong = [int(line) for line in done.output.decode("ascii").splitlines()]
    regions = [region.instructions for region in done.regions] if count else [0] * sum(calls)
    assert len(wrong) == len(cases) and len(regions) == sum(calls)
    taken = iter(regions)
    return [
        Measurement(bad, sum(next(taken) for _ in range(number)))
        for bad, number in zip(wrong, calls, strict=True)
    ]
