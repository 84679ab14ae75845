"""Tables of the widths that operators ran with, for all verbs that show them."""

from __future__ import annotations

from collections.abc import Sequence

from tflnest.cli import ui
from tflnest.widths import OperatorWidths

_SHARES = "weight bits x activation bits: share of the runs"


def show_widths(screen: ui.Screen, operators: Sequence[OperatorWidths]) -> None:
    """How often each operator ran with which widths."""
    screen.line()
    screen.table(
        ["operator", "MACs", _SHARES],
        [
            (
                f"{item.index} {item.label}",
                f"{item.macs:,}",
                ", ".join(
                    f"{weight}x{activation}: {ui.percent(share)}"
                    for (weight, activation), share in item.shares.items()
                ),
            )
            for item in operators
        ],
        left=["operator", _SHARES],
    )


def millions(bit_operations: float) -> str:
    """Bit operations as tables show them."""
    return f"{bit_operations / 1e6:,.2f} M"
