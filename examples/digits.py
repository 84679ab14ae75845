"""Scikit-learn's handwritten digits, split once and for all: 1,797 grey images of 8 x 8 pixels.

As a program it writes the files that the command line takes:

    python examples/digits.py --output build/digits      # calibration.npz and test.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

TEST_SAMPLES = 500
CALIBRATION_SAMPLES = 256
SPLIT_SEED = 7

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]


def load_split() -> tuple[Samples, Samples]:
    """The digits as ((x, y) of training, (x, y) of test).

    Returns:
        x: float32 in [0, 1], shape (samples, 8, 8, 1); y: digits, int64.
    """
    x, y = load_digits(return_X_y=True)
    images = (x / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    x_train, x_test, y_train, y_test = train_test_split(
        images, y.astype(np.int64), test_size=TEST_SAMPLES, random_state=SPLIT_SEED, stratify=y
    )
    return (x_train, y_train), (x_test, y_test)


def calibration() -> Samples:
    """The training samples that calibrate the quantization."""
    (x, y), _ = load_split()
    return x[:CALIBRATION_SAMPLES], y[:CALIBRATION_SAMPLES]


def write_files(folder: Path) -> tuple[Path, Path]:
    """Write `calibration.npz` and `test.npz` with keys x and y; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "calibration.npz", folder / "test.npz"
    for path, (x, y) in zip(paths, (calibration(), load_split()[1]), strict=True):
        np.savez(path, x=x, y=y)
    return paths


def main() -> None:
    """Write the calibration and the test samples."""
    parser = argparse.ArgumentParser(description="Write scikit-learn's handwritten digits as .npz files.")
    parser.add_argument("--output", type=Path, default=Path("build/digits"), help="folder for the files")
    for path in write_files(parser.parse_args().output):
        with np.load(path) as arrays:
            print(f"{path}: {len(arrays['x'])} samples")


if __name__ == "__main__":
    main()
