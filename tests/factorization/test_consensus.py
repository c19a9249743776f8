"""Consensus: planted components are stable and found; what is not there is not."""

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix
from scipy.sparse import csr_array
from sklearn.metrics import silhouette_samples

from diffnmf import nnls
from diffnmf.errors import PredictionWarning
from diffnmf.factorization import MU, consensus, consensus_curve, factorize, replicate
from diffnmf.factorization.consensus import _silhouettes
from diffnmf.figures.curves import save_consensus

pytestmark = [
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]


def planted(k=4, n=40, m=80, noise=0.02):
    """Sparse parts, so that the factorisation is unique."""
    H = random_matrix(n, k) * (torch.arange(n)[:, None] % (k + 1) == torch.arange(k))
    W = random_matrix(k, m, seed=1) * (random_matrix(k, m, seed=2) < 0.5)
    return H @ W + noise * random_matrix(n, m, seed=3), H


def test_planted_components_are_found_and_stable():
    Y, H = planted()
    found = consensus(Y, 4, n_init=8, max_iter=300, tol=1e-4)
    assert found.H.shape == (40, 4)
    assert found.silhouettes.shape == (6, 4)
    assert (found.stability > 0.95).all()
    assert (found.stability.diff() <= 0).all()
    cosines = (H / H.norm(dim=0)).T @ found.H
    assert (cosines.amax(1) > 0.98).all()
    assert found.error < 1.1 * found.errors.min()


def test_the_curve_tells_how_many_there_are():
    Y, _ = planted()
    scores = consensus_curve(Y, range(2, 7), n_init=8, max_iter=300, tol=1e-4)
    assert scores.ks == (2, 3, 4, 5, 6)
    assert scores.least[2] > 0.95
    assert (scores.least[3:] < 0.9).all()
    assert scores.error[2] < 0.7 * scores.error[1]
    assert (scores.best_error.diff() < 0).all()


@pytest.mark.parametrize("dead", [0, 2, 5])
def test_silhouettes_are_those_of_scikit_learn(dead):
    """A component of zeros counted as far from itself."""
    bases = random_matrix(5, 12, 3)
    bases = bases / bases.norm(dim=1, keepdim=True)
    bases[:dead, :, 1] = 0
    points = bases.movedim(2, 0).reshape(15, 12).numpy()
    expected = silhouette_samples(points, np.repeat(np.arange(3), 5), metric="cosine").reshape(3, 5).T
    np.testing.assert_allclose(_silhouettes(bases).numpy(), expected, atol=1e-12)
    alike = _silhouettes(bases[..., :1].expand(5, 12, 1)[:1].expand(4, 12, 1))
    assert torch.allclose(alike, torch.ones(4, 1).double())


def test_arrays_have_samples_in_rows_and_sparse_matrices_count():
    Y, _ = planted()
    options = {"n_init": 4, "max_iter": 60, "tol": 0.0}
    by_tensor, by_array = consensus(Y, 3, **options), consensus(Y.T.numpy(), 3, **options)
    torch.testing.assert_close(by_tensor.H, by_array.H)
    sparse = (Y * (Y > 0.1)).to_sparse_csr()
    assert consensus(sparse, 3, **options).error == pytest.approx(consensus(sparse.to_dense(), 3, **options).error)


def test_one_component_is_as_stable_as_its_replicates_are_alike():
    found = consensus(planted()[0], 1, n_init=4, max_iter=200)
    assert found.stability[0] > 0.999


def test_the_median_is_between_the_replicates():
    """Of two it was the smaller one, entry by entry."""
    Y = planted()[0]
    found = consensus(Y, 1, n_init=2, method="mu", max_iter=1, tol=0.0)
    bases = replicate(Y, 1, n_init=2, method="mu", max_iter=1, tol=0.0).factors.H
    bases = bases / bases.norm(dim=1, keepdim=True)
    assert (bases[0] - bases[1]).abs().max() > 1e-3
    torch.testing.assert_close(found.H, torch.nn.functional.normalize(bases.mean(0), dim=0))


