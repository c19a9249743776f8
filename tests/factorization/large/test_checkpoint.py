"""A run that was interrupted goes on to the same bits."""

import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import slow

from diffnmf import NMF, Blocks
from diffnmf.errors import RunFolderError
from diffnmf.factorization import HALS, MU, factorize
from diffnmf.factorization.large import checkpoint, entry
from diffnmf.factorization.large.run import State
from diffnmf.factorization.large.survey import mark_of_rows
from diffnmf.lock import locked

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
]


class StopError(Exception):
    """What interrupts a run here."""


@pytest.fixture(scope="module")
def X():
    random = np.random.default_rng(0)
    return random.random((90, 5)) @ random.random((5, 40)) + 0.2 * random.random((90, 40))


@pytest.fixture
def always(monkeypatch):
    """A checkpoint after every iteration."""
    monkeypatch.setattr(entry, "Checkpoints", lambda folder, run: checkpoint.Checkpoints(folder, run, every=0.0))


def run(X, folder=None, stop=None, transposed=True, **options):
    def callback(iteration, H, W):
        if iteration == stop:
            raise StopError

    blocks = Blocks(X, max_memory=40e3)
    options = {"init": "random", "max_iter": 23, "tol": 1e-7, **options}
    return factorize(blocks.mT if transposed else blocks, 4, checkpoint=folder, callback=callback, **options)


def assert_same_bits(first, second):
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("transposed", [True, *slow(False)], ids=["samples split", "features split"])
@pytest.mark.parametrize(
    "method", ["hals", HALS(shuffle=True), "anls", "mu", MU("kullback-leibler", extrapolate=True)], ids=str
)
def test_same_bits(X, tmp_path, method, transposed):
    whole = run(X, method=method, transposed=transposed)
    for stop in (1, 12, 17):
        with pytest.raises(StopError):
            run(X, tmp_path, stop, method=method, transposed=transposed)
    assert_same_bits(run(X, tmp_path, method=method, transposed=transposed), whole)
    # A run that has ended is not run again.
    assert_same_bits(run(X, tmp_path, 1, method=method, transposed=transposed), whole)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


