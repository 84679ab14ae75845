"""Layers into groups of like sigma: one-dimensional k-means with a penalty on uneven groups (SigmaQuant, phase 1).

The objective is the sum of squared distances from the centroids plus `penalty` times the squared difference of
each group's size from the even one. The paper prints no scale for sigma; here it is divided by its largest value
over the layers, so that the penalty means the same for every network. It weighs in per layer (divided by
their number), and each assignment counts it, so that the objective never rises and the loop ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_SWEEPS = 50


def cluster(values: Sequence[float], groups: int, penalty: float) -> NDArray[np.int64]:
    """Group numbers on a line.

    Args:
        values: At least one, none negative.
        groups: 1 or more; groups may stay empty.
        penalty: 0 or more; large values force groups of the same size.

    Returns:
        The group of each value, 0 to groups - 1, by rising centroid.
    """
    points = np.asarray(values, dtype=np.float64)
    points = points / max(float(points.max()), np.finfo(np.float64).tiny)
    centroids = np.quantile(points, (np.arange(groups) + 0.5) / groups)
    assigned = np.abs(points[:, None] - centroids).argmin(axis=1)
    for _ in range(MAX_SWEEPS):
        changed = _sweep(points, assigned, centroids, penalty)
        for group in range(groups):
            members = points[assigned == group]
            if members.size:
                centroids[group] = members.mean()
        if not changed:
            break
    rank = np.argsort(np.argsort(centroids, kind="stable"), kind="stable")
    result: NDArray[np.int64] = rank[assigned].astype(np.int64)
    return result


def _sweep(
    points: NDArray[np.float64], assigned: NDArray[np.int64], centroids: NDArray[np.float64], penalty: float
) -> bool:
    """Move every point to the group where it costs least; whether any moved."""
    even = len(points) / len(centroids)
    sizes = np.bincount(assigned, minlength=len(centroids)).astype(np.float64)
    changed = False
    for number, point in enumerate(points):
        sizes[assigned[number]] -= 1
        growth = (sizes + 1 - even) ** 2 - (sizes - even) ** 2
        best = int(np.argmin((point - centroids) ** 2 + penalty / len(points) * growth))
        changed |= best != assigned[number]
        assigned[number] = best
        sizes[best] += 1
    return changed
