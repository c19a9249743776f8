"""Arrays in strange memory: the same result as of a plain copy."""

import numpy as np
import pytest

from diffnmf import NMF, MiniBatchNMF

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
