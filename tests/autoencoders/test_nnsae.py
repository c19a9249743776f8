"""NNSAE: its rules by hand, the bars, the soft case."""

import numpy as np
import pytest
import torch
from helpers import rand, slow

from diffnmf.autoencoders import NNSAE
from diffnmf.errors import DivergenceError

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 9
BARS = torch.cat([torch.eye(SIDE).repeat_interleave(SIDE, dim=1), torch.eye(SIDE).repeat(1, SIDE)])  # (18, 81)


def pictures(count, seed):
    """Two different horizontal and two different vertical bars each; where they cross they do not add up."""
    random = np.random.default_rng(seed)
    X = np.zeros((count, SIDE, SIDE), dtype=np.float32)
    for image in X:
        image[random.choice(SIDE, 2, replace=False)] = 1
        image[:, random.choice(SIDE, 2, replace=False)] = 1
    return X.reshape(count, -1)


@pytest.mark.parametrize("seed", [0, *slow(1, 2)])
def test_it_finds_the_bars(seed):
    X = 0.25 * pictures(5000, seed)
    model = NNSAE(SIDE**2, 2 * SIDE, epochs=10, seed=seed).fit(X)
    cosines = torch.nn.functional.normalize(BARS) @ torch.nn.functional.normalize(model.components_).mT
    assert int((cosines.amax(dim=1) > 0.9).sum()) >= 16
    assert model.losses_[-1] < 0.3 * model.losses_[0]


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.3, 0.01)])
def test_one_sample_by_the_formulas(alpha, beta):
    X, rates = rand(1, 6), {"learning_rate": 0.5, "regularisation": 0.1, "plasticity_rate": 0.05}
    model = NNSAE(6, 3, negative_decay=alpha, positive_decay=beta, mean_activity=0.2, **rates).double()
    with torch.no_grad():
        model.weight.copy_(0.6 * rand(6, 3, seed=1) - 0.3)
        model.offset.fill_(2.0)
    W, a, b, x = model.weight.clone(), model.slope.clone(), model.offset.clone(), X[0]
    g = W.mT @ x
    h = torch.sigmoid(a * g + b)
    W = W + 0.5 * torch.outer(x - W @ h, h) / (0.1 + h @ h)
    W = torch.where(W < 0, (1 - alpha) * W, (1 - beta) * W)
    db = 0.05 * (1 - (2 + 1 / 0.2) * h + h.square() / 0.2)
    model.partial_fit(X)
    torch.testing.assert_close(model.weight, W, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.offset, b + db, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.slope, a + 0.05 / a + g * db, rtol=0, atol=1e-12)


def test_projection_leaves_nothing_negative_and_the_soft_case_little():
    X = 0.25 * pictures(300, 0)
    smallest = [NNSAE(81, 18, negative_decay=alpha).fit(X).components_.min().item() for alpha in (1.0, 0.5, 1e-3)]
    assert smallest[0] == 0
    assert smallest[0] > smallest[1] > smallest[2]


def test_units_become_as_active_as_they_should():
    X = 0.25 * pictures(1000, 0)
    few, many = (
        NNSAE(81, 18, mean_activity=mean, plasticity_rate=0.01, epochs=5).fit(X).encode(X).mean() for mean in (0.1, 0.3)
    )
    # An exponential distribution of mean 0.3 has a tail above 1, where no code can be.
    assert few == pytest.approx(0.1, rel=0.15)
    assert 0.2 < many < 0.3


def test_samples_that_are_too_large_are_an_error():
    X = 1e25 * rand(20, 6, dtype=torch.float32)
    with pytest.raises(DivergenceError, match=r"loss: became inf in epoch 0 \(.*scale X down"):
        NNSAE(6, 3, epochs=1).fit(X)
    model = NNSAE(6, 3)
    before = model.components_.clone()
    with pytest.raises(DivergenceError, match="loss: became inf in this pass"):
        model.partial_fit(X)
    assert torch.equal(model.components_, before)
    assert model.losses_ == []


def test_passing_over_samples_as_they_come_depends_on_their_order():
    X = 0.25 * pictures(50, 0)
    one, same, other = (NNSAE(81, 4).partial_fit(rows) for rows in (X, X.copy(), X[::-1].copy()))
    assert torch.equal(one.components_, same.components_)
    assert not torch.equal(one.components_, other.components_)
    one.partial_fit(X[:0])  # no samples, no change
    assert torch.equal(one.components_, same.components_)
