"""Arrays in strange memory: the same result as of a plain copy."""

import numpy as np
import pytest

from diffnmf import NMF, MiniBatchNMF
from diffnmf.factorization import consensus, cross_validate_rank

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]
X = np.random.default_rng(0).random((11, 6))


@pytest.mark.parametrize("rows", [slice(None, None, -1), slice(0, None, -1), slice(2, None, -2)], ids=str)
@pytest.mark.parametrize("columns", [slice(None), slice(None, None, -1)], ids=str)
def test_an_array_that_is_read_backwards(rows, columns):
    """Also where one row of it is left, which NumPy calls contiguous, whatever its stride."""
    backwards = X[rows, columns]
    model = NMF(1, max_iter=20)
    np.testing.assert_array_equal(model.fit_transform(backwards), model.fit_transform(backwards.copy()))


def test_a_last_batch_of_one_row_that_is_read_backwards():
    model = MiniBatchNMF(2, batch_size=5, max_iter=3, random_state=0)
    np.testing.assert_array_equal(model.fit_transform(X[::-1]), model.fit_transform(X[::-1].copy()))
    np.testing.assert_array_equal(model.transform(X[::-1][:1]), model.transform(X[10:]))


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
def test_what_a_masked_array_hides_is_not_known(dtype):
    """It was taken for data."""
    whole = (100 * X).astype(dtype)
    hidden = X < 0.2
    masked = np.ma.masked_array(np.where(hidden, 77, whole).astype(dtype), hidden)
    holes = np.where(hidden, np.nan, whole).astype("float32" if dtype == "float32" else "float64")
    model = NMF(2, missing="ignore", max_iter=20)
    np.testing.assert_array_equal(model.fit_transform(masked), model.fit_transform(holes))
    scores = [cross_validate_rank(x, [1, 2], missing="ignore", rounds=5).mean for x in (masked, holes)]
    np.testing.assert_array_equal(*scores)
    with pytest.raises(ValueError, match="NaN"):
        NMF(2).fit(masked)
    with pytest.raises(ValueError, match="NaN"):
        MiniBatchNMF(2).fit(masked)
    with pytest.raises(ValueError, match="NaN"):
        consensus(masked, 2)
    with pytest.raises(ValueError, match="weights: expected finite numbers"):
        NMF(2).fit(whole, weights=masked)


def test_a_masked_array_that_hides_nothing_is_an_array():
    np.testing.assert_array_equal(NMF(2).fit_transform(np.ma.masked_array(X)), NMF(2).fit_transform(X))


@pytest.mark.parametrize("kind", ["samples", "index", "columns"])
def test_weights_with_the_labels_of_X_in_another_order_are_refused(kind):
    """They counted by their place."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    weights = pandas.DataFrame(X, columns=list("abcdef"))
    weights = {"samples": weights["a"][::-1], "index": weights[::-1], "columns": weights[list("fedcba")]}[kind]
    place = "columns" if kind == "columns" else "index"
    with pytest.raises(ValueError, match=f"weights: expected the {place} of X"):
        NMF(2).fit(frame, weights=weights)
    again = weights.reindex(columns=frame.columns) if kind == "columns" else weights.reindex(index=frame.index)
    for same in (again, again.to_numpy(), again.reset_index(drop=True)):
        NMF(2).fit(frame, weights=same)


def test_factors_of_two_sizes_are_refused_by_their_names():
    """The message spoke of W0."""
    with pytest.raises(ValueError, match="W: expected 2, but got 3"):
        NMF("auto", init="custom").fit(X, W=np.ones((11, 3)), H=np.ones((2, 6)))


@pytest.mark.parametrize("estimator", [NMF, MiniBatchNMF])
def test_objects_that_are_no_numbers(estimator):
    X = np.ones((6, 3), dtype=object)
    X[1, 2] = object()
    with pytest.raises(TypeError, match=r"X: expected numbers; float\(\) argument must be .* \(use NaN, or for a data"):
        estimator(2, missing="ignore").fit(X)
