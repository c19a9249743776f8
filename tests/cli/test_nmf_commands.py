"""The commands for classical NMF: what they read, what they write, what they refuse."""

import csv
import importlib
import json
import re
from decimal import Decimal

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import typer
from PIL import Image
from typer.testing import CliRunner

from diffnmf.cli import app
from diffnmf.cli.commands import Command
from diffnmf.cli.nmf_commands import numbers_of
from diffnmf.data.tables import read_table
from diffnmf.factorization import cross_validate_rank
from diffnmf.lock import locked

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def X():
    random = np.random.default_rng(0)
    return random.random((20, 3)) @ random.random((3, 6))


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERMINAL_WIDTH", "200")


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def written(path):
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return header[1:], [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=float)


def save_csv(path, X, hidden=()):
    lines = [["sample", *(f"f{j}" for j in range(X.shape[1]))]]
    lines += [[f"s{i}", *("" if (i, j) in hidden else x for j, x in enumerate(row))] for i, row in enumerate(X)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(lines)


class TestResize:
    @pytest.fixture
    def photos(self, tmp_path):
        random = np.random.default_rng(0)
        (tmp_path / "photos").mkdir()
        for i in range(8):
            pixels = random.integers(0, 255, (20 + i, 30), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")

    def test_photos_of_several_sizes(self, photos, tmp_path):
        result = invoke("nmf", "photos", "--k", 2, "--resize", 6, 8, "--output", "out")
        assert result.exit_code == 0, result.output
        assert written(tmp_path / "out" / "components.csv")[2].shape == (2, 48)
        assert invoke("rank", "photos", "--k", "1:2", "--resize", 4, 5).exit_code == 0
        assert invoke("consensus", "photos", "--k", "2", "--resize", 4, 5, "--n-init", 3).exit_code == 0

    def test_without_it_the_message_says_so(self, photos):
        result = invoke("nmf", "photos", "--k", 2, "--output", "out")
        assert result.exit_code == 2
        assert "--resize" in result.stderr

    @pytest.mark.parametrize("name", ["t.csv", "t.npy", "t.h5"])
    def test_a_file_is_refused(self, name, X, tmp_path):
        if name == "t.csv":
            save_csv(tmp_path / name, X)
        else:
            np.save(tmp_path / "t.npy", X)
            (tmp_path / "t.npy").rename(tmp_path / name)
        result = invoke("nmf", name, "--k", 2, "--resize", 4, 5, "--output", "out")
        assert result.exit_code == 2
        assert "resize: expected a folder" in result.stderr


class TestNMF:
    def test_samples_and_features_without_any_value_are_named(self, X, tmp_path):
        save_csv(tmp_path / "t.csv", X, hidden={(2, j) for j in range(6)} | {(5, j) for j in range(6)})
        result = invoke("nmf", "t.csv", "--k", 2, "--output", "out", "--max-iter", 20, "--tol", 0)
        told = "10.0% missing; 2 samples without any value, such as 's2', of which nothing can be said"
        assert told in result.stderr
        _, _, W = written(tmp_path / "out" / "weights.csv")
        assert (W[[2, 5]] == 0).all()

    def test_names_are_kept_and_missing_cells_do_not_count(self, X, tmp_path):
        save_csv(tmp_path / "t.csv", X, hidden={(2, 3), (7, 0)})
        result = invoke("nmf", "t.csv", "--k", 3, "--output", "out", "--tol", "1e-6", "--max-iter", 5000)
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines() == [
            "results: out",
            "t.csv: 20 samples, named 's0' to 's19', of 6 features, 1.7% missing",
        ]
        columns, rows, H = written(tmp_path / "out" / "components.csv")
        assert columns == [f"f{j}" for j in range(6)]
        assert rows == ["component_1", "component_2", "component_3"]
        columns, rows, W = written(tmp_path / "out" / "weights.csv")
        assert rows == [f"s{i}" for i in range(20)]
        np.testing.assert_allclose(W @ H, X, rtol=0.05, atol=0.02)
        factors = np.load(tmp_path / "out" / "factors.npz")
        np.testing.assert_allclose(factors["W"] @ factors["H"], W @ H, rtol=1e-6)
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["k"] == 3
        assert summary["relative_error"] < 1e-3
        again = invoke("nmf", "t.csv", "--k", 3, "--output", "out")
        assert again.exit_code == 2
        assert "--overwrite" in again.stderr
        assert invoke("nmf", "t.csv", "--k", 2, "--output", "out", "--overwrite").exit_code == 0

    def test_images_become_pictures(self, X, tmp_path):
        folder = tmp_path / "images"
        folder.mkdir()
        for i, row in enumerate(X):
            Image.fromarray((255 * row.reshape(2, 3) / X.max()).astype(np.uint8)).save(folder / f"image{i:02}.png")
        result = invoke("nmf", folder, "--k", 2, "--output", "out", "--init", "merge", "--max-iter", 0, "--tol", 0)
        assert result.exit_code == 0, result.output
        assert (tmp_path / "out" / "components.png").stat().st_size > 1000
        assert written(tmp_path / "out" / "weights.csv")[1] == [f"image{i:02}.png" for i in range(20)]

    def test_a_sparse_matrix_and_another_loss(self, X, tmp_path):
        scipy.io.mmwrite(tmp_path / "t.mtx", scipy.sparse.coo_array(X * (X > 0.5)))
        options = ("--solver", "mu", "--beta-loss", "kullback-leibler", "--max-iter", 5)
        result = invoke("nmf", "t.mtx", "--k", 2, "--output", "out", *options)
        assert result.exit_code == 0, result.output
        assert "stored" in result.stderr
        assert "not converged" in result.stderr
        assert "divergence" in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("nmf", "none.csv", "--k", 2, "--output", "out"), "none.csv does not exist"),
            (("nmf", "t.csv", "--k", 2, "--output", "out", "--solver", "pg"), "solver: expected one of"),
            (("nmf", "t.csv", "--k", 2, "--output", "out", "--init", "pca"), "init: expected one of"),
            (("rank", "t.csv", "--k", "0:3"), "k: expected numbers ≥ 1 such as 2:20"),
            (("rank", "t.csv", "--k", "a"), "k: expected numbers ≥ 1 such as 2:20"),
        ],
    )
    def test_slips_cost_one_line(self, X, tmp_path, arguments, words):
        save_csv(tmp_path / "t.csv", X)
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert words in result.stderr
        assert "Traceback" not in result.output


