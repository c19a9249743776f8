"""The pictures: every pixel of a montage, what the files show, and that a failing write destroys nothing."""

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from diffnmf.figures.curves import save_curves
from diffnmf.figures.montages import image_grid, save_decomposition, save_image_grid, save_panels, unit_peak

DIGIT = (8, 8)


def read(path):
    """(height, width, 3), int."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def shows(picture, rgb, *, pixels):
    """Whether at least so many pixels have about this colour."""
    return (np.abs(picture - np.array(rgb)).max(-1) <= 6).sum() >= pixels


@pytest.fixture
def factors():
    generator = torch.Generator().manual_seed(0)
    H, W = torch.rand(64, 10, generator=generator), torch.rand(10, 40, generator=generator) / 10
    return H @ W, H, W


class TestImageGrid:
    def test_every_pixel(self):
        columns = torch.tensor([[0.0, 4.0, 8.0], [1.0, 5.0, 9.0]])  # three images of 1 × 2 pixels
        grid = image_grid(columns, (1, 2), columns_per_row=2, vmax=10.0)
        expected = [
            [0.0, 0.1, 0.5, 0.4, 0.5],
            [0.5, 0.5, 0.5, 0.5, 0.5],
            [0.8, 0.9, 0.5, 0.5, 0.5],
        ]
        np.testing.assert_allclose(grid, expected, atol=1e-7)

    def test_a_pixel_that_is_no_number_leaves_the_others_as_they_are(self):
        columns = torch.tensor([[1.0, 4.0], [math.nan, 2.0], [2.0, math.inf]])
        grid = image_grid(columns, (3, 1))
        np.testing.assert_array_equal(grid, [[0.25, 0.5, 1.0], [math.nan, 0.5, 0.5], [0.5, 0.5, 1.0]])
        assert image_grid(torch.tensor([[1e300]]).double(), (1, 1), vmax=1e-300) == 1.0

    def test_images_lie_row_by_row(self):
        columns = torch.arange(64.0 * 40).reshape(40, 64).T
        grid = image_grid(columns, DIGIT)
        for index in (0, 9, 10, 37):
            top, left = 9 * (index // 10), 9 * (index % 10)
            image = columns[:, index].reshape(8, 8).numpy() / (64 * 40 - 1)
            np.testing.assert_allclose(grid[top : top + 8, left : left + 8], image, atol=1e-7)

    @pytest.mark.parametrize(
        ("count", "rows", "per_row"), [(40, 4, 10), (30, 3, 10), (10, 1, 10), (3, 1, 3), (11, 2, 10), (100, 5, 20)]
    )
    def test_layout(self, count, rows, per_row):
        assert image_grid(torch.ones(6, count), (2, 3)).shape == (rows * 3 - 1, per_row * 4 - 1)

    def test_scale(self):
        columns = torch.tensor([[-1.0], [0.5], [2.0]])
        assert image_grid(columns, (1, 3)).tolist() == [[0, 0.25, 1]]
        assert image_grid(columns, (1, 3), vmax=1.0).tolist() == [[0, 0.5, 1]]
        assert image_grid(torch.zeros(3, 1), (1, 3)).tolist() == [[0, 0, 0]]
        assert image_grid(columns, (3, 1), separator=math.nan).tolist() == [[0], [0.25], [1]]
        assert image_grid(columns, (1, 3), separator=1).tolist() == [[0, 0.25, 1]]  # an int makes no integers of greys

    def test_wrong_arguments_are_named(self):
        with pytest.raises(ValueError, match=r"image_shape: expected height · width = 64.*got 7 × 8"):
            image_grid(torch.ones(64, 3), (7, 8))
        with pytest.raises(ValueError, match=r"columns: expected one matrix.*got \(2, 64, 3\)"):
            image_grid(torch.ones(2, 64, 3), DIGIT)
        with pytest.raises(TypeError, match=r"columns: expected a torch.Tensor \(n, columns\); got ndarray"):
            image_grid(np.ones((64, 3)), DIGIT)
        with pytest.raises(ValueError, match=r"columns: expected.*at least one column"):
            image_grid(torch.ones(64, 0), DIGIT)
        with pytest.raises(ValueError, match="columns_per_row: expected an int ≥ 1, or None; got 0"):
            image_grid(torch.ones(64, 3), DIGIT, columns_per_row=0)


class TestPictures:
    def test_decomposition(self, factors, tmp_path):
        path = tmp_path / "new" / "decomposition.png"  # the folder is made
        Y, H, W = factors
        save_decomposition(path, Y, H.requires_grad_(), W, DIGIT, title="cost $1, $2 with_underscores")
        picture = read(path)
        height, width, _ = picture.shape
        assert 800 <= width <= 2000
        assert 800 <= height <= 2000
        assert len(np.unique(picture)) > 100  # greys, not a blank page

    def test_factors_that_do_not_fit_are_named(self, factors, tmp_path):
        Y, H, W = factors
        with pytest.raises(ValueError, match=r"H and W: expected \(\*batch, n, k\) and \(\*batch, k, m\)"):
            save_decomposition(tmp_path / "x.png", Y, H, W.T, DIGIT)
        save_decomposition(tmp_path / "x.png", Y, H.double(), W, DIGIT)

    def test_dead_columns_are_black_and_counted(self, tmp_path, monkeypatch):
        labels = []
        savefig = Figure.savefig

        def spy(figure, *args, **kwargs):
            labels.extend(ax.get_title(loc="left") for ax in figure.axes)
            return savefig(figure, *args, **kwargs)

        monkeypatch.setattr(Figure, "savefig", spy)
        Y, W = torch.ones(64, 40), torch.full((8, 40), 128.0)
        H = torch.full((64, 8), 2.0**-10)  # white all the same: scaled to its own maximum
        save_decomposition(tmp_path / "alive.png", Y, H, W, DIGIT)
        assert labels[2].endswith("column error 0, relative error 0")
        H[:, 3] = 0
        save_decomposition(tmp_path / "dead.png", Y, H, W, DIGIT)
        assert labels[4].endswith("own maximum (1 dead, black)")
        assert labels[5].endswith("relative error 0.125")  # one component of eight is missing
        dark = [(read(tmp_path / name).max(-1) < 20).sum() for name in ("alive.png", "dead.png")]
        assert dark[1] - dark[0] > 5000  # one image of about 120 × 120 pixels

    def test_a_component_without_weight_is_black_whatever_its_column_is(self, tmp_path):
        Y, H, W = torch.ones(64, 40), torch.full((64, 8), 2.0**-10), torch.full((8, 40), 128.0)
        save_decomposition(tmp_path / "alive.png", Y, H, W, DIGIT)
        W[3] = 1e-16  # the floor of the published HALS
        save_decomposition(tmp_path / "dead.png", Y, H, W, DIGIT)
        dark = [(read(tmp_path / name).max(-1) < 20).sum() for name in ("alive.png", "dead.png")]
        assert dark[1] - dark[0] > 5000

    def test_image_grid(self, tmp_path):
        save_image_grid(tmp_path / "grid.png", torch.full((64, 7), 3.0), DIGIT, title="threes", vmax=6.0)
        picture = read(tmp_path / "grid.png")
        assert shows(picture, (128, 128, 128), pixels=50_000)
        assert shows(picture, (0x4A, 0x86, 0xC5), pixels=500)
        with pytest.raises(ValueError, match="vmax: expected a finite number > 0"):
            save_image_grid(tmp_path / "grid.png", torch.ones(64, 7), DIGIT, title="", vmax=0.0)

    def test_panels_share_one_grey_scale(self, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, file, **kwargs: (figures.append(figure), file.touch()))
        panels = {"dim $1": torch.full((64, 3), 0.5), "bright": torch.full((64, 10), 4.0)}
        save_panels(tmp_path / "panels.png", panels, DIGIT, title="Two", vmax=2.0)
        shown = [ax for ax in figures[0].axes if ax.get_title(loc="left")]
        assert [ax.get_title(loc="left") for ax in shown] == ["dim $1", "bright"]
        assert [ax.images[0].get_clim() for ax in shown] == [(0.0, 2.0)] * 2
        assert [ax.images[0].get_array().max() for ax in shown] == [0.5, 2.0]  # cut off at white
        assert figures[0].get_suptitle() == "Two"

    def test_a_long_label_goes_on_below(self, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, file, **kwargs: (figures.append(figure), file.touch()))
        for label in ("short", f"{'long ' * 30}\nand a line of its own"):
            save_panels(tmp_path / "panels.png", {label: torch.ones(64, 3)}, DIGIT)
        lines = figures[1].axes[0].get_title(loc="left").split("\n")
        assert len(lines) == 3
        assert max(map(len, lines)) <= 85
        assert figures[1].get_figheight() > figures[0].get_figheight() + 0.4

    def test_panels_with_a_group_in_each_row(self, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, file, **kwargs: (figures.append(figure), file.touch()))
        save_panels(tmp_path / "panels.png", {"a": torch.ones(28 * 28, 15)}, (28, 28), columns_per_row=5)
        assert figures[0].axes[0].images[0].get_array().shape == (3 * 29 - 1, 5 * 29 - 1)

    def test_panels_side_by_side(self, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, file, **kwargs: (figures.append(figure), file.touch()))
        panels = {f"panel {i}, {'with many words ' * 4}": torch.ones(64, 30) for i in range(9)}
        for across in (1, 2):
            save_panels(tmp_path / "panels.png", panels, DIGIT, across=across)
        below, beside = figures
        shown = [ax for ax in beside.axes if ax.get_title(loc="left")]
        assert len(shown) == 9
        assert len({round(ax.get_position().x0, 2) for ax in shown}) == 2
        assert beside.get_figheight() < 0.6 * below.get_figheight()
        assert max(len(line) for ax in shown for line in ax.get_title(loc="left").split("\n")) <= 42
        with pytest.raises(ValueError, match="across: expected an int ≥ 1; got 0"):
            save_panels(tmp_path / "panels.png", panels, DIGIT, across=0)

    def test_where_no_image_is_there_is_nothing(self, tmp_path):
        """11 images in two rows of ten: nine places stay as white as the page around them."""
        save_panels(tmp_path / "some.png", {"a": torch.zeros(64, 11)}, DIGIT)
        save_panels(tmp_path / "all.png", {"a": torch.zeros(64, 20)}, DIGIT)
        white, black = (
            [((read(tmp_path / name) == grey).all(-1)).sum() for name in ("some.png", "all.png")] for grey in (255, 0)
        )
        assert white[0] - white[1] > 0.9 * (black[1] - black[0]) > 50_000

    def test_wrong_panels_are_named(self, tmp_path):
        with pytest.raises(ValueError, match="panels: expected at least one"):
            save_panels(tmp_path / "panels.png", {}, DIGIT)
        with pytest.raises(ValueError, match=r"height · width = 63, the rows of panels\['b'\]; got 8 × 8"):
            save_panels(tmp_path / "panels.png", {"a": torch.ones(64, 2), "b": torch.ones(63, 2)}, DIGIT)
        with pytest.raises(ValueError, match="vmax: expected a finite number > 0"):
            save_panels(tmp_path / "panels.png", {"a": torch.ones(64, 2)}, DIGIT, vmax=math.nan)
        assert list(tmp_path.iterdir()) == []

    def test_unit_peak(self):
        H = torch.tensor([[4.0, 0.0, 0.25], [1.0, 0.0, 0.5]])
        assert unit_peak(H).tolist() == [[1.0, 0.0, 0.5], [0.25, 0.0, 1.0]]

    def test_unit_peak_of_components_that_are_not_used(self):
        H = torch.tensor([[4.0, 1e-9, 0.25], [1.0, 0.0, 0.5]])
        W = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1e-12]])
        assert unit_peak(H, W).tolist() == [[1.0, 0.0, 0.0], [0.25, 0.0, 0.0]]

    def test_curves(self, tmp_path):
        rows = [{"epoch": float(e), "loss": 1 / e, "never": math.nan} for e in range(1, 41)]
        rows[3]["loss"] = math.nan
        rows[4]["loss"] = math.inf
        rows[9]["test"] = 0.5
        rows.append({"loss": 1.0})  # no epoch
        panels = {
            "Losses": {"loss": "training", "test": "test"},
            "Empty": {"never": "never", "unknown": "unknown"},
            "One": {"loss": "training"},
        }
        save_curves(tmp_path / "curves.png", rows, panels)
        picture = read(tmp_path / "curves.png")
        assert shows(picture, (0x00, 0x72, 0xB2), pixels=1000)  # the line of "loss"
        assert shows(picture, (0xD5, 0x5E, 0x00), pixels=20)  # the one point of "test"
        assert not shows(picture, (0x00, 0x9E, 0x73), pixels=1)
        height, width, _ = picture.shape
        assert (picture[height // 2 + 20 :, width // 2 + 20 :] == 255).all()  # no axes where there is no panel

    def test_curves_before_the_first_epoch(self, tmp_path):
        save_curves(tmp_path / "curves.png", [], {"Losses": {"loss": "training"}})
        assert read(tmp_path / "curves.png").std() > 0
        with pytest.raises(ValueError, match="panels: expected at least one"):
            save_curves(tmp_path / "curves.png", [], {})

    def test_more_lines_than_colours(self, tmp_path):
        names = [f"line {i}" for i in range(30)]
        rows = [{"epoch": e, **{name: e * i for i, name in enumerate(names)}} for e in (1, 2)]
        save_curves(tmp_path / "curves.png", rows, {"Many": {name: name for name in names}})

    def test_curves_are_called_by_their_words(self, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, file, **kwargs: (figures.append(figure), file.touch()))
        rows = [{"epoch": 1, "loss": 1.0, "ema_loss": 2.0}]
        panels = {"Both": {"loss": "$last weights", "ema_loss": "their average"}, "One": {"loss": "loss in words"}}
        save_curves(tmp_path / "curves.png", rows, panels)
        both, one = figures[0].axes
        assert [text.get_text() for text in both.get_legend().get_texts()] == ["$last weights", "their average"]
        assert one.get_ylabel() == "loss in words"

    @pytest.mark.parametrize(("name", "start"), [("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("a", b"\x89PNG")])
    def test_the_ending_says_the_format(self, tmp_path, name, start):
        save_image_grid(str(tmp_path / name), torch.rand(64, 2), DIGIT, title="two")
        assert (tmp_path / name).read_bytes().startswith(start)


class TestSafety:
    def test_a_failing_write_keeps_the_older_picture(self, tmp_path, monkeypatch):
        path = tmp_path / "grid.png"
        save_image_grid(path, torch.rand(64, 2), DIGIT, title="before")
        before = path.read_bytes()

        def fail(figure, file, **kwargs):
            file.write_bytes(b"half a pict")
            raise OSError("no space left")

        monkeypatch.setattr(Figure, "savefig", fail)
        with pytest.raises(OSError, match="no space left"):
            save_image_grid(path, torch.rand(64, 2), DIGIT, title="after")
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_importing_loads_no_matplotlib_and_drawing_no_pyplot(self, tmp_path, fresh_processes):
        code = f"""
import sys, torch
from diffnmf.figures import comparisons, curves, montages
assert "matplotlib" not in sys.modules
montages.save_image_grid({str(tmp_path / "a.png")!r}, torch.rand(64, 2), (8, 8), title="two")
curves.save_curves({str(tmp_path / "b.png")!r}, [], {{"Losses": {{"loss": "a loss"}}}})
comparisons.save_bars({str(tmp_path / "c.png")!r}, {{"a": {{"s": [1.0]}}}}, {{"s": "S"}})
assert "matplotlib.pyplot" not in sys.modules
"""
        result = fresh_processes.run(code)
        assert result.returncode == 0, result.stderr
