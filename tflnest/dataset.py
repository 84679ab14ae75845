"""Samples and labels from files, for calibration and evaluation."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError, UsageError
from tflnest.files import MAX_FILE_BYTES
from tflnest.graph import Tensor
from tflnest.quantization import quantize_for

_ZIP_MAGIC = b"PK"
_NPY_MAGIC = b"\x93NUMPY"
_CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Dataset:
    """Samples, and labels where the file has them.

    Attributes:
        x: Samples first: (samples, *shape of one sample); float, or the integers that the model takes.
        y: Anything of the same length, usually class numbers; None where there are none.
        name: What messages call the data, usually the path.
    """

    x: NDArray[Any]
    y: NDArray[Any] | None = None
    name: str = "data"

    def __post_init__(self) -> None:
        _check_samples(self.x, self.name)
        if self.y is not None and len(np.atleast_1d(self.y)) != len(self.x):
            raise FormatError(
                f"{self.name}: x has {len(self.x)} samples and y has {len(np.atleast_1d(self.y))}"
            )

    def __len__(self) -> int:
        return len(self.x)

    def limited(self, count: int | None) -> Dataset:
        """The first `count` samples; all of them where it is None.

        Raises:
            UsageError: `count` is less than 1.
        """
        if count is None:
            return self
        if count < 1:
            raise UsageError(f"at least 1 sample is needed, and {count} were asked for")
        return Dataset(self.x[:count], None if self.y is None else self.y[:count], self.name)

    def labels(self) -> NDArray[np.int64] | None:
        """Class numbers, shape (samples,), or None where there are none.

        Raises:
            FormatError: `y` is not one whole number per sample.
        """
        if self.y is None:
            return None
        labels = self.y.reshape(len(self.y), -1)
        if labels.shape[1] != 1 or labels.dtype.kind not in "iu":
            raise FormatError(
                f"{self.name}: y has shape {list(self.y.shape)} and type {self.y.dtype}, not one class number per sample",
                "store labels as integers, for example y.argmax(axis=1) for one-hot labels",
            )
        return labels[:, 0].astype(np.int64)

    def inputs_for(self, tensor: Tensor) -> NDArray[Any]:
        """The samples in the type of a model's input.

        Real numbers for an integer input are quantized with its scale and zero point. Integers are taken as
        they are where the input has the same type, and are refused elsewhere: whether 0..255 stands for itself,
        for 0..1 or for something else, only the caller knows.

        Args:
            tensor: The model's input; a leading dimension of 1 is the batch.

        Returns:
            Shape (samples, *shape of one sample), dtype of the input.

        Raises:
            FormatError: The shape or the type does not fit.
        """
        expected = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
        if self.x.shape[1:] != expected:
            raise FormatError(
                f"{self.name}: a sample has shape {list(self.x.shape[1:])}, the model's input takes {list(expected)}",
                f"store x with shape [samples, {', '.join(map(str, expected))}]",
            )
        if self.x.dtype == tensor.dtype:
            return self.x
        if self.x.dtype.kind != "f":
            raise FormatError(
                f"{self.name}: x has type {self.x.dtype}, the model's input is {tensor.dtype}",
                "store the values that the model was trained on as float32, scaled as in training",
            )
        if tensor.dtype.kind == "f":
            return self.x.astype(tensor.dtype)
        return quantize_for(tensor, self.x)


def load_dataset(path: str | Path) -> Dataset:
    """Read an `.npz` with key `x` (and `y`, optional), or an `.npy` with samples alone.

    Raises:
        FormatError: The file is missing, cut short, or not such a file; has no `x`; or its samples are empty,
            not numbers, or not finite.
    """
    path = Path(path)
    magic, size = _start(path)
    try:
        if magic.startswith(_NPY_MAGIC):
            return Dataset(np.load(path, mmap_mode="r", allow_pickle=False), None, str(path))
        if magic.startswith(_ZIP_MAGIC):
            return _load_npz(path)
    except (
        ValueError,
        OSError,
        EOFError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        if "pickle" in str(error):
            raise FormatError(
                f"{path}: holds Python objects, which are not read", "store plain numeric arrays"
            ) from error
        raise FormatError(
            f"{path}: cannot be read ({error})", "the file may be cut short; write it again"
        ) from error
    raise FormatError(
        f"{path}: {size:,} bytes that are neither an .npz nor an .npy file",
        "write it with numpy.savez(path, x=samples, y=labels)",
    )


def _start(path: Path) -> tuple[bytes, int]:
    """First bytes and size of a file."""
    try:
        if path.is_dir():
            raise FormatError(f"{path}: is a folder, a file was expected")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise FormatError(f"{path}: has {size:,} bytes, more than the {MAX_FILE_BYTES:,} that are read")
        with path.open("rb") as stream:
            return stream.read(len(_NPY_MAGIC)), size
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


def _load_npz(path: Path) -> Dataset:
    with np.load(path, allow_pickle=False) as arrays:
        if "x" not in arrays.files:
            keys = ", ".join(arrays.files) or "none"
            raise FormatError(
                f"{path}: has no array named 'x'; its keys: {keys}",
                "write it with numpy.savez(path, x=samples, y=labels)",
            )
        unpacked = sum(item.file_size for item in arrays.zip.infolist())
        if unpacked > MAX_FILE_BYTES:
            raise FormatError(
                f"{path}: unpacks to {unpacked:,} bytes, more than the {MAX_FILE_BYTES:,} that are read"
            )
        return Dataset(arrays["x"], arrays["y"] if "y" in arrays.files else None, str(path))


def _check_samples(x: NDArray[Any], name: str) -> None:
    if x.dtype.kind not in "fiu":
        raise FormatError(f"{name}: x has type {x.dtype}, numbers were expected")
    if x.ndim == 0 or x.size == 0:
        raise FormatError(f"{name}: x has shape {list(x.shape)}: no samples")
    if x.dtype.kind == "f":
        for chunk, first in _chunks(x):
            bad = np.flatnonzero(~np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1))
            if bad.size:
                raise FormatError(f"{name}: sample {first + int(bad[0])} of x holds NaN or infinity")


def _chunks(x: NDArray[Any]) -> Iterator[tuple[NDArray[Any], int]]:
    """Runs of samples of bounded size, with the index of their first."""
    step = max(1, _CHUNK_ELEMENTS * len(x) // x.size)
    for first in range(0, len(x), step):
        yield x[first : first + step], first


__all__ = ["Dataset", "load_dataset"]