SMALL = {
    "nmf": ("--k", 2, "--max-iter", 5),
    "rank": ("--k", 2, "--rounds", 2, "--folds", 2),
    "consensus": ("--k", 2, "--n-init", 3),
}


@pytest.mark.parametrize("command", SMALL)
class TestOutput:
    @pytest.mark.parametrize("output", ["file", "file/below", "x" * 300])
    def test_no_folder_is_said_before_the_work(self, X, tmp_path, command, output):
        save_csv(tmp_path / "t.csv", X)
        (tmp_path / "file").write_text("mine")
        result = invoke(command, "t.csv", *SMALL[command], "--output", output)
        assert result.exit_code == 2
        assert re.fullmatch(r"Error: output: (expected a folder; file is a file|cannot write to x.*)\n", result.stderr)
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_full_disk(self, X, tmp_path, monkeypatch, command):
        """There is no run here, that could be resumed."""
        monkeypatch.setattr("diffnmf.files.to_disk", self.full)
        save_csv(tmp_path / "t.csv", X)
        result = invoke(command, "t.csv", *SMALL[command], "--output", "out")
        assert result.exit_code == 2
        assert "No space left" in result.stderr
        assert result.stderr.endswith("free space or mend the folder, then run the same command again\n")

    @staticmethod
    def full(path):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("command", "file"), [("nmf", "summary.json"), ("nmf", "components.png"), ("consensus", "components_2.csv")]
)
def test_no_file_is_replaced_unasked(X, tmp_path, command, file):
    save_csv(tmp_path / "t.csv", X)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / file).write_text("mine")
    result = invoke(command, "t.csv", *SMALL[command], "--output", "out")
    assert result.exit_code == 2
    assert result.stderr == f"Error: out: holds {file} already; take another --output, or --overwrite\n"
    assert (tmp_path / "out" / file).read_text() == "mine"


@pytest.mark.parametrize("data", ["t.csv", "shards"])
@pytest.mark.parametrize("device", ["cuda:99", "mps", "gpu", ""])
def test_a_device_that_is_not_there(X, tmp_path, data, device):
    save_csv(tmp_path / "t.csv", X)
    (tmp_path / "shards").mkdir()
    np.save(tmp_path / "shards" / "0.npy", X)
    result = invoke("nmf", data, "--k", 2, "--output", "out", "--device", device)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: device: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_consensus_of_missing_entries(X, tmp_path, kind):
    if kind == "csv":
        save_csv(tmp_path / "t.csv", X, hidden={(2, 3)})
        result = invoke("consensus", "t.csv", *SMALL["consensus"])
        refused = invoke("consensus", "t.csv", *SMALL["consensus"], "--missing", "error")
    else:
        X[2, 3] = 0
        scipy.sparse.save_npz(tmp_path / "t.npz", scipy.sparse.csr_array(X))
        result = invoke("consensus", "t.npz", *SMALL["consensus"], "--missing", "unstored", "--alpha-w", 1e-6)
        refused = invoke("consensus", "t.npz", *SMALL["consensus"], "--missing", "none")
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "consensus" / "consensus.csv").open() as stream:
        assert float(next(csv.DictReader(stream))["relative_error_of_the_best"]) > 0
    assert refused.exit_code == 2


