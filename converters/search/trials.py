"""Attempts of a search: measured as independent jobs, written down as soon as they are known.

The journal is one JSON document, rewritten as a whole after every attempt, so that a search that was killed goes
on where it stopped: the same search finds its attempts in it and measures only what is missing.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from converters.search.backends import check_backend, results, running
from tflnest.errors import FormatError, UsageError
from tflnest.files import read_file, write_file
from tflnest.progress import Progress, silent

#: Version of the journal; the second one keeps the loss of every sample.
JOURNAL_VERSION = 2

Widths = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Score:
    """What was measured of a model.

    Attributes:
        accuracy: In percent.
        losses: Cross-entropy of the label of every sample in nats, float32 (samples,), at least one; samples in the
            same order for all models, so that two of them can be compared sample by sample.
    """

    accuracy: float
    losses: NDArray[np.float32]

    @property
    def loss(self) -> float:
        """Mean cross-entropy: it tells models apart that chance gives the same accuracy."""
        return float(self.losses.mean(dtype=np.float64))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Score):
            return NotImplemented
        return self.accuracy == other.accuracy and np.array_equal(self.losses, other.losses)


class Measure(Protocol):
    """Builds the model of an assignment and measures it; can be sent to another process."""

    def __call__(self, widths: Widths) -> Score:
        """Score of a model whose layers have these widths; 8 everywhere is the full-bit model."""
        ...

    def key(self) -> str:
        """What the measurements depend on: a journal with another key is not used."""
        ...


@dataclass(frozen=True)
class Attempt:
    """An assignment that was measured.

    Attributes:
        widths: Bits of every layer.
        score: What was measured.
    """

    widths: Widths
    score: Score


class Trials:
    """Measures assignments, each only once.

    Args:
        measure: How.
        jobs: How many at a time; -1 for one per core.
        backend: One of `BACKENDS`. Dask and Ray use the cluster that is there.
        cluster: Its address; see `backends.running`.
        journal: File that keeps the attempts; None keeps them in memory.
        progress: Told of every attempt.

    Raises:
        UsageError: There is no such backend, or the journal belongs to another search.
        FormatError: The journal is corrupt.
    """

    def __init__(
        self,
        measure: Measure,
        *,
        jobs: int = 1,
        backend: str = "loky",
        cluster: str | None = None,
        journal: str | Path | None = None,
        progress: Progress = silent,
    ) -> None:
        check_backend(backend, cluster)
        if jobs == 0 or jobs < -1:
            raise UsageError(
                f"{jobs} attempts at a time make no sense", "give 1 or more, or -1 for one per core"
            )
        self._measure = measure
        self._jobs = jobs
        self._backend, self._cluster = backend, cluster
        self._journal = Path(journal) if journal is not None else None
        self._progress = progress
        self._key = "" if self._journal is None else measure.key()
        self._known: dict[Widths, Score] = {}
        if self._journal is not None and self._journal.exists():
            self._known = _read_journal(self._journal, self._key)

    def __call__(self, assignments: Sequence[Widths]) -> list[Attempt]:
        """Measure assignments, those that are not known yet side by side."""
        missing = [widths for widths in dict.fromkeys(assignments) if widths not in self._known]
        if missing:
            self._run(missing)
        return [Attempt(widths, self._known[widths]) for widths in assignments]

    def _run(self, missing: Sequence[Widths]) -> None:
        import joblib

        total = len(self._known) + len(missing)
        self._progress("searching", len(self._known), total)
        jobs = self._jobs if self._jobs < 0 else min(self._jobs, len(missing))
        with running(self._backend, jobs, self._measure, self._cluster):
            calls = [joblib.delayed(_attempt)(self._measure, widths) for widths in missing]
            for attempt in results(self._backend, calls):
                self._known[attempt.widths] = attempt.score
                self._store()
                self._progress("searching", len(self._known), total)

    def _store(self) -> None:
        if self._journal is None:
            return
        document = {
            "schema_version": JOURNAL_VERSION,
            "search": self._key,
            "attempts": [
                {
                    "widths": list(widths),
                    "accuracy": score.accuracy,
                    "loss": score.loss,
                    "losses": _packed(score.losses),
                }
                for widths, score in self._known.items()
            ],
        }
        write_file(self._journal, (json.dumps(document, indent=1) + "\n").encode(), force=True)


def _packed(losses: NDArray[np.float32]) -> str:
    """Losses as text: few values occur, so that they take little room when deflated."""
    return base64.b64encode(zlib.compress(losses.astype("<f4").tobytes())).decode()


def _unpacked(text: str) -> NDArray[np.float32]:
    losses = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), "<f4")
    if losses.size == 0:
        raise ValueError("an attempt has no losses")
    return losses.astype(np.float32)


def _attempt(measure: Measure, widths: Widths) -> Attempt:
    return Attempt(widths, measure(widths))


def _read_journal(path: Path, key: str) -> dict[Widths, Score]:
    try:
        document: Any = json.loads(read_file(path))
        version, owner = document["schema_version"], document["search"]
        if version != JOURNAL_VERSION:
            raise FormatError(
                f"{path}: is a journal of version {version}, this tflnest reads version {JOURNAL_VERSION}",
                "choose another file, or delete it to start anew",
            )
        attempts = {
            tuple(int(width) for width in item["widths"]): Score(
                float(item["accuracy"]), _unpacked(item["losses"])
            )
            for item in document["attempts"]
        }
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise FormatError(
            f"{path}: is no journal of a search: {error}", "choose another file, or delete it"
        ) from error
    if owner != key:
        raise UsageError(
            f"{path}: belongs to a search of another model, other data or other options",
            "choose another file, or delete it to start anew",
        )
    return attempts
