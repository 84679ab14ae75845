"""Batches of training samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.training.job import Augmentation

pytest.importorskip("keras", reason="the keras extra is not installed")

X = np.arange(10 * 4 * 4, dtype=np.float32).reshape(10, 4, 4, 1)
Y = np.arange(10)


def batches(batch: int = 4, seed: int = 0, epoch: int = 0, **augmentation: Any) -> Any:
    from converters.training.batches import Batches

    return Batches(X, Y, batch, seed, Augmentation(**augmentation), epoch)


def test_an_epoch_has_every_sample_at_most_once_with_its_label() -> None:
    data = batches()
    seen = [data[index] for index in range(len(data))]
    labels = np.concatenate([y for _, y in seen])
    assert len(data) == 2 and len(set(labels)) == 8
    np.testing.assert_array_equal(np.concatenate([x for x, _ in seen]), X[labels])


def test_a_batch_is_no_larger_than_the_data() -> None:
    data = batches(batch=64)
    assert len(data) == 1 and sorted(data[0][1]) == list(Y)


def test_epochs_differ_and_come_again() -> None:
    options = {"flip": True, "shift": 2}
    data = batches(**options)
    first = data[1]
    data.on_epoch_end()
    second = data[1]
    assert not np.array_equal(first[1], second[1])
    for kept, epoch in ((first, 0), (second, 1)):
        again = batches(epoch=epoch, **options)
        np.testing.assert_array_equal(again[1][0], kept[0])
        np.testing.assert_array_equal(again[1][1], kept[1])
    assert not np.array_equal(batches(seed=1, **options)[1][1], first[1])


def test_flipping_mirrors_some_images_left_to_right() -> None:
    x, y = batches(batch=10, flip=True)[0]
    same = (x == X[y]).all((1, 2, 3))
    mirrored = (x == X[y][:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all() and 0 < same.sum() < 10


def test_shifting_moves_windows_of_the_mirrored_image() -> None:
    x, y = batches(batch=10, shift=1)[0]
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    places = set()
    for image, label in zip(x, y, strict=True):
        found = [
            (row, column)
            for row in range(3)
            for column in range(3)
            if np.array_equal(image, padded[label, row : row + 4, column : column + 4])
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 1
