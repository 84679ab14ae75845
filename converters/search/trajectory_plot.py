"""The trajectory of a search in the plane of accuracy and bytes, as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from converters.search.searching import SearchResult, Step
from tflnest.errors import UsageError
from tflnest.files import check_writable, write_file
from tflnest.schema import require_extra

#: Colour and marker by what proposed an attempt.
_STYLES = {
    "full-bit": ("#5b6570", "s"),
    "uniform": ("#7a6a2f", "D"),
    "sigma": ("#d9763a", "^"),
    "divergence": ("#3b6fb6", "o"),
    "sensitivity": ("#3f8f5f", "v"),
}
_PATH, _TARGET, _GRID = "#b9c0c8", "#3f8f5f", "#d9dde2"
_KIB = 1024


def write_trajectory_plot(result: SearchResult, path: str | Path, force: bool = False) -> None:
    """Write a picture (PNG): every attempt by its bytes and accuracy, the search's path, the budgets, the best one.

    Args:
        result: The search.
        path: The picture.
        force: Overwrite it.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: The file exists and `force` is false, or the search has no attempt.
    """
    require_extra("matplotlib", "plot", "to draw the trajectory of a search")
    check_writable(path, force)
    if not result.trajectory:
        raise UsageError("a search without attempts has no trajectory")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(*_places(result.path), color=_PATH, linewidth=0.8, zorder=1)
    for phase, (colour, marker) in _STYLES.items():
        steps = [step for step in result.trajectory if step.phase == phase]
        if steps:
            places = _places(steps)
            axes.scatter(*places, color=colour, marker=marker, s=26, label=phase, zorder=3)
    axes.scatter(
        *_places([result.best]),
        facecolors="none",
        edgecolors="#b3261e",
        s=130,
        linewidths=1.6,
        label=f"best: {result.status}",
        zorder=4,
    )
    _draw_budgets(axes, result)
    _finish(axes, result)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120, metadata={"Software": None})
    write_file(path, image.getvalue(), force=force)


def _places(steps: tuple[Step, ...] | list[Step]) -> tuple[list[float], list[float]]:
    return [step.costs.bytes / _KIB for step in steps], [step.accuracy for step in steps]


def _draw_budgets(axes: Any, result: SearchResult) -> None:
    """The limits, and the target zone between them."""
    full = result.trajectory[0].accuracy
    least, most = full - result.budgets.max_drop, result.budgets.max_bytes / _KIB
    axes.axhline(least, color=_TARGET, linewidth=0.9, linestyle="--", zorder=2)
    axes.axvline(most, color=_TARGET, linewidth=0.9, linestyle="--", zorder=2)
    axes.fill_between([0, most], least, 100, color=_TARGET, alpha=0.07, linewidth=0, label="target zone")


def _finish(axes: Any, result: SearchResult) -> None:
    heights = [step.accuracy for step in result.trajectory]
    margin = max(max(heights) - min(heights), 2.0) * 0.08
    axes.set_ylim(max(min(heights) - margin, 0), min(max(heights) + margin, 100))
    axes.set_xlim(0, max(step.costs.bytes for step in result.trajectory) / _KIB * 1.05)
    axes.set_xlabel("filters (KiB)")
    axes.set_ylabel("top-1 accuracy on the validation samples (%)")
    count = len(result.trajectory)
    axes.set_title(
        f"{count:,} attempts; drop at most {result.budgets.max_drop:g} points, "
        f"at most {result.budgets.max_bytes:,} bytes",
        fontsize=10,
        loc="left",
    )
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


__all__ = ["write_trajectory_plot"]
