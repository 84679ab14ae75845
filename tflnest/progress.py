"""How long work reports its progress: a callback, so that only the command line draws."""

from __future__ import annotations

from collections.abc import Callable

#: Called as `progress(stage, done, total)`: what is being done, and how many of how many units are done.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""
