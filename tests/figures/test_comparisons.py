"""Bars and lines that compare methods: what stands on the axes, and that nothing of it covers anything else."""

import itertools
import math
import statistics

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

from diffnmf.figures.comparisons import BAR_NOTE, save_bars, save_lines, sorted_in_groups

METHODS = [f"method {index} with a rather long name" for index in range(10)]


@pytest.fixture
def saved(monkeypatch):
    """The figures that are saved, in order."""
    figures = []
    savefig = Figure.savefig

    def spy(figure, *args, **kwargs):
        figures.append(figure)
        return savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return figures


def bars(ax):
    """place -> the patch of its bar."""
    patches = [container.patches[0] for container in ax.containers if isinstance(container, BarContainer)]
    return {round(patch.get_y() + patch.get_height() / 2): patch for patch in patches}


def numbers(ax):
    """place -> the text that stands there."""
    return {text.xy[1]: text.get_text() for text in ax.texts}


def shown(figure):
    return [ax for ax in figure.axes if ax.axison]


class TestBars:
    def test_mean_deviation_and_seeds(self, saved, tmp_path):
        values = [1.0, 2.0, 4.0]
        save_bars(tmp_path / "bars.png", {"a": {"eps": values}, "b": {"eps": [8.0]}}, {"eps": "Eq. (4) ↓"})
        (ax,) = shown(saved[0])
        assert bars(ax)[0].get_width() == pytest.approx(7 / 3)
        assert bars(ax)[1].get_width() == 8.0
        (errors,) = (container for container in ax.containers if isinstance(container, ErrorbarContainer))
        ((start, end),) = errors.lines[2][0].get_segments()  # none for the method with a single seed
        assert (end - start)[0] == pytest.approx(2 * statistics.stdev(values))
        (dots,) = (dots for dots in ax.collections if len(dots.get_offsets()) == 3)
        assert dots.get_offsets()[:, 0].tolist() == values
        assert numbers(ax) == {0: "2.33", 1: "8.00"}
        assert ax.get_title() == "Eq. (4) ↓"
        assert saved[0].get_supxlabel() == BAR_NOTE

    def test_groups_stand_apart_each_below_its_name(self, saved, tmp_path):
        rows = {"a": {"s": [1.0]}, "b": {"s": [2.0]}, "c": {"s": [3.0]}}
        save_bars(tmp_path / "bars.png", rows, {"s": "S"}, groups={"a": "One", "b": "Two", "c": "Two"})
        (ax,) = shown(saved[0])
        assert {place: bar.get_width() for place, bar in bars(ax).items()} == {1: 1.0, 3: 2.0, 4: 3.0}
        labels = ax.get_yticklabels()
        assert [label.get_text() for label in labels] == ["One", "a", "Two", "b", "c"]
        assert [label.get_fontweight() for label in labels] == ["bold", "normal", "bold", "normal", "normal"]
        assert numbers(ax) == {1: "1.00", 3: "2.00", 4: "3.00"}

    def test_sorted_in_groups(self):
        errors = {"a": [2.0], "b": [3.0], "c": [1.0, 2.0], "d": [math.nan], "e": [], "f": [1.0], "g": [math.inf]}
        rows = {name: {"error": values} for name, values in errors.items()}
        groups = {"a": "one", "b": "two", "c": "two", "d": "two", "e": "none", "f": "one", "g": "none"}
        assert sorted_in_groups(rows, "error", groups) == ["f", "a", "c", "b", "d", "e", "g"]

    def test_a_method_has_one_place_and_one_look(self, saved, tmp_path):
        rows = {name: {"x": [1.0 + i], "y": [2.0]} for i, name in enumerate(METHODS)}
        del rows[METHODS[2]]["y"]
        save_bars(tmp_path / "bars.png", rows, {"x": "X", "y": "Y"})
        left, right = shown(saved[0])
        looks = {place: (bar.get_edgecolor(), bar.get_hatch()) for place, bar in bars(left).items()}
        assert len(set(looks.values())) == 10
        for place, bar in bars(right).items():
            assert same_color(bar.get_edgecolor(), looks[place][0])
            assert bar.get_hatch() == looks[place][1]
        assert set(bars(right)) == set(range(10)) - {2}
        assert numbers(right)[2] == "not run"
        assert left.get_ylim()[0] > left.get_ylim()[1]  # the first on top
        assert [label.get_text() for label in left.get_yticklabels()] == METHODS
        assert not any(label.get_visible() and label.get_text() for label in right.get_yticklabels())

    @pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 3)), (8, (2, 4))])
    def test_more_than_four_panels_stand_in_two_lines(self, saved, tmp_path, count, grid):
        save_bars(tmp_path / "bars.svg", {"a": {}}, {f"score {i}": f"Score {i}" for i in range(count)})
        assert saved[0].axes[0].get_gridspec().get_geometry() == grid
        assert [ax.get_title() for ax in shown(saved[0])] == [f"Score {i}" for i in range(count)]

    def test_what_is_not_finite_is_left_out_and_said(self, saved, tmp_path):
        rows = {"a": {"s": [1.0, math.nan, 3.0]}, "b": {"s": [math.inf]}, "c": {"s": []}, "d": {"s": [12345.0]}}
        save_bars(tmp_path / "bars.png", rows, {"s": "S"})
        (ax,) = shown(saved[0])
        assert numbers(ax) == {0: "2.00 (2 of 3 seeds)", 1: "no finite value", 2: "not run", 3: "12,345"}
        assert set(bars(ax)) == {0, 3}

    @pytest.mark.parametrize(("count", "title"), [(1, "Ten methods, $1 each. " * 5), (4, ""), (5, "Ten methods")])
    def test_nothing_overlaps_or_is_cut_off(self, saved, tmp_path, count, title):
        random = np.random.default_rng(0)
        scales = {"eps": 10.0, "time in Eq. (4) (0 to a week, less is better)": 1e4, "gain": -1.0, "x": 1.0, "y": 0.0}
        rows = {name: {score: random.normal(s, abs(s) / 5, 3) for score, s in scales.items()} for name in METHODS}
        rows["$x_1$"] = {"eps": [9.0, math.nan, 20.0]}
        rows[METHODS[0]]["gain"], rows[METHODS[1]]["gain"] = [5.0, 6.0], [-4.0, -5.0]
        save_bars(tmp_path / "bars.png", rows, {score: score for score in list(scales)[:count]}, title=title)
        figure = saved[0]
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        for ax in shown(figure):
            (left, _), (right, _) = ax.bbox.get_points()
            for text in ax.texts:
                box = text.get_window_extent(renderer)
                assert left <= box.x0 <= box.x1 <= right + 3
        parts = [ax.get_tightbbox(renderer) for ax in shown(figure)]
        parts += [text.get_window_extent(renderer) for text in figure.texts if text.get_text()]
        assert len(parts) == count + 1 + bool(title)
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in parts)
        assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in parts)
        assert not any(one.overlaps(other) for one, other in itertools.combinations(parts, 2))

    def test_nothing_to_show_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match="rows: expected at least one"):
            save_bars(tmp_path / "bars.png", {}, {"s": "S"})
        with pytest.raises(ValueError, match="panels: expected at least one"):
            save_bars(tmp_path / "bars.png", {"a": {}}, {})