def test_consensus_of_missing_entries_that_a_sparse_matrix_stores(X, tmp_path):
    X[2, 3] = np.nan
    scipy.sparse.save_npz(tmp_path / "t.npz", scipy.sparse.csr_array(X))
    result = invoke("consensus", "t.npz", *SMALL["consensus"])
    assert result.exit_code == 2
    assert "Error: Y: expected finite numbers in a sparse matrix; got NaN (use a dense Y)" in result.stderr


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_the_relative_error_is_that_of_the_table_at_any_scale(X, tmp_path, scale):
    """Squares of such numbers leave the range of float64."""
    for name, table in (("plain.npy", X), ("scaled.npy", scale * X)):
        np.save(tmp_path / name, table)
        result = invoke("nmf", name, "--k", 2, "--init", "merge", "--output", name[:-4])
        assert result.exit_code == 0, result.output
    found = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("plain", "scaled")]
    assert found[0]["relative_error"] > 0.01
    assert found[1]["relative_error"] == pytest.approx(found[0]["relative_error"], rel=1e-6)


def test_no_best_rank_where_hidden_entries_are_zeros(tmp_path):
    X = np.zeros((10, 10))
    X[0, 0] = 1
    np.save(tmp_path / "t.npy", X)
    result = invoke("rank", "t.npy", "--k", "1:2")
    assert result.exit_code == 0
    assert "k = 0" not in result.stdout
    assert "Warning: no best k: all that a fold hides is zero" in result.stderr


class TestAllOrNothing:
    """Files of two factorisations never stand beside each other."""

    @pytest.fixture(params=["t.csv", "shards"])
    def data(self, X, tmp_path, request):
        save_csv(tmp_path / "t.csv", X)
        (tmp_path / "shards").mkdir()
        np.save(tmp_path / "shards" / "0.npy", X)
        assert invoke("nmf", request.param, "--k", 2, "--output", "out").exit_code == 0
        return request.param

    def contents(self, tmp_path):
        files = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and "checkpoint" not in path.parts]
        return {path.relative_to(tmp_path): path.read_bytes() for path in files}

    def test_a_disk_that_is_full_when_the_last_file_is_written(self, data, tmp_path, monkeypatch):
        before = self.contents(tmp_path)
        monkeypatch.setattr("diffnmf.files.json.dumps", self.full)
        result = invoke("nmf", data, "--k", 3, "--output", "out", "--overwrite", "--tol", 0, "--max-iter", 2)
        assert result.exit_code == 2
        assert "No space left" in result.stderr
        after = self.contents(tmp_path)
        assert {name: content for name, content in after.items() if name in before} == before

    def test_a_disk_that_is_full_when_the_weights_are_written(self, tmp_path, monkeypatch):
        """An error, and not a signal that ends the process, as it comes of a memory map."""
        (tmp_path / "shards").mkdir()
        np.save(tmp_path / "shards" / "0.npy", np.random.default_rng(0).random((50, 6)))
        monkeypatch.setattr("diffnmf.runs.large_files.to_disk", self.full)
        result = invoke("nmf", "shards", "--k", 2, "--output", "out", "--max-iter", 2, "--tol", 0)
        assert result.exit_code == 2
        assert re.match(r"Error: out.weights.npy: could not be written \(No space left", result.stderr.splitlines()[-1])
        assert self.contents(tmp_path) == {}

    def test_while_another_process_writes_there(self, data, tmp_path):
        with locked(tmp_path / "out"):
            result = invoke("nmf", data, "--k", 3, "--output", "out", "--overwrite")
        assert result.exit_code == 2
        assert re.match(r"Error: out: in use by process \d+ on .* \(wait until it has ended", result.stderr)

    def test_what_a_killed_one_left_is_cleared_away(self, data, tmp_path):
        left = tmp_path / "out" / ".unfinished-12345678"
        left.mkdir()
        (left / "components.csv").write_text("half")
        assert invoke("nmf", data, "--k", 3, "--output", "out", "--overwrite").exit_code == 0
        assert not list((tmp_path / "out").glob(".*"))

    @staticmethod
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")


def test_a_new_folder_is_not_left_empty(tmp_path):
    np.save(tmp_path / "t.npy", -np.ones((3, 3)))
    assert invoke("nmf", "t.npy", "--k", 1, "--output", "new").exit_code == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    assert invoke("nmf", "t.npy", "--k", 1, "--output", "mine").exit_code == 2
    assert (tmp_path / "mine").exists()


