"""A matrix in blocks or parts has the factors that it has in memory, to rounding."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from diffnmf import NMF, Blocks, MiniBatchNMF, non_negative_factorization
from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import (
    ANLS,
    HALS,
    MU,
    Merge,
    consensus,
    consensus_curve,
    cross_validate_rank,
    factorize,
    svd_curve,
)
from diffnmf.factorization.estimator_fit import NMFConvergenceWarning

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
]
METHODS = ["hals", "anls", "mu", HALS(shuffle=True, sweeps=1), HALS(extrapolate=False), ANLS(steps=3)]
METHODS += [MU("kullback-leibler"), MU("itakura-saito"), MU(1.5, extrapolate=True)]


@pytest.fixture(scope="module")
def X():
    """90 samples of 40 features, in a scale of its own."""
    random = np.random.default_rng(0)
    return 37.0 * (random.random((90, 5)) @ random.random((5, 40)) + 0.2 * random.random((90, 40)))


def both(X, k=4, transposed=True, max_memory=20e3, **options):
    """The factorisation in blocks, and that in memory."""
    Y = torch.from_numpy(X)
    blocks = Blocks(X, max_memory=max_memory)
    pair = (blocks.mT, Y.mT) if transposed else (blocks, Y)
    return tuple(factorize(x, k, **options) for x in pair)


def assert_equal(ours, theirs, rtol=1e-8):
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(mine, other, rtol=rtol, atol=rtol * float(other.max()))
    torch.testing.assert_close(ours.errors, theirs.errors, rtol=1e-9, atol=1e-11)
    assert int(ours.iterations) == int(theirs.iterations) and bool(ours.converged) == bool(theirs.converged)


@pytest.mark.parametrize("transposed", [True, False], ids=["samples split", "features split"])
class TestSameAsInMemory:
    @pytest.mark.parametrize("method", METHODS, ids=str)
    def test_methods(self, X, method, transposed):
        assert_equal(*both(X, method=method, init="random", max_iter=13, tol=1e-3, transposed=transposed))

    @pytest.mark.parametrize("init", ["auto", "merge", "random", "uniform", "nndsvd", "nndsvda"])
    def test_starts(self, X, init, transposed):
        assert_equal(*both(X, init=init, max_iter=3, tol=0.0, transposed=transposed))

    def test_penalties(self, X, transposed):
        penalties = {"l1_W": 0.5, "l1_H": 3.0, "ridge_W": 0.1, "ridge_H": 2.0}
        for method in ("hals", "anls", "mu"):
            assert_equal(*both(X, method=method, init="random", max_iter=15, transposed=transposed, **penalties))

    def test_convergence(self, X, transposed):
        ours, theirs = both(X, tol=0.02, max_iter=500, init="random", transposed=transposed)
        assert bool(ours.converged)
        assert_equal(ours, theirs)

    def test_given_start(self, X, transposed):
        n, m = (40, 90) if transposed else (90, 40)
        generator = torch.Generator().manual_seed(3)
        H0, W0 = (torch.rand(*shape, generator=generator, dtype=torch.float64) for shape in ((n, 4), (4, m)))
        assert_equal(*both(X, H0=H0, W0=W0, max_iter=5, transposed=transposed))
        assert_equal(*both(X, H0=H0, max_iter=5, transposed=transposed), rtol=1e-6)
        assert_equal(*both(X, W0=W0, max_iter=5, transposed=transposed), rtol=1e-6)

    def test_revival(self, X, transposed):
        """Two dead components come back, from the same columns of Y."""
        n, m = (40, 90) if transposed else (90, 40)
        generator = torch.Generator().manual_seed(3)
        H0, W0 = (torch.rand(*shape, generator=generator, dtype=torch.float64) for shape in ((n, 4), (4, m)))
        H0[:, 1] = 0.0
        W0[3] = 0.0
        ours, theirs = both(X, H0=H0, W0=W0, max_iter=40, tol=0.0, transposed=transposed)
        assert float(theirs.H.amax(0).min()) > 0 and float(theirs.W.amax(1).min()) > 0
        assert_equal(ours, theirs, rtol=1e-6)

    @pytest.mark.parametrize("size", [1e-307, 1e300, 1.7e308])
    def test_scales(self, X, transposed, size, tmp_path):
        """Up to the largest number: the norm of the matrix, and the square of its unit, may be none."""
        X = X / X.max()
        ours, theirs = both(X * size, transposed=transposed, max_iter=30, tol=0.0, l1_W=0.0)
        assert_equal(ours, theirs)
        kept = [factorize(Blocks(X * size), 4, max_iter=9, tol=0.0, checkpoint=tmp_path / "run").H for _ in range(2)]
        assert torch.equal(*kept)
        assert float((ours.H @ ours.W / size).max()) == pytest.approx(1.0, abs=0.3)

    def test_rows_of_very_different_size(self, X, transposed):
        assert_equal(*both(X * np.logspace(-300, 300, len(X))[:, None], transposed=transposed, max_iter=10, tol=0.0))

    def test_exact_data(self, transposed):
        """Where HW fits to rounding, the error comes from the residual, not from the difference of large numbers."""
        random = np.random.default_rng(1)
        X = random.random((60, 2)) @ random.random((2, 30))
        ours, theirs = both(X, k=2, max_iter=300, tol=0.0, init="random", transposed=transposed)
        assert float(ours.errors[-1]) < 1e-9
        assert float(ours.errors[-1]) == pytest.approx(float(theirs.errors[-1]), rel=0.5)

    @pytest.mark.parametrize("method", [HALS(extrapolate=False), "anls", "mu"], ids=str)
    def test_float32(self, X, method, transposed):
        """Without extrapolation, whose length follows from errors that differ by rounding alone near the end."""
        options = {"method": method, "max_iter": 50, "tol": 0.0, "init": "random", "transposed": transposed}
        ours, theirs = both(X.astype(np.float32), **options)
        scale = float((theirs.H @ theirs.W).max())
        assert float((ours.H @ ours.W - theirs.H @ theirs.W).abs().max()) < 1e-5 * scale


class TestLargeSides:
    """Where merging takes a sample, and singular vectors come from a random subspace."""

    @pytest.fixture
    def wide(self):
        random = np.random.default_rng(2)
        return random.random((1100, 3)) @ random.random((3, 1060)) + 0.01 * random.random((1100, 1060))

    @pytest.mark.parametrize("transposed", [True, False])
    def test_merging_of_a_sample(self, wide, transposed):
        assert_equal(*both(wide, 3, init="merge", max_iter=1, tol=0.0, max_memory=3e6, transposed=transposed))
        tall = wide[:, :30]
        assert_equal(*both(tall, 3, init="merge", max_iter=1, tol=0.0, max_memory=3e5, transposed=transposed))
        flat = np.ascontiguousarray(wide.T[:30])
        assert_equal(*both(flat, 3, init="merge", max_iter=1, tol=0.0, max_memory=3e6, transposed=transposed))

    def test_singular_vectors(self, wide):
        """A random subspace finds them nearly; the rest is up to the iterations."""
        ours, theirs = both(wide, 3, init="nndsvda", max_iter=0, tol=0.0, max_memory=3e6)
        torch.testing.assert_close(ours.H, theirs.H, rtol=0, atol=1e-4 * float(theirs.H.max()))
        small = np.ascontiguousarray(wide.T[:30])  # gathered
        assert_equal(*both(small, 3, init="nndsvda", max_iter=0, tol=0.0, max_memory=3e6))


class TestOptions:
    def test_callback_ends_the_run(self, X):
        seen = []

        def callback(iteration, H, W):
            seen.append((iteration, float((torch.from_numpy(X).mT - H @ W).norm())))
            return iteration == 7

        found = factorize(Blocks(X, max_memory=20e3).mT, 4, callback=callback, init="random")
        assert len(found.errors) == 8 and [number for number, _ in seen] == list(range(1, 8))
        assert seen[-1][1] / np.linalg.norm(X) == pytest.approx(float(found.errors[-1]), rel=1e-9)

    def test_warns_once(self, X):
        with pytest.warns(ConvergenceWarning, match="1 of 1 problems have not converged after 2 iterations"):
            factorize(Blocks(X).mT, 4, max_iter=2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"method": "spa"}, "method: expected"),
            ({"method": Merge()}, "method: expected"),
            ({"init": "spa"}, "init: expected one of"),
            ({"mask": torch.ones(40, 90, dtype=torch.bool)}, "mask: expected None"),
            ({"seed": [0]}, "seed: expected one int"),
            ({"method": "mu", "H0": torch.ones(40, 4).double()}, "H0, W0: expected both"),
            ({"H0": torch.ones(3, 4).double()}, "H0"),
            ({"H0": -torch.ones(40, 4).double()}, "H0: expected finite entries ≥ 0"),
            ({"k": 95, "init": "merge"}, "init"),
            ({"progress": "yes"}, "progress"),
        ],
    )
    def test_errors(self, X, options, message):
        with pytest.raises((ValueError, TypeError), match=message):
            factorize(Blocks(X).mT, **{"k": 4, **options})

    @pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
    def test_bad_entries(self, X, value):
        bad = X.copy()
        bad[61, 3] = value
        with pytest.raises(ValueError, match="Y: expected entries ≥ 0" if value == -1 else "row 61"):
            factorize(Blocks(bad, max_memory=20e3), 4)

    def test_tensors_in_parts(self, X):
        """A tensor in memory goes the same way with ``progress`` or a group of one."""
        Y = torch.from_numpy(X)
        options = {"init": "random", "max_iter": 10, "tol": 0.0}
        for split in ("columns", "rows"):
            assert_equal(factorize(Y, 4, progress=True, split=split, **options), factorize(Y, 4, **options))
        half = factorize(Y.bfloat16(), 4, progress=True, **options)
        assert half.H.dtype == torch.bfloat16
        with pytest.raises(ValueError, match=r"progress: expected it for one dense matrix .*\(2, 90, 40\)"):
            factorize(Y.expand(2, -1, -1), 4, progress=True)
        sparse = Y.to_sparse_csr()
        with pytest.raises(ValueError, match=r"progress: .* layout torch.sparse_csr"):
            factorize(sparse, 4, progress=True)
        with pytest.raises(ValueError, match=r"checkpoint: expected it with method .*; got Merge"):
            factorize(Y, 4, method="merge", checkpoint="nowhere")
        with pytest.raises(ValueError, match="mask: expected None beside progress"):
            factorize(Y, 4, mask=Y > 0, progress=True)
        with pytest.raises(TypeError, match=r"Y: expected a torch.Tensor; got ndarray"):
            factorize(X, 4, progress=True)

    def test_a_start_that_is_far_too_large(self, X):
        """Its gradient is beyond float32, which must not count as a stationary point."""
        Y, generator = torch.from_numpy(X).float(), torch.Generator().manual_seed(0)
        options = {
            "H0": 1e7 * torch.rand(len(Y), 4, generator=generator),
            "W0": 1e7 * torch.rand(4, Y.shape[1], generator=generator),
            "max_iter": 50,
        }
        whole, parts = factorize(Y, 4, **options), factorize(Blocks(X.astype(np.float32)), 4, **options)
        assert parts.iterations > 0 and parts.errors[-1] < 1
        torch.testing.assert_close(parts.errors[-1], whole.errors[-1], rtol=1e-2, atol=0)
        options["H0"] = torch.full((len(Y), 4), 1e30)
        with pytest.raises(ValueError, match="H0: expected entries whose products can be represented"):
            factorize(Blocks(X.astype(np.float32)), 4, **options)

    def test_zeros(self):
        found = factorize(Blocks(np.zeros((20, 10))).mT, 2, max_iter=10)
        assert float(found.errors[-1]) == 0 and bool(found.H.isfinite().all())


class TestEstimator:
    @pytest.mark.parametrize(
        "options",
        [{}, {"solver": "anls", "alpha_W": 1e-3}, {"solver": "mu", "beta_loss": "kullback-leibler"}],
        ids=["hals", "anls, penalties", "mu, Kullback-Leibler"],
    )
    def test_as_in_memory(self, X, options, tmp_path):
        np.save(tmp_path / "x.npy", X)
        models = [NMF(4, max_iter=40, tol=0, **options).fit(data) for data in (Blocks(X, max_memory=20e3), X)]
        ours, theirs = models
        np.testing.assert_allclose(ours.components_, theirs.components_, rtol=1e-7, atol=1e-7)
        assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_, rel=1e-9)
        assert ours.n_features_in_ == 40 and ours.n_iter_ == theirs.n_iter_
        np.testing.assert_allclose(ours.transform(tmp_path / "x.npy"), theirs.transform(X), rtol=1e-6, atol=1e-7)
        weights = NMF(4, max_iter=40, tol=0, **options).fit_transform(Blocks(X, max_memory=20e3))
        np.testing.assert_allclose(weights, theirs.transform(X), rtol=1e-6, atol=1e-7)

    def test_dtype_and_start(self, X):
        model = NMF(4, dtype="float32", max_iter=5, tol=0, init="custom")
        H = np.ones((4, 40), np.float32) + np.eye(4, 40, dtype=np.float32)
        model.fit(Blocks(X), H=H)
        assert model.components_.dtype == np.float32
        assert math.isfinite(model.reconstruction_err_)

    def test_others_say_who_reads_blocks(self, X):
        for data in (Blocks(X), "x.npy"):
            with pytest.raises(TypeError, match="X: expected a matrix in memory for MiniBatchNMF; got .*blocks"):
                MiniBatchNMF(3).fit(data)
            with pytest.raises(TypeError, match="in memory for non_negative_factorization"):
                non_negative_factorization(data, n_components=3)
            for call in (svd_curve, partial(cross_validate_rank, ks=[1]), partial(consensus, k=2)):
                with pytest.raises(TypeError, match="Y: expected a matrix in memory for (svd|cross|consensus).*; got"):
                    call(data)
            with pytest.raises(TypeError, match="Y: expected a matrix in memory for consensus_curve"):
                consensus_curve(data, [1, 2])

    def test_warns(self, X):
        with pytest.warns(NMFConvergenceWarning):
            NMF(4, max_iter=1).fit(Blocks(X))

    @pytest.mark.parametrize("options", [{"n_init": 2}, {"fixed": np.ones((1, 40))}, {"init": "spa"}])
    def test_errors(self, X, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            NMF(4, **options).fit(Blocks(X))
        with pytest.raises(ValueError, match="weights"):
            NMF(4).fit(Blocks(X), weights=np.ones(90))
        with pytest.raises(ValueError, match="row of the file"):
            NMF(4).fit(Blocks(X).mT)
        with pytest.raises(ValueError, match="features"):
            NMF(4, max_iter=1, tol=0).fit(Blocks(X)).transform(Blocks(X[:, :9]))