@pytest.mark.usefixtures("always")
class TestFolder:
    def test_another_run(self, X, tmp_path):
        run(X, tmp_path)
        for options, message in (
            ({"seed": 1}, "seed=0 instead of 1"),
            ({"tol": 1e-3}, "tol"),
            ({"l1_W": 1.0}, "l1_W"),
            ({"method": "mu"}, "method"),
            ({"transposed": False}, "n=40 instead of 90"),
        ):
            with pytest.raises(RunFolderError, match=message):
                run(X, tmp_path, **options)
        with pytest.raises(RunFolderError, match="dtype='torch.float64' instead of 'torch.float32'"):
            run(X.astype(np.float32), tmp_path)
        with pytest.raises(RunFolderError, match="square"):
            run(1.1 * X, tmp_path)
        with pytest.raises(RunFolderError, match="scale"):  # the same in the scaled units, but for penalties
            run(4 * X, tmp_path)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
    def test_rows_in_another_order(self, X, tmp_path, dtype):
        """What was kept of a row would go on as that of another one."""
        X = X if dtype != np.uint8 else 40 * X
        X = X.astype(dtype)
        run(X, tmp_path)
        run(X, tmp_path)
        for other in (_exchanged(X), _exchanged(X.T).T, X[::-1]):
            with pytest.raises(RunFolderError, match="fingerprint=.* rows or columns in another order; give another"):
                run(other, tmp_path)

    def test_damaged(self, X, tmp_path):
        run(X, tmp_path)
        (folder,) = tmp_path.glob("iteration-*")
        (folder / "S-000000000000.npy").unlink()
        with pytest.raises(RunFolderError, match="not all there"):
            run(X, tmp_path)
        for name in ("S-000000000000.npy", "shared.npz"):
            for content in (b"", b"PK", (folder / "shared.npz").read_bytes()[:-100]):
                (folder / name).write_bytes(content)
                with pytest.raises(RunFolderError, match="cannot be read .* remove"):
                    run(X, tmp_path)
        for content in ("{", "[]", "{}", '{"run": "mine", "folder": "x"}', '{"run": {}, "folder": 3}'):
            (tmp_path / "latest.json").write_text(content)
            with pytest.raises(RunFolderError, match=r"latest\.json: cannot be read .* remove"):
                run(X, tmp_path)

    @pytest.mark.parametrize("name", ["D", "A", "C", "memory_H", "errors", "S"])
    def test_of_another_shape(self, X, tmp_path, name):
        """Also where it could be expanded to the right one, which is how numbers are copied."""
        run(X, tmp_path)
        (folder,) = tmp_path.glob("iteration-*")
        with np.load(folder / "shared.npz") as file:
            shared = dict(file)
        for shape in ((1, 7, 3), (1, 1, 1)):
            if name == "S":
                np.save(folder / "S-000000000000.npy", np.ones(shape[:2]))
            else:
                np.savez(folder / "shared.npz", **{**shared, name: np.ones(shape)})
            with pytest.raises(RunFolderError, match="cannot be read .* remove"):
                run(X, tmp_path)

    def test_parts_of_a_killed_run_with_other_shares(self, X, tmp_path):
        """Its folder had as many processes and the same iteration, but a tensor that was split at another row."""

        def save(split):
            for rank, (start, stop) in enumerate([(0, split), (split, 9)]):
                processes = SimpleNamespace(rank=rank, size=2, wait=lambda: None)
                part = SimpleNamespace(processes=processes, start=start, stop=stop, split="W")
                part.rows = SimpleNamespace(count=stop - start)
                S = torch.arange(18.0).reshape(1, 2, 9)[..., start:stop].clone()
                state = State(S, torch.ones(1, 2, 4), {}, (torch.ones(1, 2, 2), torch.ones(1, 2, 4)), [1.0, 0.5])
                checkpoints.save(state, part)
            return state, part

        checkpoints = checkpoint.Checkpoints(tmp_path, {})
        save(3)
        (tmp_path / "latest.json").unlink()  # as if killed before that
        state, part = save(6)
        expected = state.S.clone()
        state.S.zero_()
        assert checkpoints.load(state, part)
        assert torch.equal(state.S, expected)

    def test_a_write_that_fails_leaves_the_last_one(self, X, tmp_path, monkeypatch):
        whole = run(X)
        with pytest.raises(StopError):
            run(X, tmp_path, 9)
        monkeypatch.setattr(checkpoint.np, "savez", _full)
        with pytest.raises(RunFolderError, match="No space left"):
            run(X, tmp_path)
        monkeypatch.undo()
        assert_same_bits(run(X, tmp_path), whole)

    def test_estimator(self, X, tmp_path):
        options = {"max_iter": 20, "tol": 0.0, "init": "random", "random_state": 0}
        found = [NMF(4, checkpoint=tmp_path, **options).fit(Blocks(X)).components_ for _ in range(2)]
        assert np.array_equal(*found)
        with pytest.raises(RunFolderError, match="another run"):
            NMF(5, checkpoint=tmp_path, **options).fit(Blocks(X))

    def test_estimator_without_a_random_state(self, X, tmp_path):
        """It drew another seed each time, so that nothing could ever go on."""
        options = {"max_iter": 5, "tol": 0.0, "init": "random"}
        found = [NMF(4, checkpoint=tmp_path / "run", **options).fit(Blocks(X)).components_ for _ in range(2)]
        assert np.array_equal(*found)
        assert not np.array_equal(found[0], NMF(4, **options).fit(Blocks(X)).components_)


def _exchanged(X):
    """With two rows in each other's place."""
    order = np.arange(len(X))
    order[[7, 11]] = 11, 7
    return X[order].copy()


def test_the_fingerprint_does_not_depend_on_blocks_and_shares(X):
    X = torch.from_numpy(X)
    for Y in (X, X.float(), (9 * X).floor()):  # whole numbers have few bits
        whole = mark_of_rows(Y, 0)
        for cuts in ((1,), (40, 41), (89,)):
            edges = (0, *cuts, len(Y))
            parts = sum(mark_of_rows(Y[i:j], i) for i, j in itertools.pairwise(edges))
            assert parts % 2**64 == whole
        others = {
            mark_of_rows(Y[torch.randperm(len(Y), generator=torch.Generator().manual_seed(i))], 0) for i in range(20)
        }
        one = Y.clone()
        one[3, 5] += 1
        assert len({whole, mark_of_rows(one, 0), *others}) == 22