def test_several_processes_and_a_table_that_they_cannot_share(X, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    save_csv(tmp_path / "t.csv", X)
    result = invoke("nmf", "t.csv", "--k", 2, "--output", "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: data: expected what several processes can share, .npy")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_too_long():
    result = invoke("nmf", "x" * 300 + ".csv", "--k", 2, "--output", "out")
    assert result.exit_code == 2
    assert re.search(r"^Error: .*File name too long", result.stderr)


class TestBlocks:
    def test_nothing_of_an_earlier_result_stays_beside_a_new_one(self, X, tmp_path):
        save_csv(tmp_path / "t.csv", X)
        (tmp_path / "shards").mkdir()
        np.save(tmp_path / "shards" / "0.npy", X)
        common = {"components.csv", "summary.json", "notes.txt"}
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.txt").write_text("mine")
        for data, own in (("shards", {"weights.npy"}), ("t.csv", {"weights.csv", "factors.npz"})) * 2:
            result = invoke("nmf", data, "--k", 2, "--output", "out", "--overwrite")
            assert result.exit_code == 0, result.output
            assert {path.name for path in (tmp_path / "out").iterdir()} == common | own

    def test_files_of_others_in_a_folder_called_checkpoint_stay(self, X, tmp_path):
        (tmp_path / "shards").mkdir()
        np.save(tmp_path / "shards" / "0.npy", X)
        mine = tmp_path / "out" / "checkpoint" / "model.pt"
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        assert invoke("nmf", "shards", "--k", 2, "--output", "out").exit_code == 0
        assert [path.name for path in mine.parent.iterdir()] == ["model.pt"]

    def test_nothing_but_zeros(self, tmp_path):
        (tmp_path / "shards").mkdir()
        np.save(tmp_path / "shards" / "0.npy", np.zeros((30, 6)))
        result = invoke("nmf", "shards", "--k", 2, "--output", "out")
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["relative_error"] == 0

    @pytest.mark.parametrize("name", ["shards/0.npy", "t.h5"])
    @pytest.mark.parametrize("content", [b"", b"nonsense"])
    def test_a_damaged_file_is_named(self, tmp_path, name, content):
        (tmp_path / "shards").mkdir()
        (tmp_path / name).write_bytes(content)
        result = invoke("nmf", name.split("/")[0], "--k", 2, "--output", "out")
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: {name}: expected a ")


def test_a_file_in_blocks(tmp_path):
    """A folder of shards, and a file above --max-memory, give what the table in memory does."""
    random = np.random.default_rng(0)
    X = (random.random((900, 3)) @ random.random((3, 300))).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "shards").mkdir()
    for number, part in enumerate(np.split(X, [500])):
        np.save(tmp_path / "shards" / f"{number}.npy", part)
    found = {}
    for data, memory in (("x.npy", 100), ("x.npy", 1), ("shards", 100)):
        output = f"{data}-{memory}"
        done = invoke(
            "nmf", data, "--k", 3, "--output", output, "--max-memory", memory, "--init", "merge", "--tol", "0.1"
        )
        assert done.exit_code == 0, done.output
        assert ("in blocks" in done.stderr) == (output != "x.npy-100")
        found[output] = json.loads((tmp_path / output / "summary.json").read_text())
        weights = tmp_path / output / "weights.npy"
        components = written(tmp_path / output / "components.csv")[2]
        if weights.exists():
            error = np.linalg.norm(X - np.load(weights) @ components) / np.linalg.norm(X)
            assert error == pytest.approx(found[output]["relative_error"], abs=1e-6)
            assert not (tmp_path / output / "checkpoint").exists()
    whole = found.pop("x.npy-100")
    assert len(found) == 2
    assert all(other["relative_error"] == pytest.approx(whole["relative_error"], rel=1e-2) for other in found.values())
    assert all(other["iterations"] == whole["iterations"] for other in found.values())
    again = invoke("nmf", "shards", "--k", 3, "--output", "shards-100")
    assert again.exit_code == 2 and "--overwrite" in again.stderr


def test_rank(tmp_path):
    random = np.random.default_rng(0)
    X = random.random((60, 3)) @ random.random((3, 40))
    np.save(tmp_path / "t.npy", X + 0.05 * random.random(X.shape))
    result = invoke("rank", "t.npy", "--k", "1:4", "--output", "out", "--rounds", 100)
    assert result.exit_code == 0, result.output
    assert "smallest error on hidden entries: k = 3" in result.stdout
    assert (tmp_path / "out" / "rank.png").stat().st_size > 1000
    with (tmp_path / "out" / "rank.csv").open() as stream:
        assert [row["k"] for row in csv.DictReader(stream)] == ["1", "2", "3", "4"]


class TestWhatASparseFileDoesNotStore:
    @pytest.fixture
    def ratings(self, tmp_path):
        random = np.random.default_rng(0)
        X = random.random((60, 3)) @ random.random((3, 40)) + 1e-3
        known = random.random(X.shape) < 0.6
        scipy.sparse.save_npz(tmp_path / "t.npz", scipy.sparse.csr_array(np.where(known, X, 0)))
        return X, known

    def test_is_not_known_if_so_said(self, ratings, tmp_path):
        X, known = ratings
        result = invoke("nmf", "t.npz", "--k", 3, "--output", "out", "--missing", "unstored", "--alpha-w", 1e-6)
        assert result.exit_code == 0, result.output
        with np.load(tmp_path / "out" / "factors.npz") as factors:
            error = factors["W"] @ factors["H"] - X
        assert np.abs(error[~known]).max() < 0.05
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        relative = np.linalg.norm(error[known]) / np.linalg.norm(X[known])
        assert summary["relative_error"] == pytest.approx(relative, rel=1e-6)

    def test_the_number_of_components_is_found(self, ratings, tmp_path):
        more = ("--alpha-w", 1e-5, "--alpha-h", 1e-5, "--rounds", 100)
        result = invoke("rank", "t.npz", "--k", "1:5", "--output", "out", "--missing", "unstored", *more)
        assert result.exit_code == 0, result.output
        assert "smallest error on hidden entries: k = 3" in result.stdout
        with (tmp_path / "out" / "rank.csv").open() as stream:
            assert [row["svd"] for row in csv.DictReader(stream)] == [""] * 5
        assert (tmp_path / "out" / "rank.png").stat().st_size > 1000

    @pytest.mark.parametrize("command", ["nmf", "rank"])
    def test_of_a_dense_file_is_refused(self, command, X, tmp_path):
        np.save(tmp_path / "t.npy", X)
        result = invoke(command, "t.npy", "--k", 2, "--output", "out", "--missing", "unstored")
        assert result.exit_code == 2
        assert "expected a sparse matrix with missing='unstored'; got a dense one" in result.stderr
        assert not (tmp_path / "out").exists()

    def test_of_a_file_in_blocks_is_refused(self, X, tmp_path):
        (tmp_path / "shards").mkdir()
        np.save(tmp_path / "shards" / "0.npy", X)
        result = invoke("nmf", "shards", "--k", 2, "--output", "out", "--missing", "unstored")
        assert result.exit_code == 2
        assert "missing: expected 'error' for data in blocks" in result.stderr


