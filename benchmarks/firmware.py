"""Generated firmware on emulated boards: the same bits at every level, planned against linked sizes, instructions.

    python -m benchmarks.firmware                                   # public models, nested 4,6,8 and plain, all boards
    python -m benchmarks.firmware --models kws,ad01 --boards mps2-an386 --kinds nested

Every firmware runs its model at every level upwards and downwards on input of its own; the CRC-32 of the outputs
must be that of the reference interpreter. A combination that does not fit says so. The peer's figures are in
tflm_instructions.json and tflm_sizes.json. Instructions are not cycles.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from converters.conversion import convert
from firmware_sim.board import Board
from firmware_sim.counting import Counter
from firmware_sim.firmware.generation import Firmware, generate_firmware
from firmware_sim.firmware.plan import Optimization, Options, Protocol
from firmware_sim.firmware.selftest import INFERENCE_REGION, Report, expected_crc32, run_selftest
from firmware_sim.firmware.size import Linked, build, linked_sizes
from tests.firmware_sim.monitor import EMULATED
from tests.shared import SHARED
from tflnest.errors import DoesNotFitError, ExitCode
from tflnest.model import Model

FILES = {
    "hello_world": "hello_world_int8",
    "micro_speech": "micro_speech_quantized",
    "kws": "kws_ref_model",
    "ad01": "ad01_int8",
    "resnet8": "pretrainedResnet_quant",
    "vww": "vww_96_int8",
    "person_detect": "person_detect",
}
LEVELS = (4, 6, 8)
FULL = 8
#: Which of the peer's instruction counts stands beside ours; there are none for Cortex-M0.
PEER_COLUMN = {
    "cortex-m3": "cortex_m3",
    "cortex-m4": "cortex_m4",
    "cortex-m7": "cortex_m7",
    "cortex-m55": "cortex_m55_clang",
}

HEADER = (
    f"{'model':14} {'kind':7} {'board':17} {'level':>5} {'exact':>6} {'instructions':>13} {'TFLM':>11} {'ratio':>6}"
    f" {'arena':>7} {'head':>7} {'TFLM':>7} {'SRAM':>8} {'linked':>8} {'flash':>8} {'linked':>8} {'code':>7}"
    f" {'TFLM':>7} {'stack':>6}"
)


@dataclass(frozen=True)
class Row:
    """One firmware.

    Attributes:
        name: Of the model.
        kind: "nested" or "plain".
        firmware: What was generated.
        linked: What it takes.
        report: What it said.
        expected: CRC-32 by level.
    """

    name: str
    kind: str
    firmware: Firmware
    linked: Linked
    report: Report
    expected: dict[int, int]

    @property
    def is_exact(self) -> bool:
        """Whether every run gave the bits of the reference interpreter."""
        runs = [run for run in self.report.runs if run.status == 0 and run.crc32 == self.expected[run.level]]
        return len(runs) == len(self.report.runs) == 2 * len(self.expected) - 1

    def instructions(self, level: int) -> int:
        """Instructions of one inference."""
        counts = [region.instructions for region in self.report.regions if region.id == INFERENCE_REGION]
        return next(count for run, count in zip(self.report.runs, counts, strict=True) if run.level == level)


@cache
def peer(name: str) -> dict[str, Any]:
    """A file with the peer's figures."""
    table: dict[str, Any] = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))["models"]
    return table


def models(name: str, kinds: Sequence[str], recipe: str) -> Iterator[tuple[str, Model]]:
    """A public model, nested and as it is."""
    path = SHARED / "models" / f"{FILES[name]}.tflite"
    if not path.is_file():
        print(f"{name:14} left out: {path} is not there", flush=True)
        return
    if "plain" in kinds:
        yield "plain", Model.load(path)
    if "nested" in kinds:
        yield "nested", convert(path, recipe=recipe, levels=LEVELS).model


def measure(
    name: str, kind: str, model: Model, board: Board, expected: dict[int, int], options: Options, folder: Path
) -> Row:
    """Generate, build and run one firmware.

    Raises:
        DoesNotFitError: The board is too small.
    """
    firmware = generate_firmware(model, board, options, title=name)
    firmware.write(folder / "firmware", force=True)
    image = build(folder / "firmware", board)
    report = run_selftest(board, image, counter=Counter(), timeout_s=600)
    return Row(name, kind, firmware, linked_sizes(image, board), report, expected)


def show(row: Row) -> None:
    """Print a line per level; sizes are the same for all."""
    firmware, linked = row.firmware, row.linked
    counts, sizes = (
        peer("tflm_instructions.json").get(row.name, {}),
        peer("tflm_sizes.json").get(row.name, {}),
    )
    theirs = counts.get(PEER_COLUMN.get(firmware.board.core, ""))
    assert firmware.sram is not None and firmware.flash is not None
    model_bytes = firmware.flash.page_bytes + firmware.flash.constant_bytes
    for level in row.expected:
        instructions = row.instructions(level)
        ratio = f"{instructions / theirs:.2f}" if theirs else ""
        print(
            f"{row.name:14} {row.kind:7} {firmware.board.name:17} {level:5} {'yes' if row.is_exact else 'NO':>6} "
            f"{instructions:13,} {_or_dash(theirs):>11} {ratio:>6} {linked.arena_bytes:7,} "
            f"{firmware.plan.arena.activation_bytes:7,} {_or_dash(sizes.get('arena')):>7} "
            f"{firmware.sram.total_bytes:8,} {linked.sram_bytes:8,} "
            f"{firmware.flash.total_bytes:8,} {linked.flash_bytes:8,} {linked.flash_bytes - model_bytes:7,} "
            f"{_or_dash(sizes.get('code')):>7} {row.report.stack_bytes:6,}",
            flush=True,
        )


def _or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns an `ExitCode`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(FILES), help="names, with commas between")
    parser.add_argument("--boards", default=",".join(EMULATED), help="names, with commas between")
    parser.add_argument("--kinds", default="plain,nested")
    parser.add_argument(
        "--recipe", default="uniform", help="how models are nested; uniform: the chain 4,6,8 in every filter"
    )
    parser.add_argument("--optimize", choices=[str(item) for item in Optimization], default="speed")
    parser.add_argument("--smallest", action="store_true")
    chosen = parser.parse_args(arguments)
    options = Options(
        protocol=Protocol.NONE, optimization=Optimization(chosen.optimize), smallest=chosen.smallest
    )
    failed = False
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="tflnest-") as name:
        folder = Path(name)
        for model_name in chosen.models.split(","):
            for kind, model in models(model_name, chosen.kinds.split(","), chosen.recipe):
                levels = LEVELS if kind == "nested" else (FULL,)
                expected = {level: expected_crc32(model, level) for level in levels}
                known = int(peer("tflm_sizes.json")[model_name]["crc32"], 16)
                failed |= expected[FULL] != known
                for board in map(Board.load, chosen.boards.split(",")):
                    try:
                        row = measure(model_name, kind, model, board, expected, options, folder)
                    except DoesNotFitError as error:
                        print(f"{model_name:14} {kind:7} {board.name:17} {error.message}", flush=True)
                        continue
                    show(row)
                    failed |= not row.is_exact or row.linked.sram_bytes != row.firmware.sram.total_bytes
    return ExitCode.VERIFICATION if failed else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
