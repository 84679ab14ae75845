"""All levels of the digits model trained together, against the same levels by rounding alone.

    python examples/train_nested.py --epochs 6 --output out
    KERAS_BACKEND=jax python examples/train_nested.py

Below four bits per weight rounding a trained model loses accuracy, which training gets back.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import digits

import tflnest

MODEL = Path(__file__).with_name("digits.keras")
LEVELS = (2, 4, 6, 8)
#: Every filter nests, small ones too.
RECIPE = "uniform"


def accuracy(path: Path, test: Path) -> dict[int, float]:
    """Share of the test samples that each level gets right."""
    return {row.level: row.top1 or 0.0 for row in tflnest.evaluate(path, test).levels}


def main() -> None:
    """Round, train, compare."""
    parser = argparse.ArgumentParser(description="Train all levels of the digits model together.")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for everything written")
    parser.add_argument("--model", type=Path, default=MODEL, help="the same network in another file")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the training samples")
    arguments = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    keras.utils.set_random_seed(0)
    calibration, test = digits.write_files(arguments.output)
    rounded, trained = (arguments.output / f"digits_{name}.tflite" for name in ("rounded", "trained"))
    tflnest.convert(
        arguments.model, rounded, levels=LEVELS, recipe=RECIPE, calibration=calibration, force=True
    )

    recipe = tflnest.load_recipe(RECIPE).with_options(levels=LEVELS)
    network = tflnest.nest_for_training(arguments.model, recipe, calibration=calibration)
    network.compile(
        keras.optimizers.Adam(1e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    (x, y), _ = digits.load_split()
    network.fit(x, y, batch_size=64, epochs=arguments.epochs, verbose=2)
    network.save_nested(trained, force=True)

    before, after = accuracy(rounded, test), accuracy(trained, test)
    for level in LEVELS:
        print(f"level {level}: rounded {before[level]:.1%}, trained {after[level]:.1%}")


if __name__ == "__main__":
    main()
