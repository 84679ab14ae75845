"""Prints the arena of models next to what the `tflite_micro` wheel reports.

Run it from the project's root: `python -m benchmarks.arena [MODEL.tflite ...]`; without arguments it takes the
public int8 models in ../shared/models. The wheel's smallest arena is
found by bisection, each try in a process of its own; where the wheel is not installed, our figures stand alone.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from firmware_sim.arena import plan_arena
from firmware_sim.target import CORTEX_M, X86_64
from tests.shared import int8_paths
from tflnest.model import Model

WHEEL = """
import os, sys
from tflite_micro.python.tflite_micro import runtime
config = runtime.InterpreterConfig.kAllocationRecording
with open(sys.argv[1], "rb") as stream:
    model = stream.read()
try:
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=int(sys.argv[2]), intrepreter_config=config)
except RuntimeError:
    os._exit(3)
interpreter.print_allocations()
"""
SECTION = re.compile(r"Arena allocation (?:head|tail) (\d+) bytes")


def run_wheel(path: Path, arena_bytes: int) -> tuple[int, int] | None:
    """(head, tail) in an arena of that size; None where it is too small."""
    command = [sys.executable, "-c", WHEEL, str(path), str(arena_bytes)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        return None
    head, tail = (int(size) for size in SECTION.findall(result.stderr))
    return head, tail


def smallest_arena(path: Path, high: int) -> int:
    """The smallest arena that the wheel takes, by bisection below one that it takes."""
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if run_wheel(path, middle) else (middle, high)
    return high


def main(paths: Sequence[str | Path]) -> None:
    """Print one row per model."""
    has_wheel = importlib.util.find_spec("tflite_micro") is not None
    if not has_wheel:
        print("tflite_micro is not installed: its columns are left out")
    print(
        "| model | head | tail x86-64 | total | minimum | tail 32-bit | minimum 32-bit | wheel: head, tail, minimum |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for path in map(Path, paths):
        model = Model.load(path)
        host, device = plan_arena(model, X86_64), plan_arena(model, CORTEX_M)
        row = [host.head_bytes, host.tail_bytes, host.total_bytes, host.minimum_bytes]
        row += [device.tail_bytes, device.minimum_bytes]
        wheel = "-"
        if has_wheel:
            measured = run_wheel(path, 4 * host.minimum_bytes)
            if measured is not None:
                minimum = smallest_arena(path, 4 * host.minimum_bytes)
                same = (*measured, minimum) == (host.head_bytes, host.tail_bytes, host.minimum_bytes)
                wheel = (
                    f"{measured[0]:,}, {measured[1]:,}, {minimum:,} {'(equal)' if same else '(DIFFERENT)'}"
                )
        print(f"| {path.stem} | " + " | ".join(f"{number:,}" for number in row) + f" | {wheel} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or int8_paths())
