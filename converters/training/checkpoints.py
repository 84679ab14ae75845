"""Checkpoints of a training: the last finished epoch, complete at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tflnest.errors import FormatError, TflnestError
from tflnest.files import read_file, write_file

#: Where a folder of checkpoints says which one counts.
STATE = "state.json"
VERSION = 1


@dataclass(frozen=True)
class EpochResult:
    """An epoch that is done.

    Attributes:
        epoch: The first one is 1.
        loss: Mean of its steps, all levels together.
        accuracy: Share of validation samples, by level, that the exported model gets right; empty without any.
        seconds: Time that it took.
    """

    epoch: int
    loss: float
    accuracy: Mapping[int, float]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        accuracy = {str(level): value for level, value in self.accuracy.items()}
        return {"epoch": self.epoch, "loss": self.loss, "accuracy": accuracy, "seconds": self.seconds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpochResult:
        """Invert `to_dict`."""
        accuracy = {int(level): float(value) for level, value in values["accuracy"].items()}
        return cls(int(values["epoch"]), float(values["loss"]), accuracy, float(values["seconds"]))


@dataclass(frozen=True)
class Checkpoints:
    """A folder of checkpoints.

    Attributes:
        folder: Made when the first one is saved.
        key: What must be the same for a training to go on: it names model, levels and samples.
    """

    folder: Path
    key: str

    def load(self) -> tuple[Path, tuple[EpochResult, ...]] | None:
        """The last checkpoint and the epochs up to it; None where there is none.

        Raises:
            FormatError: The folder holds something else, or a checkpoint of another training.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        hint = f"remove the folder {self.folder}, or start anew with --restart"
        try:
            state = json.loads(read_file(path))
            if state["version"] != VERSION:
                raise FormatError(f"{path}: version {state['version']}, {VERSION} was expected", hint)
            history = tuple(map(EpochResult.from_dict, state["history"]))
            checkpoint, key = self.folder / Path(state["checkpoint"]).name, state["key"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{path}: holds no checkpoint ({error!r})", hint) from None
        if key != self.key:
            raise FormatError(f"{self.folder}: holds a training of another model, other levels or data", hint)
        if not checkpoint.is_file():
            raise FormatError(f"{path}: names {checkpoint.name}, which is not there", hint)
        return checkpoint, history

    def save(self, network: Any, history: tuple[EpochResult, ...]) -> Path:
        """Keep a network after an epoch, and drop the one before.

        Raises:
            TflnestError: It could not be written; the last checkpoint stays.
        """
        path = self.folder / f"epoch-{history[-1].epoch:04}.keras"
        partial = self.folder / f".{path.name}"  # Keras wants the ending
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            network.save(partial)
            partial.replace(path)
        except OSError as error:
            raise TflnestError(
                f"{path}: could not be written: {error.strerror or error}",
                "free some space; the same command then goes on from the last checkpoint",
            ) from error
        state = {
            "version": VERSION,
            "key": self.key,
            "checkpoint": path.name,
            "history": [epoch.to_dict() for epoch in history],
        }
        write_file(self.folder / STATE, json.dumps(state, indent=2).encode(), force=True)
        for other in self.folder.glob("epoch-*.keras"):
            if other != path:
                other.unlink()
        return path

    def remove(self) -> None:
        """Forget all checkpoints."""
        for path in (*self.folder.glob("*.keras"), *self.folder.glob(".*.keras"), self.folder / STATE):
            path.unlink(missing_ok=True)
