"""The serial bridge: what share of a line carries pages, and what damage and small boards cost.

    python -m benchmarks.bridge                       # everything, emulated boards included
    python -m benchmarks.bridge --boards microbit     # emulated boards that are pushed to
    python -m benchmarks.bridge --quick               # what takes no emulator and no paced line

Every row has the figure, and what it must reach. The model is ResNet8 where the public models lie in ../shared/models,
a small network otherwise; boards with little memory get a small one. Rows of emulated boards and of code size need
QEMU and arm-none-eabi-gcc (`make toolchain`).

Throughput is compared with the same line in the same run: as many bytes that are no frame, which the board's port
takes and its protocol throws away. Behind the rows stands what is told for information.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firmware_sim.board import Board
from firmware_sim.counting import Counter
from firmware_sim.emulator import Emulator, find_firmware
from firmware_sim.firmware.generation import generate_firmware
from firmware_sim.firmware.plan import Options
from firmware_sim.pager import Placement
from firmware_sim.storage import measure_storage
from firmware_sim.virtual_board import LineFaults, VirtualBoard, VirtualPort, loopback
from tests.models import NetworkBuilder, nested, network
from tests.shared import ROOT, SHARED
from tflnest.bridge.frames import DELIMITER
from tflnest.bridge.push import PushKind
from tflnest.bridge.remote import RemoteBoard, connect
from tflnest.bridge.transport import FaultyTransport
from tflnest.errors import ExitCode
from tflnest.model import Model

RESNET8 = SHARED / "models" / "pretrainedResnet_quant.tflite"
BAUD = 115_200
#: Bytes of pages that are sent at least for a measurement of throughput.
LEAST_BYTES = 40_000
DAMAGED_SHARE = 0.01
#: What a paced line must carry with frames of so many bytes; frames of 256 can reach 92.7 % at most.
SHARES = {256: 0.90, 512: 0.95, 1024: 0.95, 2048: 0.95}
SEEDS = range(5)
RUNTIME = ROOT / "tflnest" / "runtime"
#: The emulated boards that are pushed to unless others are named.
EMULATED = ("mps2-an386", "microbit")
#: Boards with less SRAM are given a small model.
LARGE_SRAM_BYTES = 256 << 10


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        title: What was measured.
        value: The figure.
        required: What it must reach.
        met: Whether it does.
    """

    title: str
    value: str
    required: str
    met: bool


def subject() -> Model:
    """The model: levels 4, 6 and 8, every filter nested."""
    return nested(Model.load(RESNET8) if RESNET8.is_file() else network())


def small_subject() -> Model:
    """A model for boards with 16 KiB of SRAM: small activations, pages of some kilobytes."""
    net = NetworkBuilder(3)
    y = net.convolution(net.start((1, 4, 4, 8)), 16, kernel=1, name="a")
    return nested(net.finish(net.dense(net.flatten(y), 40, name="b")))


def paced_line(model: Model, frame_bytes: int, required: float) -> Row:
    """Share of a line of 115,200 baud that carries pages."""
    virtual = VirtualBoard(model, Board.load("mps2-an386"), frame_bytes=frame_bytes)
    with VirtualPort(virtual, tcp_port=0, baud=BAUD) as port, connect(port.url) as board:
        report = board.push(model)
    share = report.payload_bytes * 10 / BAUD / report.seconds
    return Row(
        f"payload on a line of {BAUD:,} baud, frames of {frame_bytes}",
        f"{share:.1%}",
        f">= {required:.0%}",
        share >= required,
    )


def wire_bytes(model: Model) -> Row:
    """Bytes that the host sends to go from level 6 to 8."""
    _, line = loopback(model, Board.load("mps2-an386"))
    with RemoteBoard(line) as board:
        board.push(model, 6)
        report = board.push(model, 8)
    ratio = report.wire_bytes / report.payload_bytes
    return Row(
        "bytes on the wire from 6 to 8 bits, per byte of the page", f"{ratio:.4f}", "<= 1.03", ratio <= 1.03
    )


