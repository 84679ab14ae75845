"""Keras models: `.keras` archives, and `.h5` files of Keras 3 and Keras 2."""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from converters.sources.tensorflow import convert_function, import_tensorflow, reason, static_shape
from tflnest.errors import FormatError, UnsupportedError
from tflnest.files import read_file
from tflnest.model import Model
from tflnest.silence import silenced

_PURPOSE = "to read Keras models"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_LAYER_OPTIONS = frozenset({"activity_regularizer", "autocast", "dtype", "name", "trainable"})

#: Values at which an option that this version of Keras does not know has no effect.
_NEUTRAL: tuple[object, ...] = (None, False, 1, [], {})


def read(path: Path) -> tuple[Model, tuple[str, ...]]:
    """Read a Keras model as a float `.tflite` model with batch 1.

    Only what inference needs is read: no optimizer, loss or metrics.

    Returns:
        The model, and notes on what had to be left out of the file to read it.

    Raises:
        FormatError: The file is corrupt, or holds weights without an architecture.
        UnsupportedError: Keras or TensorFlow cannot do one of its layers.
        MissingExtraError: TensorFlow is not installed.
    """
    _check_container(path)
    with silenced():
        tensorflow = import_tensorflow(_PURPOSE)
        keras = tensorflow.keras
        model, notes = _load_archive(keras, path) if zipfile.is_zipfile(path) else _load_hdf5(keras, path)
        return _convert(tensorflow, model, str(path)), notes


def _check_container(path: Path) -> None:
    """Say early what is no Keras file, in our words."""
    start = read_file(path)[: len(_HDF5_MAGIC)]
    if start == _HDF5_MAGIC:
        return
    if not zipfile.is_zipfile(path):
        raise FormatError(
            f"{path}: is not a Keras file: neither a .keras archive nor HDF5",
            "the file may be cut short; save the model again with model.save()",
        )
    with zipfile.ZipFile(path) as archive:
        missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    if missing:
        raise FormatError(f"{path}: is not a Keras archive: it has no {' and no '.join(sorted(missing))}")


def _load_archive(keras: Any, path: Path) -> tuple[Any, tuple[str, ...]]:
    try:
        return keras.models.load_model(path, compile=False), ()
    except Exception as error:
        raise _refusal(path, error) from error


def _load_hdf5(keras: Any, path: Path) -> tuple[Any, tuple[str, ...]]:
    """Load an HDF5 file; where Keras refuses it, once more without the options that it does not know."""
    configuration = _configuration(path)
    with tempfile.TemporaryDirectory() as folder:
        # Keras tells its formats apart by the suffix, and HDF5 also comes as .hdf5 or .keras.
        copy = Path(folder) / "model.h5"
        shutil.copyfile(path, copy)
        try:
            return keras.models.load_model(copy, compile=False), ()
        except Exception as error:
            dropped: set[str] = set()
            _drop_unknown_options(keras, configuration, dropped, str(path))
            if not dropped:
                raise _refusal(path, error) from error
        _store_configuration(copy, configuration)
        try:
            model = keras.models.load_model(copy, compile=False)
        except Exception as error:
            raise _refusal(path, error) from error
    return model, (f"left out, without effect on inference: {', '.join(sorted(dropped))}",)


def _configuration(path: Path) -> Any:
    """The architecture that an HDF5 file holds."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except Exception as error:
        raise FormatError(f"{path}: the HDF5 file cannot be read: {reason(error)}") from error
    if text is None:
        raise FormatError(
            f"{path}: holds weights and no architecture",
            "save the whole model with model.save(), not save_weights()",
        )
    try:
        return json.loads(text)
    except ValueError as error:
        raise FormatError(f"{path}: the architecture in the HDF5 file is not JSON: {error}") from error


def _store_configuration(path: Path, configuration: Any) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(configuration)


def _drop_unknown_options(keras: Any, item: Any, dropped: set[str], name: str) -> None:
    """Remove options of layers that this version of Keras does not know, from a nested configuration.

    Raises:
        UnsupportedError: Such an option has a value that changes what the layer computes.
    """
    if isinstance(item, list):
        for value in item:
            _drop_unknown_options(keras, value, dropped, name)
    if not isinstance(item, dict):
        return
    for value in item.values():
        _drop_unknown_options(keras, value, dropped, name)
    layer = getattr(keras.layers, str(item.get("class_name")), None)
    options = item.get("config")
    if not inspect.isclass(layer) or not isinstance(options, dict):
        return
    for option in sorted(set(options) - _known_options(keras, layer)):
        if options[option] not in _NEUTRAL:
            raise UnsupportedError(
                f"{name}: layer {options.get('name')!r} ({layer.__name__}) has {option}={options[option]!r}, which "
                f"Keras {keras.__version__} does not know",
                "save the model with the Keras that made it as a SavedModel, and convert that folder",
            )
        dropped.add(f"{layer.__name__}.{option}")
        del options[option]


def _known_options(keras: Any, layer: type) -> frozenset[str]:
    """Names that the constructors of a layer take, and those that Keras translates from older files."""
    known = set(_LAYER_OPTIONS) | {
        "batch_input_shape",
        "batch_shape",
        "input_shape",
        "input_dim",
        "ragged",
        "sparse",
    }
    for base in layer.__mro__:
        if base is not keras.layers.Layer and "__init__" in vars(base):
            known |= set(inspect.signature(base.__init__).parameters)  # type: ignore[misc]
    return frozenset(known)


def _refusal(path: Path, error: Exception) -> UnsupportedError | FormatError:
    """What Keras says, as one of our errors."""
    if isinstance(error, (OSError, zipfile.BadZipFile, EOFError)):
        return FormatError(
            f"{path}: Keras cannot read it: {reason(error)}", "the file may be cut short; save it again"
        )
    return UnsupportedError(
        f"{path}: Keras cannot rebuild the model: {reason(error)}",
        "for custom or older layers, save it where it was made as a SavedModel (model.export), and convert that folder",
    )


def _convert(tensorflow: Any, model: Any, name: str) -> Model:
    try:
        inputs = list(model.inputs)
    except (AttributeError, ValueError, TypeError) as error:
        raise UnsupportedError(
            f"{name}: the model has no defined input shape",
            "call it once, or give it an Input layer, and save it again",
        ) from error
    specs = [
        tensorflow.TensorSpec(static_shape(item.shape, item.name, name), item.dtype, name=item.name)
        for item in inputs
    ]

    def infer(*tensors: Any) -> Any:
        return model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)

    return convert_function(tensorflow, infer, specs, name)
