"""How many components: the SVD curve, cross-validation on held-out entries, and their picture."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from helpers import slow
from PIL import Image
from sklearn.datasets import load_digits

from diffnmf.factorization import RankScores, cross_validate_rank, factorize, svd_curve, truncated_svd
from diffnmf.factorization.hidden_entries import deal_stored, stored_errors
from diffnmf.factorization.problem_input import checked_sparse
from diffnmf.factorization.sample_arrays import sparse_tensor_of
from diffnmf.figures.curves import save_rank_selection
from diffnmf.metrics import relative_error

pytestmark = pytest.mark.usefixtures("one_thread")


def planted(n=60, m=40, k=4, noise=0.0, batch=(), seed=0, dtype=torch.float64):
    """Y = HW + noise · mean · normal, clipped at zero, half of the entries of H and W zero."""
    generator = torch.Generator().manual_seed(seed)
    H, W = (torch.rand(*batch, *size, generator=generator, dtype=torch.float64) for size in ((n, k), (k, m)))
    H, W = (X * (torch.rand(X.shape, generator=generator) < 0.5) for X in (H, W))
    Y = H @ W
    noisy = Y + noise * Y.mean() * torch.randn(Y.shape, generator=generator, dtype=torch.float64)
    return noisy.clamp(min=0).to(dtype)


class TestSvdCurve:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("shape", [(7, 12), (2, 3, 12, 7), (5, 1), (1, 5)])
    def test_it_is_the_error_of_the_truncated_svd(self, shape, dtype):
        Y = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
        curve = svd_curve(Y)
        most = min(shape[-2:])
        assert curve.shape == (most + 1, *shape[:-2])
        assert curve.dtype == torch.float64
        for k in range(1, most):
            expected = relative_error(Y.double(), truncated_svd(Y.double(), k))
            torch.testing.assert_close(curve[k], expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-6)
        assert (curve[0] == 1).all()
        assert (curve[most] == 0).all()

    def test_the_rank_shows(self):
        curve = svd_curve(planted(k=4))
        assert curve[3] > 0.1
        assert curve[4] < 1e-14

    @pytest.mark.parametrize("max_k", [0, 3, 60])
    def test_length(self, max_k):
        curve = svd_curve(planted(m=5), max_k)
        assert curve.shape == (max_k + 1,)
        assert (curve[6:] == 0).all()

    @pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
    def test_any_scale(self, scale):
        Y = planted(noise=0.1)
        torch.testing.assert_close(svd_curve(Y * scale), svd_curve(Y))

    def test_zero_and_not_finite(self):
        Y = planted(batch=(3,))
        Y[0], Y[1, 2, 3] = 0, math.nan
        curve = svd_curve(Y)
        assert (curve[:, 0] == 0).all()
        assert curve[:, 1].isnan().all()
        torch.testing.assert_close(curve[:, 2], svd_curve(Y[2]))


class TestCrossValidation:
    @pytest.mark.parametrize("noise", [0.0, 0.1, 0.5])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_the_planted_number_is_found(self, noise, dtype):
        Y = planted(noise=noise, batch=(3,), dtype=dtype)
        scores = cross_validate_rank(Y, range(1, 8))
        assert scores.ks == tuple(range(1, 8))
        assert scores.mean.shape == scores.std.shape == (7, 3)
        assert scores.mean.dtype == torch.float64
        assert scores.best.tolist() == [4, 4, 4]

    def test_of_a_wide_matrix_too(self):
        assert cross_validate_rank(planted(30, 100, k=3, noise=0.2), range(1, 6)).best == 3

    def test_structureless_data_gets_one_component(self):
        Y = torch.rand(40, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert cross_validate_rank(Y, range(1, 5)).best == 1

    def test_the_error_is_that_on_unseen_entries(self):
        """With noise of known size, the right model predicts down to the noise and no further."""
        generator = torch.Generator().manual_seed(0)
        clean = 1 + planted(200, 100, k=2)
        Y = clean + 0.1 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        scores = cross_validate_rank(Y, [3], rounds=100)  # the constant is a third part
        noise = (0.1 * math.sqrt(Y.numel()) / torch.linalg.matrix_norm(Y)).item()
        assert noise < scores.mean.item() < 1.1 * noise

    def test_no_few_entries_decide(self):
        """Where next to nothing is visible of a component, its weight may be anything, times what is hidden."""
        digits = torch.from_numpy(load_digits().data[:100].T / 16)
        scores = cross_validate_rank(digits, [8, 12, 16, 20, 24])
        assert scores.mean.max() < 0.5

    def test_a_batch_is_its_problems(self):
        Y = planted(30, 20, noise=0.3, batch=(2, 2))
        together = cross_validate_rank(Y, [2, 4, 6], folds=3, rounds=10)
        for index in np.ndindex(2, 2):
            alone = cross_validate_rank(Y[index], [2, 4, 6], folds=3, rounds=10)
            torch.testing.assert_close(together.mean[:, *index], alone.mean, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(together.std[:, *index], alone.std, rtol=1e-6, atol=1e-9)

    def test_memory_decides_how_many_folds_go_together_but_not_the_result(self, monkeypatch):
        Y = planted(30, 20, noise=0.3)
        together = cross_validate_rank(Y, [3], rounds=10)
        monkeypatch.setattr("diffnmf.factorization.rank_selection.FOLD_ELEMENTS", 1300)  # two folds at a time
        torch.testing.assert_close(cross_validate_rank(Y, [3], rounds=10).mean, together.mean)

    def test_seed_order_and_repeats(self):
        Y = planted(30, 20, noise=0.3)
        first = cross_validate_rank(Y, [5, 2, 2], rounds=5)
        assert first.ks == (2, 5)
        assert torch.equal(first.mean, cross_validate_rank(Y, [2, 5], rounds=5).mean)
        assert not torch.equal(first.mean, cross_validate_rank(Y, [2, 5], rounds=5, seed=1).mean)

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_the_scale_does_not_matter(self, scale):
        Y = planted(30, 20, noise=0.3)
        expected = cross_validate_rank(Y, [2, 4], rounds=5).mean
        torch.testing.assert_close(cross_validate_rank(scale * Y, [2, 4], rounds=5).mean, expected)

    @pytest.mark.parametrize("method", ["anls", "mu", "hals"])
    def test_other_methods_starts_and_penalties(self, method):
        Y = planted(noise=0.1)
        scores = cross_validate_rank(Y, [2, 4], method=method, init="nndsvda", l1_W=1e-3, ridge_H=1e-3)
        assert scores.best == 4

    def test_penalties_are_felt(self):
        Y = planted(noise=0.5)
        plain, shrunk = (cross_validate_rank(Y, [10], ridge_W=r, ridge_H=r).mean for r in (0.0, 0.3))
        assert shrunk < plain

    def test_not_finite_and_zero_problems(self):
        Y = planted(30, 20, batch=(3,))
        Y[0, 1, 2], Y[1] = math.nan, 0
        scores = cross_validate_rank(Y, [1, 2], rounds=3)
        assert scores.mean[:, 0].isnan().all()
        assert (scores.mean[:, 1] == 0).all()
        assert scores.best[:2].tolist() == [0, 1]
        torch.testing.assert_close(scores.mean[:, 2], cross_validate_rank(Y[2], [1, 2], rounds=3).mean)

    @pytest.mark.parametrize("shape", [(20, 1), (1, 20), (2, 2), (3, 30)])
    def test_thin_matrices(self, shape):
        Y = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        scores = cross_validate_rank(Y, [1, 4], folds=2, rounds=5)
        assert scores.mean.isfinite().all()
        assert scores.std.isfinite().all()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"Y": [1.0]}, ValueError, "Expected 2D array, got 1D array instead"),
            ({"Y": torch.ones(3)}, ValueError, r"Y: expected a matrix .* 2 dimensions; got \(3,\)"),
            ({"Y": torch.ones(3, 4).int()}, TypeError, "Y: expected.*floating-point.*got.*torch.int32"),
            ({"Y": torch.ones(3, 0)}, ValueError, r"Y: expected.*n and m ≥ 1; got \(3, 0\)"),
            ({"Y": -torch.ones(9, 9)}, ValueError, "Y: expected entries ≥ 0"),
            ({"ks": []}, ValueError, r"ks: expected at least one int ≥ 1.*got \[\]"),
            ({"ks": 3}, TypeError, r"ks: expected at least one int ≥ 1.*range.*got 3"),
            ({"ks": [0]}, ValueError, "ks: expected an int ≥ 1; got 0"),
            ({"ks": [1.0]}, TypeError, "ks: expected an int ≥ 1; got 1.0"),
            ({"folds": 1}, ValueError, "folds: expected an int ≥ 2; got 1"),
            ({"folds": 10}, ValueError, r"folds: expected at most max\(n, m\) = 9.*got 10"),
            ({"rounds": 0}, ValueError, "rounds: expected an int ≥ 1; got 0"),
            ({"method": "spa"}, ValueError, "method: expected one that can leave entries out.*got SPA"),
            ({"method": "cd"}, ValueError, "method: expected one of anls, hals, merge, mu, .*; got 'cd'"),
            ({"l1_W": -1.0}, ValueError, "l1_W: expected a finite number ≥ 0; got -1.0"),
        ],
    )
    def test_wrong_arguments_are_named(self, change, error, message):
        with pytest.raises(error, match=message):
            cross_validate_rank(**{"Y": torch.ones(9, 9), "ks": [1], **change})

    def test_wrong_arguments_of_the_curve(self):
        with pytest.raises(TypeError, match="max_k: expected an int ≥ 0, or None; got 2.5"):
            svd_curve(torch.ones(3, 4), 2.5)
        with pytest.raises(ValueError, match=r"Y: expected a matrix .* 2 dimensions; got \(3,\)"):
            svd_curve(torch.ones(3))


class TestWhatIsNotStored:
    """A sparse matrix of which nothing is known but what it stores."""

    @pytest.fixture
    def Y(self):
        return planted(80, 60, noise=0.2) + 1e-3  # stored where it would be zero, too

    @pytest.fixture
    def known(self):
        return torch.rand(80, 60, generator=torch.Generator().manual_seed(1)) < 0.5

    @pytest.mark.parametrize("kind", ["csr tensor", "csr array", *slow("csc tensor", "coo matrix")])
    def test_the_planted_number_is_found(self, Y, known, kind):
        sparse = sparse_of(Y, known)
        given = {
            "csr tensor": csr_of(sparse),
            "csc tensor": csr_of(sparse.T).mT,
            "csr array": sparse.T.tocsr(),  # a sample in each row
            "coo matrix": scipy.sparse.coo_matrix(sparse.T),
        }[kind]
        scores = cross_validate_rank(given, range(1, 7), missing="unstored")
        assert scores.best == 4
        assert scores.mean.shape == (6,)
        torch.testing.assert_close(
            scores.mean, cross_validate_rank(csr_of(sparse), range(1, 7), missing="unstored").mean
        )

    @pytest.mark.parametrize("method", ["hals", "mu"])
    def test_the_error_is_that_on_hidden_entries(self, Y, known, method):
        matrix = checked_sparse(csr_of(sparse_of(Y, known)), observed=True)
        parts = deal_stored(matrix, 3, seed=0)
        options = {"method": method, "init": "random", "max_iter": 30, "ridge_W": 0.1, "ridge_H": 0.1}
        for part in range(3):
            hidden = torch.zeros_like(known)
            hidden[tuple(x[parts == part] for x in matrix.places)] = True
            seen = known & ~hidden
            fit = factorize(csr_of(sparse_of(Y, seen)), 3, mask="stored", tol=0.0, **options)
            predicted = (fit.H @ fit.W).clamp(max=Y[seen].max())
            expected = (predicted - Y)[hidden].norm() / Y[hidden].norm()
            torch.testing.assert_close(stored_errors(matrix, parts == part, 3, options), expected)

    @pytest.mark.parametrize("turned", [False, True])
    def test_every_line_is_dealt_in_equal_shares(self, Y, known, turned):
        known = known.T if turned else known
        matrix = checked_sparse(csr_of(sparse_of(Y.T if turned else Y, known)), observed=True)
        parts = deal_stored(matrix, 5, seed=0)
        line = matrix.places[0 if turned else 1]  # of the longer ones
        counts = torch.zeros(60, 5).index_put_((line, parts), torch.ones(len(line)), accumulate=True)
        assert (counts.amax(1) - counts.amin(1)).max() <= 1
        assert parts.bincount().max() - parts.bincount().min() <= 1
        assert not torch.equal(parts, deal_stored(matrix, 5, seed=1))

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_the_scale_does_not_matter(self, Y, known, scale):
        expected, found = (
            cross_validate_rank(csr_of(sparse_of(s * Y, known)), [2, 4], missing="unstored", rounds=5).mean
            for s in (1.0, scale)
        )
        torch.testing.assert_close(found, expected)

    def test_a_line_of_which_nothing_is_known_and_zeros(self, Y, known):
        known[3], known[:, 5] = False, False
        scores = cross_validate_rank(csr_of(sparse_of(Y, known)), [4], missing="unstored")
        assert scores.mean < 0.5
        zeros = cross_validate_rank(csr_of(sparse_of(0 * Y, known)), [1, 4], missing="unstored")
        assert (zeros.mean == 0).all()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"Y": torch.ones(9, 9)}, ValueError, "Y: expected a sparse matrix with missing='unstored'; got a dense"),
            ({"Y": np.ones((9, 9))}, ValueError, "Y: expected a sparse matrix with missing='unstored'; got a dense"),
            ({"Y": torch.ones(9, 9).to_sparse()}, TypeError, "Y: expected .* layout torch.sparse_csr"),
            ({"Y": -scipy.sparse.eye_array(9).tocsr()}, ValueError, "Y: expected entries ≥ 0"),
            ({"missing": "zero"}, ValueError, "missing: expected one of error, ignore, unstored; got 'zero'"),
            ({"missing": "error"}, ValueError, "missing: expected 'unstored' for a sparse Y"),
            ({"folds": 10}, ValueError, "folds: expected at most the number of entries that are stored = 9"),
            ({"method": "anls"}, ValueError, 'method, solver: expected "hals", or "mu" with the squared error'),
        ],
    )
    def test_wrong_arguments_are_named(self, change, error, message):
        given = {"Y": scipy.sparse.eye_array(9).tocsr(), "ks": [1], "missing": "unstored", **change}
        with pytest.raises(error, match=message):
            cross_validate_rank(**given)


def sparse_of(Y, known):
    rows, columns = known.nonzero().T.numpy()
    return scipy.sparse.csr_array((Y[known].numpy(), (rows, columns)), shape=tuple(Y.shape))


def csr_of(matrix):
    return sparse_tensor_of(matrix.tocsr())


class TestPicture:
    @pytest.mark.parametrize("batch", [(), (3,)])
    def test_it_shows_both_curves(self, batch, tmp_path):
        Y = planted(20, 15, noise=0.2, batch=batch)
        scores = cross_validate_rank(Y, [1, 2, 4], rounds=3)
        save_rank_selection(tmp_path / "rank.png", scores, svd_curve(Y), title="$x_1")
        with Image.open(tmp_path / "rank.png") as image:
            picture = np.asarray(image.convert("RGB")).astype(int)
        for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
            assert (np.abs(picture - colour).max(-1) <= 6).sum() > 300

    def test_one_point_and_no_numbers(self, tmp_path):
        nothing = torch.full((1,), math.nan)
        save_rank_selection(tmp_path / "rank.svg", RankScores((3,), nothing, nothing, torch.tensor(0)))
        assert "</svg>" in (tmp_path / "rank.svg").read_text()