def first_level(model: Model) -> Row:
    """Bytes until the first level runs, against those of the int8 model."""
    levels = measure_storage(model).levels
    share = levels[0].page_bytes / levels[-1].separate_bytes
    return Row("base page, per byte of the int8 model's constants", f"{share:.1%}", "<= 55 %", share <= 0.55)


def damaged_line(model: Model) -> Row:
    """Bytes that damage costs."""
    _, clean_line = loopback(model, Board.load("mps2-an386"))
    with RemoteBoard(clean_line) as board:
        clean = board.push(model).wire_bytes
    worst = 0.0
    for seed in SEEDS:
        _, line = loopback(model, Board.load("mps2-an386"))
        outgoing, incoming = (LineFaults(flip=DAMAGED_SHARE, seed=2 * seed + way).apply() for way in (0, 1))
        with RemoteBoard(FaultyTransport(line, outgoing, incoming)) as board:
            worst = max(worst, board.push(model).wire_bytes / clean)
    title = f"bytes with {DAMAGED_SHARE:.0%} of all frames damaged both ways, worst of {len(SEEDS)}"
    return Row(title, f"{worst:.3f}", "<= 1.10", worst <= 1.10)


def raw_bytes_per_second(board: RemoteBoard, count: int) -> float:
    """What the line carries to the board: bytes that are no frame, until it answers what follows them."""
    board.state()
    noise = b"\x55" * count
    start = time.monotonic()
    board.link.transport.write(noise + DELIMITER)
    board.state()
    return count / (time.monotonic() - start)


def push_bytes_per_second(board: RemoteBoard, model: Model) -> float:
    """Bytes of pages per second, over as many pushes as it takes."""
    payload, seconds = 0, 0.0
    while payload < LEAST_BYTES:
        board.page_out()
        report = board.push(model)
        payload, seconds = payload + report.payload_bytes, seconds + report.seconds
    return payload / seconds


@dataclass(frozen=True)
class Throughput:
    """What a line carried, in bytes per second.

    Attributes:
        push: Pages.
        raw: Bytes that are no frame, in the same turn.
    """

    push: float
    raw: float

    @property
    def share(self) -> float:
        """Of the line, as pages."""
        return self.push / self.raw


def throughput(url: str, model: Model) -> Throughput:
    """Pushes and raw bytes over the same line, in turns, the best of three."""
    with connect(url, timeout=60) as board:
        turns = []
        for _ in range(3):
            raw = raw_bytes_per_second(board, LEAST_BYTES)
            turns.append(Throughput(push_bytes_per_second(board, model), raw))
    return max(turns, key=lambda turn: turn.share)


def push_to(board: Board, model: Model) -> Row:
    """Pushes to an emulated board against raw bytes."""
    with emulated(board, model) as machine:
        best = throughput(machine.url, model)
    value = f"{best.share:.1%} ({best.push:,.0f} of {best.raw:,.0f} B/s)"
    return Row(
        f"push to {board.name} in QEMU, per raw byte of the line", value, ">= 80 %", best.share >= 0.80
    )


