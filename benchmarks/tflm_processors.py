"""Prints what nested models give in TensorFlow Lite Micro on emulated processors: outputs, arena, stack, instructions.

Run it from the project's root, with TFLM_ROOT set to a source tree of TFLM (docs/tflm.md): `python -m
benchmarks.tflm_processors [PROCESSOR:KERNELS ...]`, for example `m55:cmsis_nn m0:reference`; without arguments it takes
all of the tests. It compiles TFLM for each of them, minutes at the first time, and runs the public int8 models in
../shared/models through levels and pages.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from firmware_sim.counting import Counter
from firmware_sim.emulator import run as run_firmware
from tests.shared import int8_paths
from tests.tflnest.tflm import tree
from tests.tflnest.tflm.board import PROCESSORS, VARIANTS, Printed, board_tree, link, objects_for
from tests.tflnest.tflm.subjects import CONVERSIONS, LEVELS, subject

KERNELS = ("reference", "cmsis_nn")
TIMEOUT_S = 900
COLUMNS = (
    "processor",
    "kernels",
    "model",
    "conversion",
    "invokes",
    "outputs",
    "that differ",
    "arena, int8",
    "arena",
)


def print_processor(processor: str, kernels: str, names: Iterable[str], folder: Path) -> None:
    """The rows of one processor with one kind of kernels."""
    built = board_tree(tree.root(), kernels == "cmsis_nn", processor)
    files = [*objects_for(built, folder), built.library(folder)]
    for name in names:
        for way in CONVERSIONS:
            own = folder / f"{name}_{way}"
            own.mkdir()
            row = (processor, kernels, name, way, *_numbers(processor, name, way, files, own))
            print(
                "| " + " | ".join(f"{it:,}" if isinstance(it, int) else it for it in row) + " |", flush=True
            )


def _numbers(processor: str, name: str, way: str, files: Sequence[Path], folder: Path) -> tuple[int, ...]:
    """Invokes, outputs, those that differ, arenas, stack, and instructions of the int8 model and at each level."""
    script, expected = subject(name, way)
    image = link([*files[:-1], script.source(folder), files[-1]], folder / "firmware.elf", processor)
    finished = run_firmware(PROCESSORS[processor].board, image, counter=Counter(), timeout_s=TIMEOUT_S)
    printed = Printed.parse(finished.output.decode())
    assert (finished.status, printed.statuses) == (0, script.statuses), finished.output[-500:]
    pairs = list(zip(printed.outputs, expected, strict=True))
    wrong = sum(one != other for mine, right in pairs for one, other in zip(mine, right, strict=True))
    counts = [region.instructions for region in finished.regions]
    by_level = dict(zip(reversed(script.runs), reversed(counts[1:]), strict=True))
    numbers = printed.numbers
    sizes = (numbers["stock"], numbers["nested"], numbers["stack"])
    return (
        len(script.runs),
        sum(map(len, expected)),
        wrong,
        *sizes,
        counts[0],
        *map(by_level.__getitem__, LEVELS),
    )


def main(variants: Sequence[tuple[str, str]]) -> None:
    """Print the table."""
    instructions = ("instructions, int8", *(f"at {level} bits" for level in LEVELS))
    print("| " + " | ".join((*COLUMNS, "stack", *instructions)) + " |")
    print("|---" * (len(COLUMNS) + 1 + len(instructions)) + "|")
    names = [path.stem for path in int8_paths()]
    with tempfile.TemporaryDirectory(prefix="tflnest-") as folder:
        for processor, kernels in variants:
            place = Path(folder, f"{processor}_{kernels}")
            place.mkdir()
            print_processor(processor, kernels, names, place)


if __name__ == "__main__":
    chosen = [(name, KERNELS[has_cmsis]) for name, has_cmsis in VARIANTS]
    for argument in sys.argv[1:]:
        if argument.partition(":")[0] not in PROCESSORS or argument.partition(":")[2] not in KERNELS:
            sys.exit(f"{argument}: give {' or '.join(PROCESSORS)}, a colon, and {' or '.join(KERNELS)}")
    main([(name, kind) for name, _, kind in (it.partition(":") for it in sys.argv[1:])] or chosen)