def _full(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_once_a_minute(X, tmp_path, monkeypatch):
    """And at the end: a quick run writes one."""
    saved = []
    plain = checkpoint.Checkpoints.save
    monkeypatch.setattr(
        checkpoint.Checkpoints, "save", lambda self, state, part: saved.append(1) or plain(self, state, part)
    )
    run(X, tmp_path)
    assert len(saved) == 1


@pytest.mark.slow
def test_killed(tmp_path, X):
    """By SIGKILL, anywhere: the same bits in the end."""
    np.save(tmp_path / "x.npy", X)
    program = (
        "import functools, os, signal, sys, threading, numpy as np, torch\n"
        "from diffnmf import Blocks; from diffnmf.factorization import factorize\n"
        "from diffnmf.factorization.large import checkpoint, entry\n"
        "entry.Checkpoints = functools.partial(checkpoint.Checkpoints, every=0.0)\n"
        "torch.set_num_threads(1)\n"
        "after = float(sys.argv[2])\n"
        "if after: threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        "found = factorize(Blocks('x.npy', max_memory=20e3).mT, 4, init='random', max_iter=150, tol=0.0,"
        " checkpoint=sys.argv[1])\n"
        "np.save(sys.argv[1] + '.npy', found.H.numpy())\n"
    )

    def go(folder, after):
        arguments = [sys.executable, "-c", program, folder, str(after)]
        return subprocess.run(arguments, cwd=tmp_path, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert go("whole", 0).returncode == 0
    killed = 0
    for after in (0.05, 0.1, 0.2, 0.15, 0.3):
        killed += go("parts", after).returncode == -9
    assert killed >= 3
    assert go("parts", 0).returncode == 0
    assert np.array_equal(np.load(tmp_path / "parts.npy"), np.load(tmp_path / "whole.npy"))


def test_a_file_in_the_place_of_the_folder_is_refused_before_the_first_pass(tmp_path):
    (tmp_path / "b.npy").touch()
    with pytest.raises(RunFolderError, match=r"checkpoint: expected a folder; .*b.npy is a file"):
        factorize(torch.rand(20, 10), 2, checkpoint=tmp_path / "b.npy")


def test_a_run_is_known_by_the_options_that_were_chosen():
    """An option that a later version adds makes no other run of one that does not use it."""
    assert [entry._described(method) for method in (HALS(), HALS(sweeps=2, extrapolate=False), MU(1.0))] == [
        "HALS()",
        "HALS(sweeps=2, extrapolate=False)",
        "MU(beta_loss=1.0)",
    ]


def test_another_start_that_is_given_is_another_run(tmp_path):
    generator = torch.Generator().manual_seed(0)
    Y, H, W = (torch.rand(*shape, generator=generator).double() for shape in ((40, 30), (40, 3), (3, 30)))
    options = {"tol": 0.0, "max_iter": 2, "checkpoint": tmp_path / "run"}
    first = factorize(Blocks(Y.numpy()), 3, H0=H, W0=W, **options)
    again = factorize(Blocks(Y.numpy()), 3, H0=H, W0=W, **options)
    assert torch.equal(first.H, again.H)
    for other in ({"H0": H + 1, "W0": W}, {"H0": H, "W0": W + 1}, {"H0": H}, {}):
        with pytest.raises(RunFolderError, match="holds another run"):
            factorize(Blocks(Y.numpy()), 3, **other, **options)


def test_two_runs_do_not_share_a_folder(tmp_path):
    with locked(tmp_path / "kept"), pytest.raises(RunFolderError, match="in use by process"):
        factorize(torch.rand(30, 20), 2, checkpoint=tmp_path / "kept")


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(RunFolderError, match=r"checkpoint: cannot write to .*: File name too long"):
        factorize(torch.rand(30, 20), 2, checkpoint=tmp_path / ("x" * 300))


def test_nothing_is_left_of_the_lock(tmp_path):
    factorize(torch.rand(30, 20), 2, checkpoint=tmp_path / "kept")
    assert not list(tmp_path.rglob(".lock"))