@contextmanager
def emulated(board: Board, model: Model) -> Iterator[Emulator]:
    """An emulated board with firmware for the model."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "firmware"
        generate_firmware(model, board, Options(pages=Placement.HOST)).write(place)
        subprocess.run(["make", "-C", str(place)], check=True, capture_output=True)
        with Emulator(board, find_firmware(place)) as machine:
            yield machine


def page_in(model: Model) -> Row:
    """Instructions from the last byte of a page until the board is ready to run at its level."""
    board = Board.load("mps2-an386")
    call = "tflnest_protocol_receive(&protocol, bytes, count);"
    assert model.directory is not None
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "firmware"
        generate_firmware(model, board, Options(pages=Placement.HOST)).write(place)
        source = place / "main.c"
        text = source.read_text(encoding="utf-8")
        marked = f"if (count > 0u) {{ port_mark_start(1u); {call} port_mark_stop(1u); }} else {{ {call} }}"
        assert text.count(call) == 1
        source.write_text(text.replace(call, marked), encoding="utf-8")
        subprocess.run(["make", "-C", str(place)], check=True, capture_output=True)
        with (
            Emulator(board, find_firmware(place), counter=Counter()) as machine,
            connect(machine.url, timeout=60) as remote,
        ):
            remote.push(model, model.directory.levels[-2])
            count = 0
            for step in remote.push_steps(model):
                if step.kind is PushKind.DATA:
                    count = len(machine.regions())
            instructions = sum(region.instructions for region in machine.regions()[count:])
    milliseconds = 1000 * instructions / board.clock_hz
    value = f"{instructions:,} ({milliseconds:.1f} ms at {board.clock_hz / 1e6:g} MHz)"
    return Row("instructions from a page's last byte to its level", value, "< 10 ms", milliseconds < 10)


def code_size() -> list[Row]:
    """Flash and RAM of the protocol on a Cortex-M3, optimized for size."""
    compiler, measure = "arm-none-eabi-gcc", "arm-none-eabi-size"
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "state.c"
        probe.write_text(
            '#include "tflnest/tflnest_protocol.h"\ntflnest_protocol s;\ntflnest_protocol_transfer t;\n'
        )
        sources = [RUNTIME / "src" / "tflnest_protocol.c", RUNTIME / "src" / "tflnest_crc32.c", probe]
        flags = ["-mcpu=cortex-m3", "-mthumb", "-Os", "-std=c99", "-c", f"-I{RUNTIME / 'include'}"]
        subprocess.run([compiler, *flags, *map(str, sources)], check=True, cwd=folder)
        objects = [f"{source.stem}.o" for source in sources]
        text = subprocess.run(
            [measure, *objects], check=True, capture_output=True, text=True, cwd=folder
        ).stdout
    rows = [[int(word) for word in line.split()[:3]] for line in text.splitlines()[1:]]
    flash, ram = (sum(row[0] + row[1] for row in rows), sum(row[1] + row[2] for row in rows))
    return [
        Row(
            "flash of protocol and CRC-32 on a Cortex-M3 at -Os", f"{flash:,} B", "<= 6,144 B", flash <= 6144
        ),
        Row("RAM of the protocol besides the frame buffer", f"{ram:,} B", "<= 1,536 B", ram <= 1536),
    ]


def rows(boards: Sequence[str], quick: bool) -> Iterator[Row]:
    """What must reach something, as it is measured.

    Args:
        boards: The emulated boards that are pushed to.
        quick: Leave out paced lines and emulated boards.
    """
    model = subject()
    if not quick:
        yield from (paced_line(model, frame_bytes, share) for frame_bytes, share in SHARES.items())
    yield wire_bytes(model)
    yield first_level(model)
    yield damaged_line(model)
    if shutil.which("arm-none-eabi-gcc") is None:
        return
    yield from code_size()
    if quick or shutil.which("qemu-system-arm") is None:
        return
    for board in map(Board.load, boards):
        is_large = board.sram_bytes >= LARGE_SRAM_BYTES
        yield push_to(board, model if is_large else small_subject())
    yield page_in(model)


def virtual_board(model: Model) -> str:
    """What a push to a virtual board reaches; there is no line that it could be held against."""
    with VirtualPort(VirtualBoard(model, Board.load("mps2-an386"))) as port:
        best = throughput(port.url, model)
    lines = best.push * 10 / BAUD
    return (
        f"push to a virtual board through a pseudo-terminal: {best.push / 1000:,.0f} kB/s, as {lines:,.0f} lines of "
        f"{BAUD:,} baud; bytes that are no frame: {best.raw / 1000:,.0f} kB/s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; returns an `ExitCode`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--boards", default=",".join(EMULATED), help="emulated boards that are pushed to, with commas between"
    )
    parser.add_argument("--quick", action="store_true", help="no paced lines and no emulated boards")
    chosen = parser.parse_args(arguments)
    met = True
    for row in rows(chosen.boards.split(","), chosen.quick):
        print(
            f"{row.title:<72} {row.value:>32}   required {row.required:<10} {'met' if row.met else 'NOT MET'}",
            flush=True,
        )
        met &= row.met
    print(f"\nfor information\n{virtual_board(subject())}", flush=True)
    return ExitCode.OK if met else ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main())