class TestLines:
    def test_points_errors_and_looks(self, saved, tmp_path):
        curves = {name: [(k, k + i, 0.5 * k) for k in (1, 2, 4)] for i, name in enumerate(METHODS)}
        save_lines(tmp_path / "lines.png", curves, title="Title", x="components k", y="eq. (4)")
        (ax,) = shown(saved[0])
        lines = [container.lines for container in ax.containers]
        assert [list(zip(*line.get_data(), strict=True)) for line, _, _ in lines[:2]] == [
            [(1, 1), (2, 2), (4, 4)],
            [(1, 2), (2, 3), (4, 5)],
        ]
        assert [end - start for (_, start), (_, end) in lines[0][2][0].get_segments()] == [1, 2, 4]
        looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line, _, _ in lines}
        assert len(looks) == 10
        for part in range(3):
            assert len({look[part] for look in looks}) >= 4  # each of the three alone helps to tell them apart
        assert [text.get_text() for text in saved[0].legends[0].get_texts()] == METHODS
        assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("Title", "components k", "eq. (4)")

    def test_what_is_not_finite_is_passed_over(self, saved, tmp_path):
        points = [(1.0, 2.0, math.nan), (2.0, math.nan, 0.1), (3.0, 4.0, 0.1), (4.0, 4.0, math.inf)]
        save_lines(tmp_path / "lines.png", {"$a_1": points, "none": []}, title="", x="", y="")
        first, second = shown(saved[0])[0].containers
        assert first.lines[0].get_xdata().tolist() == [1.0, 3.0, 4.0]
        (drawn,) = (s for s in first.lines[2][0].get_segments() if len(s) == 2 and np.isfinite(s).all())
        assert drawn[:, 1].tolist() == pytest.approx([3.9, 4.1])
        assert second.lines[0].get_xdata().tolist() == []

    def test_ticks_stand_where_was_measured_if_there_is_room(self, saved, tmp_path):
        for settings in ((5, 10, 20, 30), (0.0, 0.05, 0.1), (3,), (1, 2, 3, 500), range(100)):
            save_lines(tmp_path / "lines.png", {"a": [(x, 1.0, 0.0) for x in settings]}, title="", x="", y="")
        ticks = [shown(figure)[0].get_xticks().tolist() for figure in saved]
        assert ticks[:3] == [[5, 10, 20, 30], [0.0, 0.05, 0.1], [3]]
        assert 3 not in ticks[3]
        assert len(ticks[4]) < 15

    def test_nothing_to_show_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match="curves: expected at least one"):
            save_lines(tmp_path / "lines.png", {}, title="", x="", y="")
