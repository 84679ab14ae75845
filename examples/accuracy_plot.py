"""Accuracy against bytes as a picture: the digits model nested in three ways on the chain 2,4,6,8.

    python examples/accuracy_plot.py --output out

One file nests every filter at the same widths; one keeps small filters whole and gives each of the others the base
width that its sensitivity deserves, within about the same bytes; one is NestQuant as published, with its extra bits. The
int8 model is the point where they all end, each with its own number of bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import digits

import tflnest
from tflnest.accuracy_plot import write_accuracy_plot

MODEL = Path(__file__).with_name("digits.keras")
LEVELS = (2, 4, 6, 8)
RECIPES = {"mixed": "default", "uniform": "uniform", "nestquant": "nestquant"}


def main() -> None:
    """Convert, evaluate, draw."""
    parser = argparse.ArgumentParser(description="Draw the digits model's accuracy against its bytes.")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for everything written")
    parser.add_argument("--model", type=Path, default=MODEL, help="the same network in another file")
    arguments = parser.parse_args()
    output: Path = arguments.output
    calibration, test = digits.write_files(output)
    evaluations = []
    for name, recipe in RECIPES.items():
        path = output / f"digits_{name}.tflite"
        result = tflnest.convert(
            arguments.model, path, levels=LEVELS, recipe=recipe, calibration=calibration, force=True
        )
        evaluations.append(tflnest.evaluate(path, test))
        for row in evaluations[-1].levels:
            print(
                f"{name:10} level {row.level}: {result.level_bits[row.level]:5.2f} bits per weight, "
                f"{row.resident_bytes:7,} bytes resident, top-1 {100 * (row.top1 or 0):.1f} %"
            )
    int8 = output / "digits_int8.tflite"
    result.int8.save(int8, force=True)
    evaluations.append(tflnest.evaluate(int8, test))
    picture = output / "accuracy.png"
    write_accuracy_plot(evaluations, picture, force=True)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
