"""The whole of tflnest in one run: convert a Keras model, evaluate every level, simulate it on a small board.

    python examples/demo.py --output out

It takes the digits model of `train_digits.py`, which as int8 does not fit into the flash of an STM32G474CB. Its
4-bit base page does, and the lower-bit pages come over the serial port into SRAM while the model runs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import digits
from rich.console import Console
from rich.table import Table

import tflnest
from converters.sources import load_source
from firmware_sim.timeline import write_plot, write_trace
from tflnest.evaluation import Evaluation

MODEL = Path(__file__).with_name("digits.keras")
BOARD = "stm32g474cb"
LEVELS = (4, 6, 8)
SCHEDULE = "4@0,8@20,4@40"
RUNS = 60

console = Console(highlight=False, width=100)


def step(text: str, command: str = "") -> None:
    """Announce a step, and the command line that does the same."""
    console.print(f"\n[bold]{text}[/bold]")
    if command:
        console.print(f"$ {command}", style="dim", markup=False, soft_wrap=True)


def percent(share: float | None) -> str:
    """A share as a percentage."""
    return "-" if share is None else f"{100 * share:.1f} %"


def show_accuracy(rows: list[tuple[str, Evaluation, int, int]]) -> None:
    """One line per model: name, top-1, agreement and size."""
    table = Table("model", "top-1", "agreement", "bytes", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, result, position, size in rows:
        row = result.levels[position]
        agreement = percent(row.agreement) if len(result.levels) > 1 else "-"
        table.add_row(name, percent(row.top1), agreement, f"{size:,}")
    console.print(table)


def convert_model(output: Path, calibration: Path) -> tuple[Path, Path, Path]:
    """Write the float, the int8 and the nested model; returns their paths."""
    nested = output / "digits.tflite"
    step(
        f"1. Convert {MODEL.name} to one nested file",
        f"tflnest convert {MODEL.name} -o {nested.name} --levels 4,6,8 --calibration {calibration.name}",
    )
    result = tflnest.convert(MODEL, nested, levels=LEVELS, calibration=calibration, force=True)
    float_path, int8_path = output / "digits_float.tflite", output / "digits_int8.tflite"
    load_source(MODEL).model.save(float_path, force=True)
    result.int8.save(int8_path, force=True)
    for row in result.to_dict()["levels"]:
        console.print(
            f"level {row['level']}: {row['bits_per_weight']:.2f} bits per weight, page {row['page_bytes']:,} bytes, "
            f"resident {row['resident_bytes']:,} bytes"
        )
    return float_path, int8_path, nested


def evaluate_models(float_path: Path, int8_path: Path, nested: Path, data: Path) -> None:
    """Print accuracy and size of the float model, the int8 model and every level."""
    step("2. What accuracy does each level keep?", f"tflnest eval {nested.name} --data {data.name}")
    rows = []
    for name, path in (("float", float_path), ("int8", int8_path)):
        rows.append((f"{name} ({path.name})", tflnest.evaluate(path, data), 0, path.stat().st_size))
    result = tflnest.evaluate(nested, data)
    for position, row in enumerate(result.levels):
        rows.append((f"{nested.name} at level {row.level}", result, position, row.resident_bytes or 0))
    show_accuracy(rows)
    console.print(f"{nested.name} holds all three levels in {nested.stat().st_size:,} bytes")
    step(
        "   Is the full-bit level really the int8 model?",
        f"tflnest compare {nested.name} {int8_path.name} --exact",
    )
    same = tflnest.compare(nested, int8_path, data)
    if not same.bit_exact:
        raise SystemExit(f"{same.different_values} outputs differ")
    console.print(f"bit-exact on {same.samples} samples")


def try_int8(int8_path: Path) -> None:
    """The int8 model must not fit the board."""
    step(f"3. Does the int8 model fit an {BOARD}?", f"tflnest simulate {int8_path.name} --board {BOARD}")
    try:
        tflnest.simulate(int8_path, BOARD)
    except tflnest.TflnestError as error:
        console.print(f"error: {error.message}\nhint: {error.hint}", markup=False)
        return
    raise SystemExit("the int8 model fits, and this demo is about a board that it does not fit")


def run_nested(output: Path, nested: Path, data: Path) -> None:
    """Run the nested model with paging, and leave the pictures."""
    step(
        "4. Run the nested model, and page the lower bits in and out",
        f'tflnest simulate {nested.name} --board {BOARD} --pages host --schedule "{SCHEDULE}" --plot timeline.png',
    )
    samples = tflnest.load_dataset(data).x[:RUNS]
    result = tflnest.simulate(nested, BOARD, schedule=SCHEDULE, pages="host", inputs=samples, runs=RUNS)
    for move in result.moves:
        pages = ", ".join(f"page {item.page} {'in' if item.incoming else 'out'}" for item in move.transfers)
        console.print(
            f"inference {move.inference:>2}: level {move.level}, {pages or 'base page only'}; "
            f"{move.link_bytes:,} bytes over the link, {move.seconds:.1f} s"
        )
    console.print(
        f"SRAM at the peak {result.peak_sram_bytes:,} of {result.board.sram_bytes:,} bytes; "
        f"arena {result.memory.arena_bytes:,} bytes; about {1000 * result.inference_seconds:.1f} ms an inference"
    )
    for switch in result.storage.switches:
        console.print(
            f"switch {switch.low} <-> {switch.high}: {switch.page_bytes:,} bytes, "
            f"{100 * switch.reduction:.1f} % less than swapping two models"
        )
    for path, write in ((output / "timeline.png", write_plot), (output / "timeline.json", write_trace)):
        write(result, path, force=True)
        console.print(f"wrote {path}", soft_wrap=True)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Convert, evaluate and simulate the digits model.")
    parser.add_argument(
        "--output", type=Path, default=Path("out"), help="folder for everything that is written"
    )
    output = parser.parse_args().output
    start = time.monotonic()
    calibration, test = digits.write_files(output)
    float_path, int8_path, nested = convert_model(output, calibration)
    evaluate_models(float_path, int8_path, nested, test)
    try_int8(int8_path)
    run_nested(output, nested, test)
    console.print(f"\ndone in {time.monotonic() - start:.0f} s; everything is in {output}/")


if __name__ == "__main__":
    main()
