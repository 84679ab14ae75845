"""The picture of a search."""

from __future__ import annotations

import pytest

from converters.search.budgets import Budgets
from converters.search.searching import search_widths
from converters.search.trajectory_plot import write_trajectory_plot
from converters.search.trials import Trials
from tests.converters.search.test_searching import FULL, Formula, model
from tflnest.errors import UsageError


@pytest.mark.parametrize("max_drop", [3.0, 0.01])
def test_every_attempt_and_the_budgets_are_drawn(tmp_path, max_drop):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []
    original = figure.Figure.savefig

    def kept(self, *arguments, **options):
        drawn.append(self.axes[0])
        return original(self, *arguments, **options)

    result = search_widths(model(), Budgets(max_drop, int(0.4 * FULL)), Trials(Formula()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure.Figure, "savefig", kept)
        write_trajectory_plot(result, tmp_path / "search.png")
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    places = {
        (round(x, 6), round(y, 6)) for scatter in drawn[0].collections for x, y in scatter.get_offsets()
    }
    for step in result.trajectory:
        assert (round(step.costs.bytes / 1024, 6), round(step.accuracy, 6)) in places
    legend = [text.get_text() for text in drawn[0].get_legend().get_texts()]
    assert f"best: {result.status}" in legend and "target zone" in legend
    assert {step.phase for step in result.trajectory} <= set(legend)


def test_a_picture_is_not_overwritten(tmp_path):
    (tmp_path / "search.png").write_text("precious")
    result = search_widths(model(), Budgets(3.0, int(0.4 * FULL)), Trials(Formula()))
    with pytest.raises(UsageError, match="exists already"):
        write_trajectory_plot(result, tmp_path / "search.png")
    assert (tmp_path / "search.png").read_text() == "precious"
