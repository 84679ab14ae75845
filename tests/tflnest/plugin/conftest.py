"""The delegate needs a C compiler, and a stock runtime."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tflnest.errors import UnsupportedError
from tflnest.native.compiler import Compiler


@pytest.fixture(scope="package", autouse=True)
def compiler() -> Compiler:
    """The C compiler; without one the tests are skipped, and fail in continuous integration."""
    try:
        return Compiler.find()
    except UnsupportedError as error:
        if os.environ.get("CI"):
            pytest.fail(error.message)
        pytest.skip(error.message)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a model, or bytes, to a new file."""

    def write(model: Any) -> Path:
        path = tmp_path / f"model_{len(list(tmp_path.iterdir()))}.tflite"
        path.write_bytes(model if isinstance(model, bytes) else model.to_bytes())
        return path

    return write


def run(interpreter: Any, *samples: NDArray[Any]) -> list[NDArray[Any]]:
    """Outputs of a stock interpreter, one list entry per output tensor, samples concatenated."""
    interpreter.allocate_tensors()
    rows = []
    for sample in samples:
        detail = interpreter.get_input_details()[0]
        interpreter.set_tensor(detail["index"], sample)
        interpreter.invoke()
        rows.append([interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]
