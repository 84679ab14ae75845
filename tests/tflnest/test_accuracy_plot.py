from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from tflnest.accuracy_plot import write_accuracy_plot
from tflnest.errors import MissingExtraError, UsageError
from tflnest.evaluation import Evaluation, LevelAccuracy

BLUE, ORANGE = "3b6fb6", "d9763a"


def evaluation(model="a.tflite", top1=(0.6, 0.7, 0.72), resident=(40_000, 60_000, 80_000), data="test.npz"):
    rows = [
        LevelAccuracy(level, share, 0.9, 0.5, 0.1, size, 1.0)
        for level, share, size in zip((4, 6, 8), top1, resident, strict=True)
    ]
    return Evaluation(model, data, 500, "reference", 90_000, tuple(rows))


def plain(model="int8.tflite"):
    return replace(evaluation(model), levels=(LevelAccuracy(8, 0.72, 1.0, 1.0, 0.0, None, 1.0),))


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, to be asked for lines and labels."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn = []
    original = Figure.savefig

    def savefig(self, *args, **options):
        drawn.append(self)
        return original(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return drawn


def colours(path):
    from matplotlib.image import imread

    image = imread(path)
    return {bytes(np.round(255 * pixel).astype(np.uint8)).hex() for pixel in image[:, :, :3].reshape(-1, 3)}


def test_one_curve_with_levels_and_units(figures, tmp_path):
    path = tmp_path / "plot.png"
    write_accuracy_plot([evaluation()], path)
    (axes,) = figures[0].axes
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xdata(), np.array([40_000, 60_000, 80_000]) / 1024)
    np.testing.assert_allclose(line.get_ydata(), [60, 70, 72])
    assert [text.get_text() for text in axes.texts] == ["level 4", "level 6", "level 8"]
    assert axes.get_xlabel() == "resident bytes (KiB)"
    assert axes.get_ylabel() == "top-1 accuracy (%)"
    assert axes.get_title(loc="left") == "500 samples of test.npz"
    assert BLUE in colours(path) and ORANGE not in colours(path)


def test_a_curve_per_file(figures, tmp_path):
    path = tmp_path / "plot.png"
    write_accuracy_plot([evaluation("one/a.tflite"), evaluation("two/b.tflite", (0.1, 0.2, 0.3))], path)
    (axes,) = figures[0].axes
    assert [line.get_label() for line in axes.lines] == ["a.tflite", "b.tflite"]
    assert [text.get_text() for text in axes.texts] == ["4", "6", "8"] * 2
    assert "numbers at the points: level" in axes.get_title(loc="left")
    assert {BLUE, ORANGE} <= colours(path)


def test_names_that_repeat_are_given_in_full(figures, tmp_path):
    write_accuracy_plot([evaluation("one/a.tflite"), evaluation("two/a.tflite")], tmp_path / "plot.png")
    assert [line.get_label() for line in figures[0].axes[0].lines] == ["one/a.tflite", "two/a.tflite"]


def test_a_plain_model_is_a_point_at_its_size(figures, tmp_path):
    write_accuracy_plot([evaluation(), plain()], tmp_path / "plot.png")
    line = figures[0].axes[0].lines[1]
    assert line.get_label() == "int8.tflite (whole file)"
    np.testing.assert_allclose([line.get_xdata(), line.get_ydata()], [[90_000 / 1024], [72]])


def test_without_labels_it_is_agreement(figures, tmp_path):
    unlabelled = evaluation(top1=(None, None, None))
    write_accuracy_plot([unlabelled, evaluation("b.tflite")], tmp_path / "plot.png")
    (axes,) = figures[0].axes
    assert axes.get_ylabel() == "agreement with the full-bit level (%)"
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [90, 90, 90])


def test_no_accuracy_above_100_is_on_the_axis(figures, tmp_path):
    write_accuracy_plot([evaluation(top1=(0.995, 1.0, 1.0))], tmp_path / "plot.png")
    (axes,) = figures[0].axes
    low, high = axes.get_ylim()
    assert low < 99.5 and high > 100
    assert max(axes.get_yticks()) <= 100


def test_the_same_figures_give_the_same_picture(figures, tmp_path):
    for name in ("a.png", "b.png"):
        write_accuracy_plot([evaluation()], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_picture_that_exists_is_kept_unless_forced(figures, tmp_path):
    path = tmp_path / "plot.png"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        write_accuracy_plot([evaluation()], path)
    assert path.read_bytes() == b"precious"
    write_accuracy_plot([evaluation()], path, force=True)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_curves_of_different_data_are_refused(figures, tmp_path):
    path = tmp_path / "plot.png"
    with pytest.raises(UsageError, match=r"500 samples of other\.npz, 500 samples of test\.npz"):
        write_accuracy_plot([evaluation(), evaluation(data="other.npz")], path)
    with pytest.raises(UsageError, match="here are none"):
        write_accuracy_plot([], path)
    assert not path.exists()


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="matplotlib") as caught:
        write_accuracy_plot([evaluation()], tmp_path / "plot.png")
    assert "tflnest[plot]" in (caught.value.hint or "")