def test_predictions_out_of_all_bounds_are_told(tmp_path):
    """With ten components, and three of four numbers missing, the weights are free."""
    random = np.random.default_rng(0)
    X = random.random((20, 12))
    X[random.random(X.shape) < 0.75] = np.nan
    np.save(tmp_path / "t.npy", X)
    result = invoke("nmf", "t.npy", "--k", 10, "--output", "out", "--max-iter", 100)
    assert result.exit_code == 0, result.output
    assert "Warning: entries that are not known, or hardly count, are predicted up to" in result.stderr
    result = invoke("nmf", "t.npy", "--k", 10, "--output", "held", "--max-iter", 100, "--alpha-w", 0.01)
    assert "predicted" not in result.stderr


def test_penalties_of_rank_are_those_of_nmf(tmp_path):
    random = np.random.default_rng(0)
    X = random.random((60, 3)) @ random.random((3, 40)) + 0.3 * random.random((60, 40))
    np.save(tmp_path / "t.npy", X)
    options = ("--alpha-w", 0.01, "--alpha-h", 0.02, "--l1-ratio", 0.25)
    result = invoke("rank", "t.npy", "--k", 4, "--output", "out", *options)
    assert result.exit_code == 0, result.output
    penalties = {"l1_W": 0.25 * 0.01 * 40, "ridge_W": 0.75 * 0.01 * 40, "l1_H": 0.25 * 0.02 * 60}
    expected = cross_validate_rank(X, [4], ridge_H=0.75 * 0.02 * 60, **penalties)
    with (tmp_path / "out" / "rank.csv").open() as stream:
        assert float(next(csv.DictReader(stream))["held_out_error"]) == pytest.approx(float(expected.mean))


def test_consensus(X, tmp_path):
    save_csv(tmp_path / "t.csv", X)
    result = invoke("consensus", "t.csv", "--k", "2,3", "--n-init", 4, "--output", "out", "--max-iter", 50)
    assert result.exit_code == 0, result.output
    assert written(tmp_path / "out" / "components_3.csv")[0] == [f"f{j}" for j in range(6)]
    assert (tmp_path / "out" / "consensus.png").stat().st_size > 1000
    assert written(tmp_path / "out" / "consensus.csv")[1] == ["2", "3"]


def test_consensus_removes_nothing_that_it_was_not_told_to(X, tmp_path):
    save_csv(tmp_path / "t.csv", X)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "components_99.csv").write_text("mine")
    result = invoke("consensus", "t.csv", "--k", "2", "--n-init", 3, "--output", "out")
    assert result.exit_code == 2
    assert "holds components_99.csv already" in result.stderr
    assert (tmp_path / "out" / "components_99.csv").read_text() == "mine"


def test_components_of_an_earlier_consensus_do_not_stay(X, tmp_path):
    save_csv(tmp_path / "t.csv", X)
    options = ("--n-init", 2, "--output", "out", "--max-iter", 5, "--tol", 0)
    assert invoke("consensus", "t.csv", "--k", "2:4", *options).exit_code == 0
    (tmp_path / "out" / "components_mine.csv").touch()
    assert invoke("consensus", "t.csv", "--k", "2:3", *options, "--overwrite").exit_code == 0
    names = {file.name for file in (tmp_path / "out").glob("components_*")}
    assert names == {"components_2.csv", "components_3.csv", "components_mine.csv"}


@pytest.mark.parametrize("corner", ["", "id"])
def test_a_second_column_of_texts_is_named(tmp_path, corner):
    """To leave the corner empty would not help."""
    (tmp_path / "t.csv").write_text(f"{corner},group,a\nx,u,1\ny,v,2\n")
    result = invoke("nmf", "t.csv", "--k", 1, "--output", "out")
    assert result.exit_code == 2
    assert "line 2: expected numbers; got 'u' (in column 2)" in result.stderr


def test_a_range_of_components_without_an_end_is_refused(X, tmp_path):
    save_csv(tmp_path / "t.csv", X)
    result = invoke("rank", "t.csv", "--k", "1:1000000000", "--output", "out")
    assert result.exit_code == 2 and "at most 1000 of them; got '1:1000000000'" in " ".join(result.stderr.split())


