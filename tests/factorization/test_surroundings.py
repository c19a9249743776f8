"""What stands around a call must not change it, nor be changed by it: autocast, other threads, filters of warnings."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import rand
from scipy.sparse import csr_array

from diffnmf import NMF, MiniBatchNMF
from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import (
    cross_validate_rank,
    initialize,
    match_slots,
    merge,
    move_prototypes,
    slot_prototypes,
    spa,
    svd_curve,
    truncated_svd,
)
from diffnmf.factorization.consensus import consensus

pytestmark = pytest.mark.usefixtures("one_thread")

Y = rand(40, 30, dtype=torch.float32)
PROTOTYPES = rand(40, 4, seed=1, dtype=torch.float32)
OPTIONS = {"tol": 0.0, "max_iter": 8}


def of(model, **options):
    W = model.fit_transform(Y.T, **options)
    return model.components_, W, model.transform(Y.T), model.inverse_transform(W), model.reconstruction_err_


CALLS = {
    "nmf": lambda: of(NMF(4, **OPTIONS)),
    "several starts": lambda: of(NMF(4, n_init=2, init="random", random_state=0, **OPTIONS)),
    "divergence": lambda: of(NMF(4, beta_loss="kullback-leibler", solver="mu", **OPTIONS)),
    "weights": lambda: of(NMF(4, **OPTIONS), weights=Y.T),
    "mini-batch": lambda: of(MiniBatchNMF(4, max_iter=3, batch_size=10, random_state=0)),
    "merge": lambda: merge(Y, 4),
    "nndsvda": lambda: initialize(Y, 4, init="nndsvda"),
    "svd": lambda: truncated_svd(Y, 4),
    "svd curve": lambda: svd_curve(Y, 6),
    "spa": lambda: spa(Y, 4),
    "matching": lambda: match_slots(Y[:, :4], PROTOTYPES),
    "prototypes": lambda: slot_prototypes(Y.reshape(40, 6, 5).movedim(1, 0)),
    "moving": lambda: move_prototypes(PROTOTYPES, Y[:, :4]),
    "cross-validation": lambda: cross_validate_rank(Y, [2, 3], folds=2, rounds=3),
    "consensus": lambda: consensus(Y, 3, n_init=3, **OPTIONS),
}


@pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_autocast_lowers_no_product(call):
    expected = call()
    with torch.autocast("cpu", torch.bfloat16):
        found = call()
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_fits_in_threads_leave_the_filters_of_warnings_as_they_are():
    """Filters are those of the process: what one thread saves and brings back may be those of another."""
    X = Y.T.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda seed: NMF(2, random_state=seed, max_iter=20, tol=1e-2).fit(X), range(64)):
                pass
            for _ in pool.map(lambda _: NMF(2, max_iter=20, tol=1e-2).fit(csr_array(X)), range(64)):
                pass
        assert list(warnings.filters) == before
    with pytest.warns(ConvergenceWarning):
        NMF(2, max_iter=1, tol=1e-9).fit(X)


def test_of_sparse_tensors_torch_has_nothing_to_say(fresh_processes):
    program = """if True:
        import warnings
        warnings.simplefilter("error")
        import numpy as np
        from scipy.sparse import csc_array, csr_array
        from diffnmf import NMF
        X = np.eye(6) + np.eye(6, k=1)
        NMF(2, max_iter=50, tol=0.1).fit(csr_array(X)).transform(csc_array(X))
    """
    result = fresh_processes.run(program)
    assert result.returncode == 0, result.stderr


def test_sparse_weights_are_taken_back():
    model = NMF(3, max_iter=50, tol=1e-2).fit(Y.T.numpy())
    W = np.where(np.arange(15).reshape(5, 3) % 2, 0.0, 1.0)
    np.testing.assert_array_equal(model.inverse_transform(csr_array(W)), model.inverse_transform(W))
