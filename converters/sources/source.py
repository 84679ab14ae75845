"""Read a model from any of the places that it may come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from converters.sources import keras, savedmodel, tflite
from tflnest.errors import FormatError, UsageError
from tflnest.model import Model

#: Suffixes of the files that are read; a SavedModel is a folder.
SUFFIXES = (".keras", ".h5", ".hdf5", ".tflite")


class SourceKind(StrEnum):
    """What a model was read from."""

    KERAS = "keras"
    SAVED_MODEL = "saved_model"
    FLOAT_TFLITE = "float_tflite"
    INT8_TFLITE = "int8_tflite"


@dataclass(frozen=True)
class Source:
    """A model as it was found.

    Attributes:
        kind: What it was read from.
        path: Where.
        model: The `.tflite` model: int8 for `INT8_TFLITE`, float for the others.
        notes: What the reader should know about how it was read; may be empty.
    """

    kind: SourceKind
    path: Path
    model: Model
    notes: tuple[str, ...] = ()

    @property
    def is_float(self) -> bool:
        """Whether the model must be quantized first."""
        return self.kind is not SourceKind.INT8_TFLITE


def load_source(path: str | Path) -> Source:
    """Read a model, by the suffix of its file or as a SavedModel folder.

    TensorFlow is needed for Keras files and SavedModels only. The result of those has batch 1.

    Raises:
        UsageError: There is no such file, or its suffix is none of `SUFFIXES`.
        FormatError: The file is corrupt, or not what its suffix says.
        UnsupportedError: The model is quantized in a way that cannot be nested, or TensorFlow cannot turn it
            into TFLite.
        MissingExtraError: TensorFlow is needed and not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    if path.is_dir():
        model, notes = savedmodel.read(path)
        return Source(SourceKind.SAVED_MODEL, path, model, notes)
    suffix = path.suffix.lower()
    if suffix == ".tflite":
        model = Model.load(path)
        is_int8 = tflite.is_int8(model, str(path))
        return Source(SourceKind.INT8_TFLITE if is_int8 else SourceKind.FLOAT_TFLITE, path, model)
    if suffix in SUFFIXES:
        model, notes = keras.read(path)
        return Source(SourceKind.KERAS, path, model, notes)
    raise UsageError(
        f"{path}: models with the suffix {suffix!r} are not read",
        f"give one of {', '.join(SUFFIXES)}, or a SavedModel folder",
    )
