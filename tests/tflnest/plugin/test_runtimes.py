"""One library runs in every TensorFlow Lite runtime, old and new, each in an environment of its own.

The environments are made in the user's cache at first use, from the package index; the tests are skipped where a
package cannot be had.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tflnest
from tests.models import random_inputs
from tests.tflnest.plugin.conftest import run
from tests.tflnest.plugin.test_delegate import convolutions
from tflnest.native.compiler import cache_folder

CHECK = Path(__file__).parent / "runtime_check.py"

#: Module with the interpreter, and what is installed for it.
RUNTIMES = {
    "ai-edge-litert 1.0.1": ("ai_edge_litert.interpreter", ("ai-edge-litert==1.0.1", "numpy==1.26.4")),
    "ai-edge-litert 1.4.0": ("ai_edge_litert.interpreter", ("ai-edge-litert==1.4.0", "numpy>=2")),
    "tflite-runtime 2.14.0": ("tflite_runtime.interpreter", ("tflite-runtime==2.14.0", "numpy==1.26.4")),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nested model with an input, and what must come out."""
    model = convolutions()
    levels = model.directory.levels
    x = random_inputs(model, 1)
    arrays = {"x": x, "nested": np.frombuffer(model.to_bytes(), np.uint8), "levels": np.array(levels)}
    for level in levels:
        arrays[f"y_{level}"] = tflnest.Interpreter(model=model, level=level).run(x)
        arrays[f"plain_{level}"] = np.frombuffer(tflnest.materialize(model, level).to_bytes(), np.uint8)
    path = tmp_path_factory.mktemp("runtimes") / "cases.npz"
    np.savez(path, **arrays)
    return path


def environment_python(name: str, packages: tuple[str, ...]) -> Path:
    """The Python of an environment with some packages; made where it is not there yet."""
    folder = cache_folder() / f"environment-{name.replace(' ', '-')}-{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:", *packages],
        ):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                pytest.skip(f"{name} cannot be installed: {result.stderr.strip().splitlines()[-1:]}")
        (folder / "ready").touch()
    return python


def assert_all_hold(python: Path, module: str, cases: Path) -> None:
    command = [str(python), str(CHECK), module, tflnest.delegate_path(), str(cases)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    assert result.returncode == 0, result.stderr[-3000:]
    results = json.loads(result.stdout.splitlines()[-1])
    assert len(results) == 37
    assert [name for name, held in results.items() if not held] == []


def test_the_runtime_that_is_installed(cases: Path) -> None:
    assert_all_hold(Path(sys.executable), "ai_edge_litert.interpreter", cases)


@pytest.mark.keras
def test_tensorflow(cases: Path) -> None:
    pytest.importorskip("tensorflow.lite.python.interpreter")
    assert_all_hold(Path(sys.executable), "tensorflow.lite.python.interpreter", cases)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_other_runtimes(name: str, cases: Path) -> None:
    module, packages = RUNTIMES[name]
    assert_all_hold(environment_python(name, packages), module, cases)


@pytest.mark.keras
def test_a_delegate_of_one_package_serves_the_interpreter_of_another() -> None:
    other = pytest.importorskip("tensorflow.lite.python.interpreter")
    model = convolutions()
    x = random_inputs(model, 1)
    delegate = tflnest.load_delegate(level=4, mode="memory")
    assert type(delegate).__module__.startswith("ai_edge_litert")
    ours = other.Interpreter(
        model_content=model.to_bytes(),
        experimental_delegates=[delegate],
        experimental_op_resolver_type=other.OpResolverType.BUILTIN_REF,
    )
    np.testing.assert_array_equal(run(ours, x)[0], tflnest.Interpreter(model=model, level=4).run(x))
