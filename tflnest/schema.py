"""The one place that knows where the TFLite schema and a stock TFLite interpreter come from.

Both are part of several packages. `ai_edge_litert` is a dependency; where a user has put TensorFlow or
tflite-runtime in its place, those serve as well.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

from tflnest.errors import MissingExtraError, TflnestError

SCHEMA_MODULES = ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated")
RUNTIME_MODULES = (
    "ai_edge_litert.interpreter",
    "tflite_runtime.interpreter",
    "tensorflow.lite.python.interpreter",
)


def _first_importable(names: tuple[str, ...], purpose: str) -> ModuleType:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    packages = ", ".join(name.split(".")[0] for name in names)
    raise TflnestError(
        f"none of the packages {packages} could be imported, and one is needed {purpose}",
        "install one with: pip install ai-edge-litert",
    )


@cache
def schema() -> Any:
    """The module generated from the TFLite schema (`ModelT`, `TensorT`, `BuiltinOperator`, ...)."""
    return _first_importable(SCHEMA_MODULES, "to read and write .tflite files")


@cache
def runtime() -> Any:
    """A module with the stock TFLite `Interpreter`."""
    return _first_importable(RUNTIME_MODULES, "to run models in stock TensorFlow Lite")


@cache
def enum_names(enum: str) -> dict[int, str]:
    """Names of a schema enum by value, for example `enum_names("BuiltinOperator")[3] == "CONV_2D"`."""
    return {value: name for name, value in vars(getattr(schema(), enum)).items() if not name.startswith("_")}


def enum_value(enum: str, name: str) -> int:
    """Value of a schema enum by name."""
    return int(getattr(getattr(schema(), enum), name))


def require_extra(package: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        MissingExtraError: It is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, extra, purpose) from error
