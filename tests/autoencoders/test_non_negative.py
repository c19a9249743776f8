"""The non-negative autoencoder: its divergence, and two sources taken apart."""

import numpy as np
import pytest
import torch
from helpers import rand
from scipy.special import kl_div

from diffnmf.autoencoders import NonNegativeAutoencoder, ProjectedAutoencoder, separate
from diffnmf.autoencoders.non_negative import kl_divergence

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_divergence_is_that_of_scipy():
    X, X_hat = rand(4, 5), rand(4, 5, seed=1) + 0.1
    X[0, 0] = 0
    np.testing.assert_allclose(kl_divergence(X, X_hat), kl_div(X.numpy(), X_hat.numpy()).sum(axis=1), rtol=1e-12)
    assert bool(kl_divergence(X, torch.zeros_like(X)).isfinite().all())


def test_components_sum_to_one_and_codes_to_the_mass():
    X = rand(200, 12, dtype=torch.float32)
    model = NonNegativeAutoencoder(12, 6, epochs=40, batch_size=50).fit(X)
    torch.testing.assert_close(model.components_.sum(dim=1), torch.ones(6))
    assert (model.encode(X).sum() / X.sum()).item() == pytest.approx(1, abs=0.02)


def test_l1_makes_codes_smaller():
    X = rand(200, 12, dtype=torch.float32)
    small, plain = (
        NonNegativeAutoencoder(12, 6, l1=l1, epochs=40, batch_size=50).fit(X).encode(X).sum() for l1 in (1.0, 0.0)
    )
    assert small < 0.7 * plain


def test_two_sources_are_taken_apart():
    """Spectra of two sources with overlapping pixels: each is a mixture of its own three parts."""
    random = np.random.default_rng(0)
    bases = [random.random((3, 24)) * (random.random((3, 24)) < 0.3) for _ in range(2)]
    clean = [random.exponential(size=(300, 3)) @ basis for basis in bases]
    heard = [random.exponential(size=(40, 3)) @ basis for basis in bases]
    models = [NonNegativeAutoencoder(24, 3, epochs=60, batch_size=50).fit(X) for X in clean]
    mixture = heard[0] + heard[1]
    found = separate(mixture, models)
    np.testing.assert_allclose(sum(found), mixture, rtol=1e-4, atol=1e-5)
    for its, true, other in zip(found, heard, heard[::-1], strict=True):
        assert np.linalg.norm(its - true) < 0.25 * np.linalg.norm(other)  # the mixture itself is off by the other
    swapped = separate(torch.from_numpy(mixture), models[::-1])
    assert isinstance(swapped[0], torch.Tensor)
    np.testing.assert_allclose(swapped[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [2.0**-140, 1e-30, 1e-20, 1e20, 1e38])
def test_shares_sum_to_mixtures_of_any_size(scale):
    models = [NonNegativeAutoencoder(12, 3, seed=seed) for seed in (0, 1)]
    mixture = rand(6, 12, dtype=torch.float32)
    scaled = scale * mixture
    found = separate(scaled, models)
    torch.testing.assert_close(sum(found), scaled, rtol=1e-6, atol=1e-44)
    if scale == 2.0**-140:  # where numbers are coarse
        return
    for its, plain in zip(found, separate(mixture, models), strict=True):
        torch.testing.assert_close(its / scale, plain, rtol=1e-4, atol=0)


def test_what_no_source_can_say_is_shared_out_equally():
    models = [NonNegativeAutoencoder(12, 3, seed=seed) for seed in (0, 1)]
    for model in models:
        model.dictionary.data[:, 4] = -200  # of which softplus is zero
    mixture = rand(6, 12, dtype=torch.float32)
    found = separate(mixture, models)
    torch.testing.assert_close(sum(found), mixture, rtol=1e-6, atol=0)
    assert torch.equal(found[0][:, 4], mixture[:, 4] / 2)


def test_sources_of_two_dtypes():
    models = [NonNegativeAutoencoder(12, 3, seed=seed) for seed in (0, 1)]
    models[1].double()
    mixture = rand(6, 12, dtype=torch.float32)
    for sources, dtype in ((models, torch.float32), (models[::-1], torch.float64)):
        found = separate(mixture, sources)
        assert {its.dtype for its in found} == {dtype}
        torch.testing.assert_close(sum(found), mixture.to(dtype))


def test_nothing_is_shared_out_as_nothing():
    models = [NonNegativeAutoencoder(12, 3, seed=seed) for seed in (0, 1)]
    untouched = separate(torch.zeros(2, 12), models)
    assert all(bool((share == 0).all()) for share in untouched)
    with pytest.raises(ValueError, match="mixtures: expected finite numbers"):
        separate(torch.full((2, 12), -1.0), models)


@pytest.mark.parametrize(
    ("sources", "options", "error", "message"),
    [
        ([], {}, ValueError, "sources: expected at least one autoencoder"),
        ([ProjectedAutoencoder(12, 3)], {}, TypeError, r"sources\[0\]: expected a NonNegativeAutoencoder"),
        (
            [NonNegativeAutoencoder(12, 3), NonNegativeAutoencoder(11, 3)],
            {},
            ValueError,
            r"sources\[1\]: expected in_features = 12, as sources\[0\]; got 11",
        ),
        ([NonNegativeAutoencoder(12, 3)], {"l1": -1}, ValueError, "l1"),
        ([NonNegativeAutoencoder(12, 3)], {"iterations": -1}, ValueError, "iterations"),
    ],
)
def test_slips_are_named(sources, options, error, message):
    with pytest.raises(error, match=message):
        separate(rand(5, 12), sources, **options)
