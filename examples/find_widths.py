"""A width for every filter of the digits model, under a budget of bytes and of accuracy.

    python examples/find_widths.py --max-bytes 40% --output out

Writes the model, the recipe that makes it again with `tflnest convert --recipe`, and prints what was tried.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import digits

import tflnest
from tflnest.files import write_file

MODEL = Path(__file__).with_name("digits.keras")
#: Training samples that decide; the first ones calibrate.
VALIDATION = slice(digits.CALIBRATION_SAMPLES, None)


def main() -> None:
    """Search, write, measure."""
    parser = argparse.ArgumentParser(description="Find the widths of the digits model's filters.")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for everything written")
    parser.add_argument("--model", type=Path, default=MODEL, help="the same network in another file")
    parser.add_argument("--max-bytes", default="40%", help="of the filters: a number, or a share of int8")
    parser.add_argument("--max-steps", type=int, default=12, help="steps that refine the first proposals")
    arguments = parser.parse_args()
    calibration, test = digits.write_files(arguments.output)
    (x, y), _ = digits.load_split()
    validation = tflnest.Dataset(x[VALIDATION], y[VALIDATION], name="validation")

    found = tflnest.search(
        arguments.model,
        calibration,
        validation,
        max_bytes=arguments.max_bytes,
        max_drop=1.0,
        max_steps=arguments.max_steps,
        single=True,
    )
    for trial in found.result.trajectory:
        widths = " ".join(map(str, trial.widths))
        print(f"{trial.phase}: {widths}, {trial.accuracy:.1f} %, loss {trial.loss:.4f}, {trial.zone}")
    path = arguments.output / "digits_found.tflite"
    found.model.save(path, force=True)
    write_file(path.with_suffix(".recipe.toml"), found.recipe.to_toml().encode())
    top1 = tflnest.evaluate(path, test).levels[-1].top1 or 0.0
    print(f"{found.mean_bits:.2f} bits per weight, {top1:.1%} of the test samples: wrote {path}")


if __name__ == "__main__":
    main()
