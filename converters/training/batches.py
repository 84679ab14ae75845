"""Training samples in batches: shuffled and augmented, the same ones again for the same seed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from converters.training.job import Augmentation


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no type information
    """Batches of equal size; the samples that remain are left out, others in each epoch.

    What a batch holds depends on seed, epoch and position alone, so that a training that was stopped goes on with
    what it would have seen.

    Args:
        x: Samples first.
        y: Class numbers.
        batch: Samples per step; all of them where there are fewer.
        seed: For order and augmentation.
        augmentation: What is done to each sample.
        epoch: The first epoch.
    """

    def __init__(
        self,
        x: NDArray[Any],
        y: NDArray[np.int64],
        batch: int,
        seed: int,
        augmentation: Augmentation,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self._x, self._y = x, y
        self._batch = min(batch, len(x))
        self._seed, self._augmentation = seed, augmentation
        self._epoch = epoch
        self._order = self._shuffled()

    def __len__(self) -> int:
        return len(self._x) // self._batch

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        rng = np.random.default_rng((self._seed, self._epoch, index))
        x = np.asarray(self._x[chosen], np.float32)
        if self._augmentation.shift:
            x = shifted(x, self._augmentation.shift, rng)
        if self._augmentation.flip:
            flipped = rng.random(len(x)) < 0.5
            x[flipped] = x[flipped, :, ::-1]
        return x, self._y[chosen]

    def on_epoch_end(self) -> None:
        """See Keras: shuffle anew."""
        self._epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> NDArray[np.int64]:
        return np.random.default_rng((self._seed, self._epoch)).permutation(len(self._x))


def shifted(images: NDArray[np.float32], most: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Images moved at random, their edges mirrored.

    Args:
        images: Shape (images, height, width, channels).
        most: Pixels in each direction.
        rng: Draws the moves.
    """
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="reflect")
    moves = rng.integers(0, 2 * most + 1, (2, count, 1))
    rows, columns = moves[0] + np.arange(height), moves[1] + np.arange(width)
    moved: NDArray[np.float32] = padded[
        np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return moved