def test_what_is_hidden_does_not_count():
    """The fits left it out, the weights and the error of the consensus did not."""
    Y, _ = planted()
    mask = random_matrix(*Y.shape, seed=7) > 0.2
    options = {"mask": mask, "n_init": 4, "max_iter": 100, "tol": 0.0}
    found = consensus(torch.where(mask, Y, torch.nan), 4, **options)
    same = consensus(torch.where(mask, Y, 100.0), 4, **options)
    assert torch.equal(found.H, same.H)
    assert torch.equal(found.W, same.W)
    residual = torch.where(mask, Y - found.H @ found.W, 0.0)
    assert found.error == pytest.approx(float(residual.norm() / (Y * mask).norm()))
    assert found.error < 1.5 * found.errors.min()
    weights = mask * (1 + random_matrix(*Y.shape, seed=8))
    weighed = consensus(Y, 4, weights=weights, n_init=4, max_iter=100, tol=0.0)
    size = (weights * Y.square()).sum().sqrt()
    expected = (weights * (Y - weighed.H @ weighed.W).square()).sum().sqrt() / size
    assert weighed.error == pytest.approx(float(expected))
    best, expected_W = weighed.W, nnls(weighed.H, Y, weights=weights).W
    torch.testing.assert_close(best, expected_W)


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_missing_entries_are_those_of_a_mask(kind):
    Y, _ = planted()
    known = random_matrix(*Y.shape, seed=7) > 0.2
    holes = torch.where(known, Y, torch.nan)
    options = {"n_init": 4, "max_iter": 60, "tol": 0.0}
    expected = consensus(Y, 4, mask=known, **options)
    given = holes if kind == "tensor" else holes.T.numpy()
    found = consensus(given, 4, missing="ignore", **options)
    assert torch.equal(found.H, expected.H)
    assert consensus_curve(given, [4], missing="ignore", **options).error[0] == expected.error
    with pytest.raises(ValueError, match="NaN"):
        consensus(holes.T.numpy(), 4, **options)


def test_what_is_not_stored_may_be_missing():
    Y, _ = planted()
    known = random_matrix(*Y.shape, seed=7) > 0.2
    sparse = csr_array((known * Y).numpy())
    options = {"n_init": 4, "max_iter": 60, "tol": 0.0}
    found = consensus(sparse.T, 4, missing="unstored", **options)
    expected = consensus((known * Y).to_sparse_csr(), 4, mask="stored", **options)
    torch.testing.assert_close(found.H, expected.H)
    assert consensus_curve(sparse.T, [4], missing="unstored", **options).error[0] == pytest.approx(expected.error)
    zeros = consensus(sparse.T, 4, **options)
    assert zeros.error == pytest.approx(consensus(known * Y, 4, **options).error, rel=1e-2)


@pytest.mark.filterwarnings("error::diffnmf.errors.PredictionWarning")
def test_predictions_of_the_consensus_alone_are_looked_at():
    """Little is known: the weights of some replicate, which nobody sees, may be anything."""
    Y = random_matrix(20, 12)
    options = {"n_init": 5, "max_iter": 100, "tol": 0.0}
    with pytest.warns(PredictionWarning) as caught:
        consensus(Y, 8, mask=random_matrix(20, 12, seed=1) < 0.25, **options)
    assert len(caught) == 1
    mask = random_matrix(20, 12, seed=1) < 0.3
    with pytest.warns(PredictionWarning):
        replicate(Y, 8, mask=mask, **options)
    consensus(Y, 8, mask=mask, **options)


@pytest.mark.parametrize("beta", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("hidden", [False, True])
def test_under_another_loss_all_errors_are_of_that_loss(beta, hidden):
    """The consensus had the weights and the relative error of the squared one beside divergences of the replicates."""
    Y = planted()[0] + 0.1
    options = {"n_init": 4, "max_iter": 200, "tol": 0.0}
    if hidden:
        options["mask"] = random_matrix(*Y.shape, seed=7) > 0.1
    found = consensus(Y, 4, method=MU(beta), **options)
    fits = replicate(Y, 4, method=MU(beta), seed=0, **options).factors
    assert found.errors.tolist() == pytest.approx(fits.errors[-1].tolist())
    assert 0.9 * found.errors.min() < found.error < 1.5 * found.errors.min()
    start = {"H0": found.H, "W0": found.W, "max_iter": 0, "mask": options.get("mask"), "tol": 0.0}
    assert found.error == pytest.approx(float(factorize(Y, 4, method=MU(beta), **start).errors[-1]))


def test_the_picture(tmp_path):
    scores = consensus_curve(planted()[0], [2, 3], n_init=3, max_iter=20, tol=0.0)
    save_consensus(tmp_path / "consensus.png", scores, title="planted")
    assert (tmp_path / "consensus.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_init": 1}, "n_init: expected an int ≥ 2"),
        ({"keep": 0.0}, "keep: expected a number in"),
        ({"init": "nndsvd"}, "init: expected one that draws"),
        ({"missing": "zero"}, "missing: expected one of error, ignore, unstored; got 'zero'"),
        ({"missing": "unstored"}, "Y: expected a sparse matrix with missing='unstored'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        consensus(torch.rand(6, 5), 2, **options)


@pytest.mark.parametrize("missing", ["error", "ignore", "unstored"])
def test_a_layout_that_is_not_worked_on(missing):
    twice = torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (6, 5), check_invariants=True)
    with pytest.raises(TypeError, match=r"Y: expected .* layout torch.sparse_csr; got layout torch.sparse_coo"):
        consensus(twice, 2, missing=missing)


def test_a_nan_that_a_sparse_matrix_stores():
    Y = torch.rand(6, 5)
    Y[2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"Y: expected finite numbers in a sparse matrix; got NaN \(use a dense Y\)"):
        consensus(csr_array(Y.T.numpy()), 2, missing="ignore")
