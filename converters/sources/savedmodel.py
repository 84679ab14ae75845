"""SavedModel folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converters.sources.tensorflow import convert_function, import_tensorflow, reason, static_shape
from tflnest.errors import FormatError, UnsupportedError
from tflnest.model import Model
from tflnest.silence import silenced

_PURPOSE = "to read SavedModel folders"

#: Entry points by the names that exporters give them, in order of preference.
_ENTRY_POINTS = ("serving_default", "serve")


def read(path: Path) -> tuple[Model, tuple[str, ...]]:
    """Read a SavedModel folder as a float `.tflite` model with batch 1.

    Returns:
        The model, and a note where one of several entry points was chosen.

    Raises:
        FormatError: The folder is no SavedModel, or a broken one.
        UnsupportedError: It has no single entry point, or TensorFlow cannot turn it into TFLite.
        MissingExtraError: TensorFlow is not installed.
    """
    if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise FormatError(
            f"{path}: is not a SavedModel folder: it has no saved_model.pb",
            "give the folder that model.export() or tf.saved_model.save() wrote, or a model file",
        )
    with silenced():
        tensorflow = import_tensorflow(_PURPOSE)
        try:
            loaded = tensorflow.saved_model.load(str(path))
        except Exception as error:
            raise FormatError(f"{path}: TensorFlow cannot read the SavedModel: {reason(error)}") from error
        key = _entry_point(sorted(loaded.signatures), str(path))
        return _convert(tensorflow, loaded.signatures[key], str(path)), _notes(loaded, key)


def _entry_point(keys: list[str], name: str) -> str:
    for key in _ENTRY_POINTS:
        if key in keys:
            return key
    if len(keys) == 1:
        return keys[0]
    raise UnsupportedError(
        f"{name}: the SavedModel has {len(keys)} signatures and none is called {_ENTRY_POINTS[0]}: {', '.join(keys)}"
        if keys
        else f"{name}: the SavedModel has no signature",
        "save it with tf.saved_model.save(model, path, signatures=function), or with model.export(path)",
    )


def _notes(loaded: Any, key: str) -> tuple[str, ...]:
    others = sorted(set(loaded.signatures) - {key, *_ENTRY_POINTS})
    return (f"signature {key!r} was converted, and not: {', '.join(others)}",) if others else ()


def _convert(tensorflow: Any, signature: Any, name: str) -> Model:
    arguments = signature.structured_input_signature[1]
    keys = sorted(arguments)
    specs = []
    for key in keys:
        shape = arguments[key].shape
        if shape.rank is None:
            raise UnsupportedError(
                f"{name}: input {key!r} has no known shape", "export it with a fixed input shape"
            )
        specs.append(
            tensorflow.TensorSpec(static_shape(list(shape), key, name), arguments[key].dtype, name=key)
        )

    def infer(*tensors: Any) -> Any:
        return signature(**dict(zip(keys, tensors, strict=True)))

    return convert_function(tensorflow, infer, specs, name)
