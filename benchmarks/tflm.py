"""Prints what nested models take in TensorFlow Lite Micro beside the int8 models: arena, and instructions.

Run it from the project's root: `python -m benchmarks.tflm [MODEL.tflite ...]`; without arguments it takes the public
int8 models in ../shared/models. It needs the `tflite-micro` wheel and a C and a C++ compiler. Where TFLM_ROOT names a
source tree of TFLM, it also builds firmware with CMSIS-NN for an emulated Cortex-M4 (minutes), with and without
scratch on the stack and beyond what the int8 model takes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from converters.conversion import convert
from firmware_sim.counting import Counter
from firmware_sim.emulator import run as run_firmware
from tests.exactness import random_inputs
from tests.models import everything, nested
from tests.shared import int8_paths
from tests.tflnest.tflm import tree, wheel
from tests.tflnest.tflm.board import PROCESSORS, Printed, board_tree, link, objects_for
from tests.tflnest.tflm.script import Script
from tflnest.interpreter import Interpreter
from tflnest.model import Model

CHAINS = ((4, 8), (4, 6, 8), (2, 4, 6, 8))
#: The board that is measured in detail, and the levels at which it runs in turn.
PROCESSOR = "m4"
LEVELS = (8, 4)
#: Bytes of stack that an operator may take as scratch, and of arena beyond what the int8 model takes.
SCRATCH = ((0, 0), (1280, 0), (1280, 2304))
#: Models that fit the program's arena.
ON_BOARD = (
    "ad01_int8",
    "hello_world_int8",
    "kws_ref_model",
    "micro_speech_quantized",
    "pretrainedResnet_quant",
)


def _total(sizes: tuple[int, int]) -> str:
    return f"{sum(sizes):,} ({sizes[0]:,} + {sizes[1]:,})"


def _everything(path: Path, chain: Sequence[int]) -> bytes:
    """All filters nested, with the biases of the int8 model at all levels."""
    return nested(Model.load(path), everything(chain)).to_bytes()


def _converted(path: Path, chain: Sequence[int]) -> bytes:
    """What `tflnest convert` makes without calibration data: small filters flat, a bias for each level."""
    return convert(path, levels=chain).model.to_bytes()


def print_wheel(paths: Iterable[Path], library: Path, make: Callable[[Path, Sequence[int]], bytes]) -> None:
    """Arena and exactness in the wheel's interpreter."""
    names = " | ".join(", ".join(map(str, chain)) for chain in CHAINS)
    print(f"| model | int8 | {names} | outputs that differ |")
    print("|---|---|" + "---|" * len(CHAINS) + "---|")
    for path in paths:
        stock = path.read_bytes()
        row = [_total(wheel.ask(library, wheel.Job(stock, is_open=False, records=True)).arena)]
        wrong = 0
        for chain in CHAINS:
            content = make(path, chain)
            row.append(_total(wheel.ask(library, wheel.Job(content, records=True)).arena))
            wrong += _count_wrong(library, content, chain)
        print(f"| {path.stem} | " + " | ".join(row) + f" | {wrong} |", flush=True)


def _count_wrong(library: Path, content: bytes, chain: Sequence[int]) -> int:
    levels = (*reversed(chain), *chain)
    samples = [row[0] for row in random_inputs(content, len(levels))]
    pairs = list(zip(levels, samples, strict=True))
    steps = [step for level, sample in pairs for step in [("set_level", level), ("run", sample)]]
    values = wheel.ask(library, wheel.Job(content, steps)).results[1::2]
    reference = [Interpreter(model_content=content, level=level).run(sample) for level, sample in pairs]
    return sum(int((mine != value).sum()) for mine, value in zip(reference, values, strict=True))


def print_board(paths: Sequence[Path], folder: Path) -> None:
    """Arena, stack and instructions per invoke on the emulated board."""
    columns = ("model", "stack scratch", "extra scratch", "arena, int8", "arena", "instructions, int8")
    print("| " + " | ".join((*columns, f"at {LEVELS[0]} bits", f"at {LEVELS[1]} bits", "stack")) + " |")
    print("|---" * 9 + "|")
    built = board_tree(tree.root(), True, PROCESSOR)
    library = built.library(folder / "library")
    for stack, extra in SCRATCH:
        own = folder / f"scratch_{stack}_{extra}"
        flags = (f"-DTFLNEST_TFLM_STACK_SCRATCH={stack}", f"-DTFLNEST_TFLM_EXTRA_SCRATCH={extra}")
        objects = objects_for(built, own, flags)
        for path in paths:
            numbers = (stack, extra, *_on_board(path, [*objects, library], own / path.stem))
            print(f"| {path.stem} | " + " | ".join(f"{number:,}" for number in numbers) + " |", flush=True)


def _on_board(path: Path, files: Sequence[Path], folder: Path) -> tuple[int, ...]:
    """Arenas of the int8 and the nested model, instructions of both and of 4 bits, and stack."""
    folder.mkdir()
    stock = path.read_bytes()
    script = Script(stock, nested(Model.from_bytes(stock), everything()).to_bytes())
    script.switch(LEVELS)
    image = link([*files[:-1], script.source(folder), files[-1]], folder / "firmware.elf", PROCESSOR)
    finished = run_firmware(PROCESSORS[PROCESSOR].board, image, counter=Counter(), timeout_s=300)
    numbers = Printed.parse(finished.output.decode()).numbers
    counts = [region.instructions for region in finished.regions]
    return numbers["stock"], numbers["nested"], *counts[:3], numbers["stack"]


def main(paths: Sequence[str | Path]) -> None:
    """Print the tables."""
    chosen = [Path(path) for path in paths]
    with tempfile.TemporaryDirectory(prefix="tflnest-") as folder:
        library = wheel.build(Path(folder) / "wheel")
        print_wheel(chosen, library, _everything)
        print()
        print_wheel(chosen, library, _converted)
        if os.environ.get("TFLM_ROOT"):
            print()
            print_board([path for path in chosen if path.stem in ON_BOARD], Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:] or int8_paths())
