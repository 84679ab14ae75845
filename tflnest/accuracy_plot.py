"""The accuracy of levels against the bytes they need, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tflnest.errors import UsageError
from tflnest.evaluation import Evaluation
from tflnest.files import check_writable, write_file
from tflnest.schema import require_extra

_COLOURS = ("#3b6fb6", "#d9763a", "#3f8f5f", "#8f3d6b", "#7a6a2f", "#4d4f8f", "#b3261e", "#5b6570")
_GRID = "#d9dde2"
#: Where labels stand, in points from theirs; each curve has a place of its own, so that labels stay apart.
_OFFSETS = ((0, 7), (0, -7), (-6, 4), (6, -4), (6, 4), (-6, -4))
_KIB = 1024
#: Room above and below the curves for the labels, as a part of the axis.
_MARGIN = 0.12
#: Narrowest axis of accuracy, in percentage points: less than this is noise, drawn as a mountain range.
_LEAST_SPAN = 2.0


def write_accuracy_plot(evaluations: Sequence[Evaluation], path: str | Path, force: bool = False) -> None:
    """Write a picture (PNG) of accuracy against resident bytes, one curve per model, a label at each level.

    Accuracy is top-1 where all the evaluations have it, else the agreement with each model's own full-bit
    level. A plain model has no pages: it is a hollow point at the size of its file.

    Args:
        evaluations: At least one; those of several models are comparable on the same data only.
        path: The picture.
        force: Overwrite it.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: There are no evaluations, they are of different data, or the file exists and `force` is
            false.
    """
    require_extra("matplotlib", "plot", "to draw accuracy against bytes")
    check_writable(path, force)
    samples = sorted({(item.data, item.samples) for item in evaluations})
    if len(samples) != 1:
        found = ", ".join(f"{count:,} samples of {data}" for data, count in samples) or "none"
        raise UsageError(f"the curves of one picture are of the same data, and here are {found}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    labelled = all(row.top1 is not None for item in evaluations for row in item.levels)
    names = _names([item.model for item in evaluations])
    for number, (name, item) in enumerate(zip(names, evaluations, strict=True)):
        _draw_curve(axes, item, name, number, labelled, "level {}" if len(names) == 1 else "{}")
    note = "" if len(names) == 1 else "; numbers at the points: level"
    _finish(axes, labelled, f"{samples[0][1]:,} samples of {Path(samples[0][0]).name}{note}")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120, metadata={"Software": None})
    write_file(path, image.getvalue(), force=force)


def _names(models: Sequence[str]) -> list[str]:
    """File names for the legend; whole paths where names repeat."""
    short = [Path(model).name or "model" for model in models]
    return short if len(set(short)) == len(short) else [model or "model" for model in models]


def _draw_curve(axes: Any, evaluation: Evaluation, name: str, number: int, labelled: bool, text: str) -> None:
    """One curve; `text` is the label of a level, with a place for its number."""
    colour = _COLOURS[number % len(_COLOURS)]
    nested = all(row.resident_bytes is not None for row in evaluation.levels)
    x = [
        (evaluation.file_bytes if row.resident_bytes is None else row.resident_bytes) / _KIB
        for row in evaluation.levels
    ]
    y = [
        100 * (row.top1 if labelled and row.top1 is not None else row.agreement) for row in evaluation.levels
    ]
    axes.plot(
        x,
        y,
        color=colour,
        marker="o" if nested else "s",
        markerfacecolor=colour if nested else "none",
        linewidth=1.6 if nested else 0,
        markersize=6,
        label=name if nested else f"{name} (whole file)",
        zorder=3,
    )
    if not nested:
        return
    right, up = _OFFSETS[number % len(_OFFSETS)]
    for row, left, height in zip(evaluation.levels, x, y, strict=True):
        axes.annotate(
            text.format(row.level),
            (left, height),
            xytext=(right, up),
            textcoords="offset points",
            ha=("right", "center", "left")[(right > 0) - (right < 0) + 1],
            va="bottom" if up > 0 else "top",
            fontsize=8,
            color=colour,
        )


def _finish(axes: Any, labelled: bool, title: str) -> None:
    """Limits, names and units of the axes, legend and title."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    span = max(high - low, _LEAST_SPAN)
    middle = (low + high) / 2
    axes.set_ylim(middle - span * (0.5 + _MARGIN), middle + span * (0.5 + _MARGIN))
    axes.set_yticks([tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= 100])
    axes.set_xlim(0, axes.dataLim.x1 * 1.08)
    axes.set_xlabel("resident bytes (KiB)")
    axes.set_ylabel("top-1 accuracy (%)" if labelled else "agreement with the full-bit level (%)")
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


__all__ = ["write_accuracy_plot"]
