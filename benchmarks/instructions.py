"""Instructions of the kernels with weights on an emulated board, layer by layer, against TFLM with CMSIS-NN.

    python -m benchmarks.instructions                        # Cortex-M4, chain 4,6,8, every layer
    python -m benchmarks.instructions --core m55 --model kws --tile 8

The layers are those of MLPerf Tiny's models, with random weights; every output is compared with the reference
kernel. The peer's figures are in tflm_instructions.json. Instructions are not cycles.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime.weight_board import Measurement, build, measure
from tests.runtime.weight_cases import Case, conv_case, depthwise_case, fully_connected_case
from tflnest.errors import ExitCode
from tflnest.nesting import Nesting

PEER = Path(__file__).parent / "tflm_instructions.json"

BOARDS = {"m3": "mps2-an385", "m4": "mps2-an386", "m7": "mps2-an500", "m55": "mps3-an547"}

#: Which of the peer's figures stands beside ours; of M3 and M7 there are none per layer.
PEER_COLUMN = {"m3": "cortex_m4", "m4": "cortex_m4", "m7": "cortex_m4", "m55": "cortex_m55_clang"}

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
CHAIN = (4, 6, 8)


@dataclass(frozen=True)
class Layer:
    """One layer of the peer's table.

    Attributes:
        row: As it stands there.
    """

    row: dict[str, Any]

    @property
    def name(self) -> str:
        """Model and index."""
        return f"{self.row['model']} {self.row['index']}"

    def case(self, tile: int, nesting: Nesting | None, level: int | None) -> Case:
        """The layer with random numbers; depthwise filters stay flat, as converters leave them."""
        rng = np.random.default_rng(self.row["index"])
        taps = self.row["filter"]
        if self.row["operator"] == "FULLY_CONNECTED":
            outputs, inputs = taps
            return fully_connected_case(
                rng, inputs=inputs, outputs=outputs, tile=tile, nesting=nesting, level=level, style="plain"
            )
        image = (1, *self.row["input"])
        window: dict[str, Any] = {"taps": tuple(taps[1:3]), "stride": (self.row["stride"],) * 2}
        if self.row["operator"] == "DEPTHWISE_CONV_2D":
            return depthwise_case(rng, image=image, tile=tile, style="plain", **window)
        return conv_case(
            rng,
            image=image,
            channels=taps[0],
            tile=tile,
            nesting=nesting,
            level=level,
            style="plain",
            **window,
        )


def layers(model: str | None = None) -> list[Layer]:
    """The layers with weights of all models, or of one."""
    rows = json.loads(PEER.read_text(encoding="utf-8"))["layers"]
    return [Layer(row) for row in rows if row["operator"] in OPERATORS and model in (None, row["model"])]


def run(
    board: str, cases: Sequence[Case], optimization: str = "-O2", flags: Sequence[str] = ()
) -> list[Measurement]:
    """Count the instructions of cases, a board's memory full at a time."""
    with tempfile.TemporaryDirectory() as folder:
        image = build(board, Path(folder), optimization, flags)
        return [
            measurement
            for case in cases
            for measurement in measure(board, image, [case], Path(folder), count=True)
        ]


def _table(core: str, chosen: Sequence[Layer], measured: dict[int | None, list[Measurement]]) -> str:
    levels = list(measured)
    names = ["flat" if level is None else f"level {level}" for level in levels]
    lines = [
        "| layer | operator | MACs | peer | "
        + " | ".join(names)
        + " | "
        + " | ".join(f"ratio {n}" for n in names)
        + " | /MAC | scratch |",
        "|" + "---|" * (6 + 2 * len(levels)),
    ]
    for position, layer in enumerate(chosen):
        row, peer = layer.row, layer.row[PEER_COLUMN[core]]
        results = [measured[level][position] for level in levels]
        wrong = sum(result.wrong for result in results)
        cells = [layer.name, row["operator"], str(row["macs"]), str(peer)]
        cells += [str(result.instructions) for result in results]
        cells += [f"{result.instructions / peer:.3f}" for result in results]
        cells += [f"{results[-1].instructions / row['macs']:.2f}", str(results[-1].scratch_bytes)]
        lines.append("| " + " | ".join(cells) + " |" + (f" {wrong} WRONG" if wrong else ""))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns 4 where an output is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--core", choices=BOARDS, default="m4")
    parser.add_argument("--operator", choices=OPERATORS, help="layers of one kind only")
    parser.add_argument("--model", help="layers of one model only")
    parser.add_argument("--tile", type=int, default=16, help="output channels that are decoded at a time")
    parser.add_argument(
        "--levels", default="8,6,4", help="levels of the chain 4,6,8; 0 for flat int8 weights"
    )
    parser.add_argument("--optimize", default="-O2")
    parser.add_argument("--flag", action="append", default=[], help="further flag of the compiler")
    options = parser.parse_args(arguments)
    chosen = [layer for layer in layers(options.model) if options.operator in (None, layer.row["operator"])]
    measured: dict[int | None, list[Measurement]] = {}
    for level in (int(text) or None for text in options.levels.split(",")):
        nesting = None if level is None else Nesting(CHAIN)
        cases = [layer.case(options.tile, nesting, level) for layer in chosen]
        measured[level] = run(BOARDS[options.core], cases, options.optimize, options.flag)
    print(_table(options.core, chosen, measured))
    wrong = sum(result.wrong for results in measured.values() for result in results)
    return ExitCode.VERIFICATION if wrong else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
