"""A board on a serial line, from Python: half of the bytes, a first answer, the rest, the full answer, page-out.

    python examples/serial_board.py                                   # a virtual board of this process
    python examples/serial_board.py --port /dev/ttyACM0               # a board on the desk, or one in QEMU

The firmware for the second one is made from the same file, without any page in it:

    tflnest firmware out/digits.tflite --board mps2-an386 --pages sram --empty -o out/firmware
    make -C out/firmware && tflnest emulate out/firmware              # prints the port
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import digits
import numpy as np

import tflnest
from firmware_sim.board import Board
from firmware_sim.virtual_board import VirtualBoard, VirtualPort
from tflnest.bridge.remote import RemoteBoard

MODEL = Path(__file__).with_name("digits.keras")
BOARD = "stm32g474cb"
SAMPLES = 5


def run(board: RemoteBoard, samples: digits.Samples) -> None:
    """Classify samples on the board, and compare."""
    x, y = samples
    outputs = board.run(x[:SAMPLES])
    classes = np.argmax(outputs, axis=-1).reshape(-1)
    print(f"at level {board.info().state.level}: {classes.tolist()}, labels {y[:SAMPLES].tolist()}")


def main() -> None:
    """Push, run, push, run, page out."""
    parser = argparse.ArgumentParser(description="Stream the digits model to a board, page by page.")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for everything written")
    parser.add_argument("--model", type=Path, default=MODEL, help="the same network in another file")
    parser.add_argument("--port", help="of a board with this model; without it a virtual one is made")
    arguments = parser.parse_args()
    calibration, _ = digits.write_files(arguments.output)
    nested = arguments.output / "digits.tflite"
    tflnest.convert(arguments.model, nested, levels=(4, 6, 8), calibration=calibration, force=True)
    _, test = digits.load_split()
    with contextlib.ExitStack() as stack:
        port = arguments.port
        if port is None:
            virtual = VirtualBoard(tflnest.load(nested), Board.load(BOARD), empty=True)
            port = stack.enter_context(VirtualPort(virtual, tcp_port=0)).url
        board = stack.enter_context(tflnest.connect(port))
        report = board.push(nested, level=4)
        print(f"{report.payload_bytes:,} bytes sent, level 4 runs")
        run(board, test)
        report = board.push(nested)
        print(f"{report.payload_bytes:,} bytes more, level 8 runs")
        run(board, test)
        board.switch(6)
        run(board, test)
        print(f"given up: pages {', '.join(map(str, board.page_out()))}")
        run(board, test)


if __name__ == "__main__":
    main()
