"""What happened on the board, event by event."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    """What can happen."""

    START = "start"
    PAGE_IN = "page-in"
    PAGE_OUT = "page-out"
    LEVEL = "level"
    INFERENCE = "inference"


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        kind: What happened.
        inference: Number of inferences that were finished before it.
        seconds: Estimated time since the start.
        level: Level that the model runs at after the event; None before the first.
        page: Index of the page that moved; None for other events.
        placement: Where the page resides: "flash", "sram" or "host"; None for other events.
        moved_bytes: Bytes copied into SRAM or dropped from it.
        link_bytes: Bytes that came over the link to the host.
        sram_used_bytes: SRAM in use after the event, stack reserve included.
        resident_pages: Pages that can be read after the event.
        widths: Bits of weights and activation of every operator with a filter in this inference, where a controller
            chose them; empty otherwise. The operators are those of `Simulation.widths`.
    """

    kind: EventKind
    inference: int
    seconds: float
    level: int | None
    sram_used_bytes: int
    resident_pages: tuple[int, ...]
    page: int | None = None
    placement: str | None = None
    moved_bytes: int = 0
    link_bytes: int = 0
    widths: tuple[tuple[int, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The event for a report in JSON."""
        return {**asdict(self), "kind": str(self.kind), "resident_pages": list(self.resident_pages)}


@dataclass
class Trace:
    """All events, in order.

    Attributes:
        events: The events.
    """

    events: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Append an event."""
        self.events.append(event)

    def of(self, *kinds: EventKind) -> list[Event]:
        """The events of some kinds."""
        return [event for event in self.events if event.kind in kinds]
