"""When a model runs at which level: `4@0,8@10,4@20` is level 4 first, 8 from inference 10, 4 again from 20."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tflnest.errors import UsageError

_ENTRY = re.compile(r"\s*(\d{1,3})\s*@\s*(\d{1,9})\s*")
_EXAMPLE = 'write level@inference with commas between, for example "4@0,8@10,4@20"'


@dataclass(frozen=True)
class Switch:
    """A change of level.

    Attributes:
        level: The level to run at.
        inference: Number of inferences that are finished before the change.
    """

    level: int
    inference: int

    def __str__(self) -> str:
        return f"{self.level}@{self.inference}"


def parse_schedule(text: str) -> tuple[Switch, ...]:
    """Read a schedule.

    Raises:
        UsageError: It is not a list of level@inference that starts at 0 and increases.
    """
    switches = []
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise UsageError(f"{entry.strip()!r} in the schedule {text!r} is not level@inference", _EXAMPLE)
        switches.append(Switch(int(match[1]), int(match[2])))
    if switches[0].inference != 0:
        raise UsageError(
            f"the schedule {text!r} starts at inference {switches[0].inference}, not at 0", _EXAMPLE
        )
    for before, after in pairwise(switches):
        if after.inference <= before.inference:
            raise UsageError(f"in the schedule {text!r}, {after} does not come after {before}", _EXAMPLE)
    return tuple(switches)


def check_levels(schedule: Sequence[Switch], levels: Sequence[int]) -> None:
    """Refuse levels that the model does not have.

    Raises:
        UsageError: The schedule names one.
    """
    for switch in schedule:
        if switch.level not in levels:
            names = ", ".join(str(level) for level in levels)
            raise UsageError(
                f"the schedule has {switch}, and the model has no level {switch.level}", f"levels: {names}"
            )


def level_at(schedule: Sequence[Switch], inference: int) -> int:
    """The level of an inference, counted from 0."""
    return next(switch.level for switch in reversed(schedule) if switch.inference <= inference)
