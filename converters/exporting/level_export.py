"""What an export of one level is, whatever its file looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tflnest.model import Model


class FilterReport(Protocol):
    """What became of one filter."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""


Report = TypeVar("Report", bound=FilterReport, covariant=True)


@dataclass(frozen=True)
class LevelExport(Generic[Report]):
    """A level of a model in a file of its own.

    Attributes:
        model: The file.
        level: The level that it computes, or stands for; None for a plain model.
        filters: One entry per operator with a filter, in order.
        int8_bytes: Size of the whole model as a stock int8 file (of the full-bit level).
    """

    model: Model
    level: int | None
    filters: tuple[Report, ...]
    int8_bytes: int

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return len(self.model.to_bytes())

    def facts(self) -> dict[str, Any]:
        """What only this kind of export knows, for JSON."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "level": self.level,
            "bytes": self.bytes,
            "int8_bytes": self.int8_bytes,
            **self.facts(),
            "filters": [item.to_dict() for item in self.filters],
        }
