"""Systems that measure samples in units of their own: no scale of the samples matters."""

import pytest
import torch
from helpers import rand

from diffnmf.autoencoders import NonNegativeAutoencoder, UnfoldedNMF
from diffnmf.metrics import relative_error

pytestmark = pytest.mark.usefixtures("one_thread")
X = rand(60, 12, dtype=torch.float32).pow(2)


@pytest.fixture(params=[NonNegativeAutoencoder, UnfoldedNMF])
def kind(request):
    return request.param


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_no_scale_of_the_samples_matters(kind, scale):
    plain, scaled = (kind(12, 3, l1=0.01, epochs=10, batch_size=20).fit(its) for its in (X, scale * X))
    expected = relative_error(X, plain(X).detach())
    torch.testing.assert_close(relative_error(scale * X, scaled(scale * X).detach()), expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(scaled.decode(scaled.encode(scale * X)), scaled(scale * X))


def test_a_state_without_size_is_in_units_of_one(kind):
    fitted = kind(12, 3, epochs=1).fit(X / X.max())
    assert fitted.size == 1
    state = fitted.state_dict()
    del state["size"]
    again = kind(12, 3, epochs=1).fit(5 * X)
    again.load_state_dict(state)
    assert torch.equal(again.encode(X), fitted.encode(X))
    assert "size" not in state


def test_samples_of_zeros_are_learnt(kind):
    model = kind(12, 3, epochs=1).fit(torch.zeros(5, 12))
    assert model.size == 1
    assert bool(model(X).isfinite().all())
