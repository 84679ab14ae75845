"""Examples run as their users run them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.shared import ROOT

#: The network of the examples' digits model, which needs no TensorFlow.
FLOAT_MODEL = "tests/data/digits_float.tflite"


def run_example(*arguments: object) -> str:
    """What an example prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
