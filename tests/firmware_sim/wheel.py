"""The arena as the `tflite_micro` wheel reports it, from a process of its own: the wheel aborts on bad models."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_RUN = """
import sys
from tflite_micro.python.tflite_micro import runtime
config = runtime.InterpreterConfig.kAllocationRecording
size = int(sys.argv[1])
for path in sys.argv[2:]:
    with open(path, "rb") as stream:
        model = stream.read()
    try:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=size, intrepreter_config=config)
    except RuntimeError:
        sys.exit(3)
    interpreter.print_allocations()
"""

_SECTION = re.compile(r"Arena allocation (head|tail) (\d+) bytes")


def _run(arena_bytes: int, paths) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _RUN, str(arena_bytes), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def measure(paths: list[Path], arena_bytes: int = 8_000_000) -> list[tuple[int, int]]:
    """(head, tail) of every model."""
    result = _run(arena_bytes, paths)
    assert result.returncode == 0, result.stderr[-2000:]
    numbers = [int(size) for _, size in _SECTION.findall(result.stderr)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def fits(path: Path, arena_bytes: int) -> bool:
    """Whether the model can be prepared in an arena of that size."""
    return _run(arena_bytes, [path]).returncode == 0
