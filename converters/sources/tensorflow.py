"""TensorFlow at arm's length: imported on demand, and its failures in one sentence."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tflnest.errors import TflnestError, UnsupportedError
from tflnest.model import Model
from tflnest.schema import require_extra

_MAX_REASON = 300


def import_tensorflow(purpose: str) -> Any:
    """Import TensorFlow with Keras on top of it.

    Args:
        purpose: What it is needed for ("to read Keras models").

    Raises:
        MissingExtraError: It is not installed.
        TflnestError: Keras runs on another backend in this process.
    """
    if "tensorflow" not in sys.modules:
        # oneDNN's sums depend on the machine, and the same model must give the same bytes.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    tensorflow = require_extra("tensorflow", "keras", purpose)
    backend = tensorflow.keras.backend.backend()
    if backend != "tensorflow":
        raise TflnestError(
            f"Keras runs on {backend} in this process, and TensorFlow is needed {purpose}",
            "set the environment variable KERAS_BACKEND=tensorflow before Keras is imported",
        )
    return tensorflow


def convert_function(tensorflow: Any, function: Callable[..., Any], specs: Sequence[Any], name: str) -> Model:
    """Turn a Python function of tensors into a float `.tflite` model.

    Args:
        tensorflow: The package.
        function: Takes one tensor for each of `specs`.
        specs: `tf.TensorSpec` with static shapes.
        name: What messages call the model.

    Raises:
        UnsupportedError: TensorFlow cannot, for instance because an operator has no counterpart.
    """
    try:
        concrete = tensorflow.function(function).get_concrete_function(*specs)
        # Without the object that tracks them, the converter turns variables into constants.
        converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([concrete])
        content = converter.convert()
    except Exception as error:
        raise UnsupportedError(
            f"{name}: TensorFlow cannot turn the model into TFLite: {reason(error)}",
            "use layers that have TFLite counterparts, or convert it yourself and start from the .tflite file",
        ) from error
    return Model.from_bytes(bytes(content), name)


def static_shape(shape: Sequence[int | None], label: str, name: str) -> list[int]:
    """The shape of an input with its batch fixed to 1.

    Raises:
        UnsupportedError: Another dimension is unknown.
    """
    if any(dimension is None for dimension in shape[1:]):
        raise UnsupportedError(
            f"{name}: input {label!r} has shape {list(shape)}: only the batch may be unknown",
            "build the model with a fixed input shape",
        )
    return [1, *(int(dimension) for dimension in shape[1:] if dimension is not None)] if len(shape) else []


def reason(error: BaseException) -> str:
    """The sentence of a long TensorFlow or Keras message that says what is wrong."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op", text)) | set(re.findall(r"\btf\.(\w+)\(", text)))
    if missing and ("flex" in text.lower() or "custom op" in text.lower()):
        return f"no TFLite operator for {', '.join(missing)}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    chosen = next((line for line in lines if "error:" in line), lines[0] if lines else type(error).__name__)
    chosen = chosen.split("error:", 1)[-1].strip() if "error:" in chosen else chosen
    return chosen if len(chosen) <= _MAX_REASON else chosen[:_MAX_REASON] + "..."


__all__ = ["convert_function", "import_tensorflow", "reason", "static_shape"]