def test_pictures_have_one_scale_whatever_their_depth(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4))
    for name, array in (("eight", pixels.astype(np.uint8)), ("sixteen", (257 * pixels).astype(np.uint16))):
        (tmp_path / name).mkdir()
        for i, one in enumerate(array):
            Image.fromarray(one).save(tmp_path / name / f"{i}.png")
    eight, sixteen = (read_table(tmp_path / name).X for name in ("eight", "sixteen"))
    np.testing.assert_allclose(eight, sixteen, rtol=1e-6)


def test_a_stream_whose_encoding_lacks_a_sign_does_not_end_a_command(X, tmp_path, fresh_processes):
    """As on Windows, where output to a file is in the code page of the system."""
    save_csv(tmp_path / "t.csv", X)
    program = (
        "import sys\n"
        "for stream in (sys.stdout, sys.stderr): stream.reconfigure(encoding='ascii', errors='strict')\n"
        "from diffnmf.start import main; main()"
    )
    options = ["nmf", "t.csv", "--k", "2", "--solver", "mu", "--beta-loss", "1", "--output", "out"]
    done = fresh_processes.run(program, options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "factors.npz" in done.stdout


def test_paths_may_begin_with_the_home_of_the_user(X, tmp_path, monkeypatch):
    """A shell leaves the ~ of --output=~/out as it is: there was a folder of that name then."""
    home = tmp_path / "home" / "user"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    save_csv(home / "t.csv", X)
    save_csv(tmp_path / "~user.csv", X)  # nobody's home
    for data in ("~/t.csv", "~user.csv"):
        result = invoke("nmf", data, "--k", 2, "--output=~/out", "--overwrite")
        assert result.exit_code == 0, result.output
    assert (home / "out" / "components.csv").exists() and not (tmp_path / "~").exists()
    assert f"{home}/none has no" in invoke("compare", "~/none", "--output=~/comparison").stderr
    commands = typer.main.get_command(app)
    assert all(isinstance(commands.get_command(None, name), Command) for name in commands.list_commands(None))


def test_the_module_is_the_program(fresh_processes):
    program = "import runpy; runpy.run_module('diffnmf', run_name='__main__', alter_sys=True)"
    shown = fresh_processes.run(program, ["nmf", "--help"])
    assert "--beta-loss" in shown.stdout, shown.stderr


def test_numbers():
    assert numbers_of("2:5") == [2, 3, 4, 5]
    assert numbers_of("5:20:5") == [5, 10, 15, 20]
    assert numbers_of("3,5,8:9") == [3, 5, 8, 9]
    for wrong in ("", "3:2", "1:2:3:4", "2:4:0"):
        with pytest.raises(ValueError, match="k: expected numbers"):
            numbers_of(wrong)


class TestTables:
    @pytest.mark.parametrize(
        ("text", "rows", "columns", "shape"),
        [
            ("1,2\n3,4\n", None, None, (2, 2)),
            ("a,b\n1,2\n3,4\n", None, ["a", "b"], (2, 2)),
            (",a,b\nx,1,2\ny,3,\n", ["x", "y"], ["a", "b"], (2, 2)),
            ("name,a,b\nx,1,2\ny,3,NA\n", ["x", "y"], ["a", "b"], (2, 2)),
            ("a,b\nx,1,2\ny,3,4\n", ["x", "y"], ["a", "b"], (2, 2)),
            ("x;1;2\ny;3;4\n", ["x", "y"], None, (2, 2)),
            ("\ufeffa,b\n1,2\n", None, ["a", "b"], (1, 2)),
            (",0,1\n0,1,2\n1,3,4\n", ["0", "1"], ["0", "1"], (2, 2)),  # pandas
            (",400,401\n0,1,2\n1,3,4\n", ["0", "1"], ["400", "401"], (2, 2)),
            (",400,401\nx,1,2\ny,3,4\n", ["x", "y"], ["400", "401"], (2, 2)),
            ("a,b\n1,1,2\n2,3,4\n", ["1", "2"], ["a", "b"], (2, 2)),  # R, which leaves out the corner
            (",a,b\n1,1,2\nX,3,4\n", ["1", "X"], ["a", "b"], (2, 2)),
            ("id,a,b\n1_1,1,2\n1_2,3,4\n", ["1_1", "1_2"], ["a", "b"], (2, 2)),  # numbers, to Python
        ],
    )
    def test_text(self, tmp_path, text, rows, columns, shape):
        (tmp_path / "t.csv").write_text(text, encoding="utf-8")
        table = read_table(tmp_path / "t.csv")
        assert (table.rows, table.columns, table.X.shape) == (rows, columns, shape)
        assert table.X[0].tolist() == [1, 2]
        assert np.isnan(table.X).sum() == text.count("NA") + text.count(",\n")

    @pytest.mark.parametrize(
        ("text", "rows", "columns", "X"),
        [
            ("True,1\nFalse,2\n", None, None, [[1, 1], [0, 2]]),
            ("smokes,age\nTRUE,1\nFALSE,2\n", None, ["smokes", "age"], [[1, 1], [0, 2]]),  # R
            ("a,b,smokes\nx,1,true\ny,2,\n", ["x", "y"], ["b", "smokes"], [[1, 1], [2, np.nan]]),
            (",False,True\nx,1,2\ny,3,4\n", ["x", "y"], ["False", "True"], [[1, 2], [3, 4]]),  # a cross table
            ("False,True\n1,2\n3,4\n", None, ["False", "True"], [[1, 2], [3, 4]]),
            (",a,b\nTrue,1,2\nFalse,3,4\n", ["True", "False"], ["a", "b"], [[1, 2], [3, 4]]),
            (",a,b\n10%,1,2\n20%,3,4\n", ["10%", "20%"], ["a", "b"], [[1, 2], [3, 4]]),
            ("part,10%,$5\nx,1,2\ny,3,4\n", ["x", "y"], ["10%", "$5"], [[1, 2], [3, 4]]),
            ("drug,a\n5 mg,1\n10 mg,2\n", ["5 mg", "10 mg"], ["a"], [[1], [2]]),
        ],
    )
    def test_what_may_be_names_or_numbers(self, tmp_path, text, rows, columns, X):
        (tmp_path / "t.csv").write_text(text)
        table = read_table(tmp_path / "t.csv")
        assert (table.rows, table.columns) == (rows, columns)
        np.testing.assert_array_equal(table.X, X)

    def test_an_unknown_first_entry_is_no_corner(self, tmp_path):
        (tmp_path / "t.csv").write_text(",2,3\n4,5,6\n7,8,9\n")
        table = read_table(tmp_path / "t.csv")
        assert (table.X.shape, table.rows, table.columns) == ((3, 3), None, None)

    def test_what_the_program_writes_is_read_as_it_was(self, X, tmp_path):
        np.save(tmp_path / "t.npy", X)
        assert invoke("nmf", "t.npy", "--k", 2, "--output", "out").exit_code == 0
        columns, rows, H = written(tmp_path / "out" / "components.csv")
        table = read_table(tmp_path / "out" / "components.csv")
        assert (table.columns, table.rows) == (columns, rows)
        np.testing.assert_array_equal(table.X, H)

    def test_arrays(self, X, tmp_path):
        np.save(tmp_path / "a.npy", X)
        np.save(tmp_path / "b.npy", X.reshape(20, 2, 3).astype(np.float32))
        np.savez(tmp_path / "c.npz", X=X, rows=[f"r{i}" for i in range(20)])
        np.testing.assert_array_equal(read_table(tmp_path / "a.npy").X, X)
        images = read_table(tmp_path / "b.npy")
        assert images.image_shape == (2, 3)
        assert images.X.dtype == np.float32
        assert read_table(tmp_path / "c.npz").rows[3] == "r3"

    @pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
    def test_sparse_matrices(self, X, tmp_path, kind):
        scipy.sparse.save_npz(tmp_path / "d.npz", scipy.sparse.csr_array(X).asformat(kind))
        np.testing.assert_array_equal(read_table(tmp_path / "d.npz").X.toarray(), X)

    def test_several_entries_of_one_place_add_up(self, tmp_path):
        """A CSR matrix that was put together by hand may have them."""
        twice = scipy.sparse.csr_array((np.array([1.0, 2, 3]), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2))
        scipy.sparse.save_npz(tmp_path / "t.npz", twice)
        assert read_table(tmp_path / "t.npz").X.data.tolist() == [3, 3]
        result = invoke("nmf", "t.npz", "--k", 1, "--output", "out", "--init", "random")
        assert result.exit_code == 0, result.output
        error = json.loads((tmp_path / "out" / "summary.json").read_text())["relative_error"]
        assert error == pytest.approx(np.sqrt(0.5))  # of 3 and 3 one is met

    def test_names_in_bytes(self, X, tmp_path):
        np.savez(tmp_path / "t.npz", X=X, rows=np.array([f"r{i}".encode() for i in range(20)]))
        assert read_table(tmp_path / "t.npz").rows[3] == "r3"

    def test_data_frames(self, X, tmp_path, monkeypatch):
        """As a parquet file holds them; what reads one is not needed for that."""
        pandas = pytest.importorskip("pandas")
        monkeypatch.setattr(pandas, "read_parquet", lambda path: frame)
        (tmp_path / "t.parquet").touch()
        frame = pandas.DataFrame(X, columns=list("abcdef"), index=[f"r{i}" for i in range(20)])
        assert read_table(tmp_path / "t.parquet").rows[1] == "r1"
        frame = frame.reset_index(drop=True)
        assert read_table(tmp_path / "t.parquet").rows is None
        frame = frame.assign(f=[Decimal(i) for i in range(20)])
        with pytest.raises(ValueError, match=r"expected columns of floats or ints; f is of others"):
            read_table(tmp_path / "t.parquet")

    def test_no_reader_of_parquet(self, tmp_path, monkeypatch):
        pandas = pytest.importorskip("pandas")
        monkeypatch.setattr(pandas, "read_parquet", lambda path: importlib.import_module("a_reader_that_is_not_there"))
        (tmp_path / "t.parquet").touch()
        with pytest.raises(ValueError, match=r"t.parquet: pandas and pyarrow are needed for .parquet: pip install"):
            read_table(tmp_path / "t.parquet")

    def test_parquet(self, X, tmp_path):
        pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
        pandas.DataFrame(X, columns=list("abcdef")).assign(name=[f"r{i}" for i in range(20)]).to_parquet(
            tmp_path / "t.parquet"
        )
        table = read_table(tmp_path / "t.parquet")
        assert table.columns == list("abcdef")
        assert table.rows[1] == "r1"

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("t.csv", "", "the file is empty"),
            ("t.csv", "1,2\n3\n", "line 2: expected 2 numbers, as in the first; got 1"),
            ("t.csv", "a,b\n1,2\n3,x\n", "line 3: expected numbers; got 'x'"),
            ("t.npy", "nonsense", "t.npy: "),
            ("t.npy", "", "t.npy: "),
            ("t.npz", "PK\x03\x04 damaged", "t.npz: "),
            ("t.csv", "a,b\n1," + "2" * 200_000, "t.csv: field larger than field limit"),
            ("t.csv", "a,b\n1,2\n?,3\n4,5\n", r"line 3: expected numbers; got '\?' \(for a column of names leave"),
            ("t.csv", "a;b;c\n1,5;2;3\n2,5;4;5\n", "expected numbers such as 1234.5; got '1,5'"),
            ("t.csv", 'a,b\n"1,000",2\n3,4\n', "expected numbers such as 1234.5; got '1,000'"),
            ("t.csv", "share,a\n10%,1\n20%,2\n", r"numbers or names .* got '10%' \(write them without units, .*empty"),
            ("t.csv", "$1.50,1\n$2,2\n", r"expected numbers or names in the first column; got '\$1.50'"),
            ("t.csv", "a,b\n1,2\n3,4 €\n", r"line 3: expected numbers; got '4 €' \(write them without units"),
            ("t.csv", "a,b\n1,2,\n3,4,\n", "columns: expected 3 names, one for each; got 2"),
            ("t.csv", "1 2\n3 4\n", "expected columns of numbers; found none with ',' between the cells"),
            ("t.tsv", "x y\nz w\n", r"found none with '\\t' between the cells"),
            ("t.xlsx", "", "expected a folder of images, or a file .npy"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path, name, content, message):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_table(tmp_path / name)

    def test_text_in_another_encoding(self, tmp_path):
        for encoding in ("latin-1", "utf-16"):
            (tmp_path / "t.csv").write_text("größe,b\n1,2\n", encoding=encoding)
            with pytest.raises(ValueError, match=r"expected text in UTF-8; .* \(save it anew in UTF-8\)"):
                read_table(tmp_path / "t.csv")

    def test_an_array_and_an_archive_under_the_name_of_the_other(self, X, tmp_path):
        np.save(tmp_path / "a.npy", X)
        np.savez(tmp_path / "b.npz", X=X)
        for name, other in (("a.npy", "c.npz"), ("b.npz", "d.npy")):
            (tmp_path / name).rename(tmp_path / other)
            np.testing.assert_array_equal(read_table(tmp_path / other).X, X)

    def test_complex_numbers_are_refused_in_every_format(self, X, tmp_path):
        np.save(tmp_path / "t.npy", X + 1j)
        scipy.io.mmwrite(tmp_path / "t.mtx", scipy.sparse.coo_array(X + 1j))
        scipy.sparse.save_npz(tmp_path / "t.npz", scipy.sparse.csr_array(X + 1j))
        for name in ("t.npy", "t.mtx", "t.npz"):
            with pytest.raises(ValueError, match="expected real numbers; got dtype complex128"):
                read_table(tmp_path / name)

    @pytest.mark.parametrize("what", ["rows", "columns"])
    def test_as_many_names_as_there_are(self, X, tmp_path, what):
        np.savez(tmp_path / "t.npz", X=X, **{what: ["a"]})
        with pytest.raises(ValueError, match=rf"{what}: expected \d+ names, one for each; got 1"):
            read_table(tmp_path / "t.npz")

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 4, 4)])
    def test_nothing_to_factorise(self, tmp_path, shape):
        np.save(tmp_path / "t.npy", np.zeros(shape))
        with pytest.raises(ValueError, match="expected at least one sample and one feature; got shape"):
            read_table(tmp_path / "t.npy")


@pytest.mark.parametrize("command", ["rank", "consensus"])
def test_help_says_where_the_files_go(command):
    assert re.search(rf"--output .*\[default: {command}\]", re.sub(r"[\s│]+", " ", invoke(command, "--help").output))


def test_a_file_of_objects_is_refused_with_what_to_do(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    result = invoke("nmf", "objects.npy", "--k", 1, "--output", "out")
    assert result.exit_code == 2
    assert re.search(
        r"objects\.npy: expected an array of numbers; .*save it anew, without Python objects", result.output
    )
