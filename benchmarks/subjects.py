"""What accuracy is measured on: models, and labelled samples in the scale that each model was trained on.

The public models and image sets lie in `../shared`, where they are at all. An image set is an .npz file with JPEG
files back to back in `blob` (uint8), their limits in `offsets` (n + 1 of them) and class numbers in `labels`.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tflnest.dataset import Dataset, load_dataset

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

#: Seed of the one division of a set into samples for calibration and samples for measuring.
DIVISION_SEED = 0

#: Images of ImageNet that are set aside for calibration; the others are measured.
IMAGENET_POOL = 100

#: Mean and standard deviation of ImageNet's training images, red, green, blue, as of pixels in 0..1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Images = NDArray[np.uint8]
Indices = NDArray[np.int64]


class SampleSet(Protocol):
    """Samples that are read as they are needed."""

    def __len__(self) -> int: ...

    def take(self, indices: Indices) -> Dataset:
        """Some of the samples, in the scale of the model."""
        ...


@dataclass(frozen=True)
class ArraySet:
    """Samples that are arrays already."""

    data: Dataset

    def __len__(self) -> int:
        return len(self.data)

    def take(self, indices: Indices) -> Dataset:
        """Some of the samples."""
        y = self.data.y
        return Dataset(np.asarray(self.data.x[indices]), None if y is None else y[indices], self.data.name)


class ImageSet:
    """JPEG images in an .npz file, decoded when they are taken.

    Args:
        path: The file.
        prepare: Makes float32 samples of images, uint8 (images, height, width, 3).
        labelled: Whether the labels are classes of the model.
    """

    def __init__(
        self, path: Path, prepare: Callable[[Images], NDArray[np.float32]], labelled: bool = True
    ) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self._blob, self._offsets = arrays["blob"], arrays["offsets"]
            self._labels = arrays["labels"].astype(np.int64)
        self._name, self._prepare, self._labelled = path.name, prepare, labelled

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, indices: Indices) -> Dataset:
        """Decode and prepare some images."""
        x = self._prepare(np.stack([self._decode(int(index)) for index in indices]))
        return Dataset(x, self._labels[indices] if self._labelled else None, self._name)

    def _decode(self, index: int) -> Images:
        from PIL import Image

        start, end = self._offsets[index : index + 2]
        with Image.open(io.BytesIO(self._blob[start:end].tobytes())) as image:
            return np.asarray(image.convert("RGB"))


def pixels(images: Images) -> NDArray[np.float32]:
    """0..255, as the ResNet8 of MLPerf Tiny takes them."""
    return images.astype(np.float32)


def normalized_planes(images: Images) -> NDArray[np.float32]:
    """Channels first, ImageNet's mean and standard deviation taken off, as PyTorch's MobileNetV2 takes them."""
    mean, std = (np.asarray(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    normalized: NDArray[np.float32] = (images.astype(np.float32) / 255 - mean) / std
    return normalized.transpose(0, 3, 1, 2)


def small_unit(images: Images) -> NDArray[np.float32]:
    """96 x 96, 0..1, as the wake-words model of MLPerf Tiny takes them (its input's scale is 1/255)."""
    from PIL import Image

    resized = [Image.fromarray(image).resize((96, 96), Image.Resampling.BILINEAR) for image in images]
    values: NDArray[np.float32] = np.stack([np.asarray(image) for image in resized]).astype(np.float32)
    values /= 255
    return values


@dataclass(frozen=True)
class Subject:
    """A model, samples to calibrate with and other samples to measure on.

    Attributes:
        name: Short name.
        model: The source.
        pool: Where calibration samples are drawn from.
        pool_indices: Which of them may be drawn.
        measured: Where the measured samples are.
        measured_indices: Which of them, in the order in which they are taken.
        calibration: Samples of one draw.
        budgets: Bits per weight at the base level of recipes that have a budget, by the lowest level of the
            chain; 0.1 more than that level where it is not among them.
    """

    name: str
    model: Path
    pool: SampleSet
    pool_indices: Indices
    measured: SampleSet
    measured_indices: Indices
    calibration: int
    budgets: Mapping[int, float] = field(default_factory=dict)

    def budget(self, chain: tuple[int, ...]) -> float:
        """Bits per weight at the base level of a chain."""
        return self.budgets.get(chain[0], chain[0] + 0.1)


def divided(
    name: str,
    model: Path,
    pool: SampleSet,
    measured: SampleSet | None,
    calibration: int,
    reserved: int = 0,
    budgets: Mapping[int, float] | None = None,
) -> Subject:
    """A subject whose samples come in a fixed random order.

    Args:
        name: Short name.
        model: The source.
        pool: For calibration; without `measured` also for measuring.
        measured: For measuring; None takes the pool's samples after the first `reserved`.
        calibration: Samples of one draw.
        reserved: How many samples of the pool calibration may use; 0 for all.
        budgets: See `Subject`.
    """
    order = np.random.default_rng(DIVISION_SEED).permutation(len(pool))
    if measured is None:
        return Subject(
            name, model, pool, order[:reserved], pool, order[reserved:], calibration, dict(budgets or {})
        )
    chosen = np.random.default_rng(DIVISION_SEED).permutation(len(measured))
    kept = order[:reserved] if reserved else order
    return Subject(name, model, pool, kept, measured, chosen, calibration, dict(budgets or {}))


def has_tensorflow() -> bool:
    """Whether Keras files can be read."""
    return importlib.util.find_spec("tensorflow") is not None


def _resnet8(file: str) -> Subject:
    data = SHARED / "data"
    train, test = ImageSet(data / "cifar10_train.npz", pixels), ImageSet(data / "cifar10_test.npz", pixels)
    return divided(f"resnet8 ({file})", SHARED / "models" / file, train, test, calibration=256)


def _imagenet(name: str, file: str, prepare: Callable[[Images], Any], labelled: bool) -> Subject:
    images = ImageSet(SHARED / "data" / "imagenet_dev_300.npz", prepare, labelled)
    path = SHARED / "models" / file
    # Four fifths of what is set aside, so that draws differ.
    count = IMAGENET_POOL * 4 // 5
    return divided(name, path, images, None, count, IMAGENET_POOL, {4: 4.2})


def _digits() -> Subject:
    sys.path.insert(0, str(ROOT / "examples"))
    import digits

    (x, y), (x_test, y_test) = digits.load_split()
    folder = ROOT / "examples" / "digits.keras", ROOT / "tests" / "data" / "digits_float.tflite"
    model = folder[0] if has_tensorflow() else folder[1]
    train, test = Dataset(x, y, "digits"), Dataset(x_test, y_test, "digits test")
    return divided("digits", model, ArraySet(train), ArraySet(test), digits.CALIBRATION_SAMPLES)


#: Subjects by the name that the command line takes; each is made when it is asked for.
SUBJECTS: dict[str, Callable[[], Subject]] = {
    "resnet8": lambda: _resnet8("pretrainedResnet_quant.tflite"),
    "resnet8-keras": lambda: _resnet8("pretrainedResnet.h5"),
    "mobilenet_v2": lambda: _imagenet(
        "mobilenet_v2", "mobilenet_v2_quantized_1x3x224x224.tflite", normalized_planes, True
    ),
    "vww_96": lambda: _imagenet("vww_96", "vww_96_int8.tflite", small_unit, False),
    "digits": _digits,
}


def given(model: Path, pool: Path, measured: Path, calibration: int) -> Subject:
    """A subject made of files: .npz with x (and y) for calibration and for measuring."""
    sets = [ArraySet(load_dataset(path)) for path in (pool, measured)]
    return divided(model.name, model, sets[0], sets[1], calibration)


def missing(name: str) -> str:
    """Why a subject can't be measured here; "" where it can."""
    if name == "digits":
        return "" if importlib.util.find_spec("sklearn") else "scikit-learn is not installed"
    if name == "resnet8-keras" and not has_tensorflow():
        return "tensorflow is not installed"
    return "" if SHARED.is_dir() else f"{SHARED} is not there"
