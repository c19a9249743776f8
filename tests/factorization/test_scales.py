"""Data at the ends of what floats hold: the same factorisation in other units, or a clear error."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from diffnmf import NMF, Blocks, MiniBatchNMF
from diffnmf.factorization import METHODS, MU, consensus, factorize, initialize, spa, truncated_svd
from diffnmf.metrics import excess_over_svd, projected_gradient, summarize

pytestmark = pytest.mark.usefixtures("one_thread")

EXTREME = [2.0**-1000, 2.0**-670, 2.0**670, 2.0**1000]


@pytest.fixture
def A():
    random = np.random.default_rng(0)
    return random.random((30, 3)) @ random.random((3, 12)) + 0.01 * random.random((30, 12))


def model(**options):
    return NMF(3, **{"random_state": 0, "tol": 1e-3, "max_iter": 1000, **options})


@pytest.mark.parametrize("scale", [1e-200, 1e200, 1e-300, 1e300])
def test_the_estimator_at_every_scale(A, scale):
    usual, extreme = model(), model()
    W, W_extreme = usual.fit_transform(A), extreme.fit_transform(A * scale)
    np.testing.assert_allclose(extreme.reconstruction_err_ / scale, usual.reconstruction_err_, rtol=1e-6)
    np.testing.assert_allclose(W_extreme @ extreme.components_ / scale, W @ usual.components_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(extreme.transform(A * scale), W_extreme, rtol=1e-9)


@pytest.mark.parametrize("scale", EXTREME)
@pytest.mark.parametrize("kind", [csr_array, partial(Blocks, max_memory=20e3)], ids=["sparse", "blocks"])
def test_data_that_are_no_array_at_every_scale(A, kind, scale):
    """Squares of what is stored over- or underflowed: errors of 0 or NaN, or a division by zero."""
    usual, extreme = model().fit(kind(A)), model().fit(kind(A * scale))
    assert extreme.reconstruction_err_ / scale == pytest.approx(usual.reconstruction_err_, rel=1e-6)
    np.testing.assert_allclose(extreme.components_ / scale**0.5, usual.components_, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scale", EXTREME)
def test_mini_batches_stop_at_the_same_time(A, scale):
    """Costs that were 0 or infinite did not improve any more."""
    usual, extreme = (MiniBatchNMF(3, batch_size=10, max_iter=30).fit(X) for X in (A, A * scale))
    assert extreme.n_steps_ == usual.n_steps_ > 40
    np.testing.assert_allclose(extreme.components_ / scale**0.5, usual.components_, rtol=1e-9)


@pytest.mark.parametrize("scale", EXTREME)
@pytest.mark.parametrize("method", ["hals", "spa"])
def test_the_error_of_a_consensus(A, method, scale):
    options = {"n_init": 3, "tol": 0.0, "max_iter": 30, "method": method}
    usual, extreme = (consensus(X, 3, **options) for X in (A, A * scale))
    assert extreme.error == pytest.approx(usual.error, rel=1e-6)
    torch.testing.assert_close(extreme.stability, usual.stability)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_the_estimator_in_float32(A, scale):
    usual, extreme = model(), model()
    usual.fit(A.astype(np.float32))
    W = extreme.fit_transform((A * scale).astype(np.float32))
    np.testing.assert_allclose(extreme.reconstruction_err_ / scale, usual.reconstruction_err_, rtol=1e-2)
    assert np.isfinite(W).all()
    assert np.isfinite(extreme.components_).all()


@pytest.mark.parametrize("penalties", [{}, {"l1_W": 0.1, "ridge_W": 0.2, "ridge_H": 0.1}])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [2.0**-600, 2.0**600])
def test_every_method_runs_in_other_units(A, method, scale, penalties):
    allowed = {
        "spa": ("l1_W", "ridge_W"),
        "merge": ("l1_W", "ridge_W"),
        "published_hals": ("l1_W",),
        "unit_columns": (),
    }
    penalties = {name: value for name, value in penalties.items() if name in allowed.get(method, (name,))}
    root = scale**0.5
    powers = {"l1": root**3, "ridge": scale}
    scaled = {name: value * powers[name.split("_")[0]] for name, value in penalties.items()}
    Y = torch.from_numpy(A).T
    usual = factorize(Y, 3, method=method, tol=0.0, max_iter=30, **penalties)
    extreme = factorize(Y * scale, 3, method=method, tol=0.0, max_iter=30, **scaled)
    torch.testing.assert_close(extreme.errors, usual.errors, rtol=1e-12, atol=0)
    length = 1.0 if METHODS[method]().unit_basis else root  # then W has all of the scale
    torch.testing.assert_close(extreme.H / length, usual.H, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(extreme.W / (scale / length), usual.W, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning")  # rightly: the tolerance is tiny
@pytest.mark.parametrize("init", ["uniform", "nndsvda"])
@pytest.mark.parametrize("method", ["hals", "mu", "anls"])
@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.float64, 1e-300), (torch.float64, 1e300), (torch.float32, 1e-30), (torch.float32, 1e30)]
)
def test_starts_in_the_units_of_Y_do_not_overflow(A, init, method, dtype, scale):
    """They began so far off that the first gradient was infinite, which counted as converged."""
    Y = (torch.from_numpy(A).T * scale).to(dtype)
    run = factorize(Y, 3, method=method, init=init, tol=1e-12, max_iter=300)
    assert run.errors[-1] < 0.4
    assert all(x.isfinite().all() for x in initialize(Y, 3, init))


@pytest.mark.parametrize("given", ["H0", "W0"])
def test_given_factors_that_are_out_of_all_proportion_are_refused(A, given):
    Y = torch.from_numpy(A).T
    factors = {"H0": torch.rand(12, 3).double(), "W0": torch.rand(3, 30).double()}
    with pytest.raises(
        ValueError, match=f"{given}: expected entries whose products can be represented.*scale H0 and W0"
    ):
        factorize(Y, 3, **{given: 1e200 * factors[given]})
    assert factorize(Y * 1e250, 3, **{name: 1e125 * x for name, x in factors.items()}, tol=1e-3).errors[-1] < 0.1


@pytest.mark.parametrize("scale", EXTREME)
def test_spa_and_svd(A, scale):
    Y = torch.from_numpy(A).T
    assert torch.equal(spa(Y * scale, 3), spa(Y, 3) * scale)
    torch.testing.assert_close(truncated_svd(Y * scale, 2) / scale, truncated_svd(Y, 2))


@pytest.mark.parametrize("scale", EXTREME)
def test_the_scores_do_not_depend_on_the_units(A, scale):
    Y, root = torch.from_numpy(A).T, scale**0.5
    H, W, *_ = factorize(Y, 3, tol=1e-3)
    expected, found = summarize(Y, H, W), summarize(Y * scale, H * root, W * root)
    expected["column_error"] = expected["column_error"] * scale
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    excess = excess_over_svd(Y * scale, (H @ W) * scale, 3)
    torch.testing.assert_close(excess, excess_over_svd(Y, H @ W, 3), rtol=1e-6, atol=1e-9)


def test_a_tiny_projected_gradient_is_not_zero(A):
    Y = torch.from_numpy(A).T
    H, W = torch.rand(12, 3).double(), torch.rand(3, 30).double()
    scale = 2.0**-400
    torch.testing.assert_close(
        projected_gradient(Y * scale, H * scale**0.5, W * scale**0.5) / scale**1.5, projected_gradient(Y, H, W)
    )


@pytest.mark.parametrize("method", ["hals", "anls", MU(), MU("kullback-leibler"), MU("itakura-saito")], ids=str)
@pytest.mark.parametrize(("dtype", "power"), [(torch.float32, 100), (torch.float64, 900)], ids=["float32", "float64"])
@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_the_units_of_weights_do_not_count(A, method, dtype, power, penalty):
    """From 1e20 in float32 on (one over the square of 1e-10) the start was returned, and said to have converged."""
    Y = torch.from_numpy(A).to(dtype)
    V = torch.from_numpy(np.random.default_rng(1).random(A.shape)).to(dtype)
    results = []
    for exponent in (0, power, -power):
        penalties = dict.fromkeys(("l1_W", "ridge_W", "l1_H", "ridge_H"), penalty * 2.0**exponent)
        batch = {"weights": torch.stack((V * 2.0**exponent, V)), "tol": 0.0, "max_iter": 20, **penalties}
        H, W, errors, *_ = factorize(Y.expand(2, *Y.shape), 3, method=method, init="random", **batch)
        results.append(
            (H[0], W[0], errors[:, 0] / (2.0 ** (exponent / 2) if method not in ("hals", "anls", MU()) else 1))
        )
    assert results[0][2][-1] < 0.5 * results[0][2][0]
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("beta", [2, 1])
@pytest.mark.parametrize("power", [-110, 110])
def test_the_units_of_the_weights_of_samples_do_not_count(A, beta, power):
    options = {"solver": "mu", "beta_loss": beta, "init": "random", "max_iter": 20, "tol": 0.0}
    V = np.random.default_rng(1).random(A.shape).astype(np.float32)
    usual, extreme = (model(alpha_W=1e-2 * scale, **options) for scale in (1, 2.0**power))
    W = usual.fit_transform(A.astype(np.float32), weights=V)
    np.testing.assert_allclose(extreme.fit_transform(A.astype(np.float32), weights=V * 2.0**power), W, rtol=1e-3)
    assert extreme.reconstruction_err_ == pytest.approx(usual.reconstruction_err_ * 2.0 ** (power / 2), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_weights_that_the_dtype_cannot_hold_are_refused(A, scale):
    """They became 0, which is not known, or infinite."""
    with pytest.raises(ValueError, match="weights: expected 0 or numbers that torch.float32, .* can represent"):
        model().fit(A.astype(np.float32), weights=np.full(len(A), scale))


@pytest.mark.parametrize("scale", [1e-60, 1e60])
@pytest.mark.parametrize("kind", [np.array, csr_array, torch.from_numpy], ids=["array", "sparse", "tensor"])
@pytest.mark.parametrize("estimator", [NMF, MiniBatchNMF])
def test_data_that_the_dtype_cannot_hold_are_refused(A, estimator, kind, scale):
    """They became zero, and were said to be fitted without error, or infinite, and the components NaN."""
    with pytest.raises(ValueError, match="X: expected numbers in the range of dtype torch.float32"):
        estimator(3, dtype="float32").fit(kind(A * scale))


@pytest.mark.parametrize("method", ["hals", "anls"])
@pytest.mark.parametrize("fixed", [False, True])
def test_components_that_drift_stay_in_the_range_of_float16(method, fixed):
    """H came out infinite where the scale of a component that is not needed had moved into it."""
    Y = torch.full((9, 5), 3.7).half()
    options = {"init": "random", "seed": [*range(20)], "tol": 0.0, "max_iter": 20, "method": method}
    known = torch.full((9, 1), 30000.0).half() if fixed else None
    H, W, errors, *_ = factorize(Y.expand(20, 9, 5), 2, fixed=known, **options)
    assert H.isfinite().all()
    assert W.isfinite().all()
    product = H.double() @ W.double()
    torch.testing.assert_close(product, Y.double().expand_as(product), rtol=4e-3, atol=0)
    assert errors[-1].max() < 1e-3
    if known is not None:
        assert torch.equal(H[:, :, :1], known.expand(20, 9, 1))
