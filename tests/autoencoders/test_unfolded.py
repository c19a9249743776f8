"""Unfolded multiplicative updates: Lee and Seung's at their start, better ones when they have learnt."""

import pytest
import torch
from helpers import rand

from diffnmf.autoencoders import UnfoldedNMF

pytestmark = pytest.mark.usefixtures("one_thread")
N, SIZE, K = 200, 20, 5


def samples(seed=0):
    parts = rand(K, SIZE, seed=9).pow(3)
    return rand(N, K, seed=seed).pow(3) @ parts + 0.02 * rand(N, SIZE, seed=seed + 50)


def unlearnt(layers, **options):
    return UnfoldedNMF(SIZE, K, layers=layers, **options).double().begin_with(rand(K, SIZE, seed=3))


def test_a_layer_is_a_step_of_lee_and_seung():
    X, H = samples(), rand(K, SIZE, seed=3)
    codes = unlearnt(4).codes_by_layer(X)
    assert len(codes) == 5
    h = codes[0]
    for found in codes[1:]:
        h = h * (X @ H.mT) / (h @ H @ H.mT)
        torch.testing.assert_close(found, h, rtol=1e-6, atol=0)


def test_penalties_are_in_the_denominator():
    X, H = samples(), rand(K, SIZE, seed=3)
    before, after = unlearnt(1, l1=0.3, l2=0.7).codes_by_layer(X)
    torch.testing.assert_close(after, before * (X @ H.mT) / (before @ H @ H.mT + 0.7 * before + 0.3), rtol=1e-6, atol=0)


def test_the_first_codes_are_the_best_constant():
    X, H = samples(), rand(K, SIZE, seed=3)
    codes = unlearnt(1).codes_by_layer(X)[0]
    assert torch.equal(codes, codes[:, :1].expand_as(codes))
    residual = X - codes @ H
    assert (residual @ H.sum(dim=0)).abs().max() < 1e-6


def test_the_error_falls_from_layer_to_layer():
    X, H = samples(), rand(K, SIZE, seed=3)
    errors = torch.stack([(X - codes @ H).norm(dim=1) for codes in unlearnt(10).codes_by_layer(X)])
    assert bool((errors[1:] < errors[:-1]).all())  # for every sample


@pytest.mark.parametrize("layers", [1, 3])
def test_learnt_updates_say_more_than_as_many_unlearnt_ones(layers):
    model = UnfoldedNMF(SIZE, K, layers=layers, epochs=30, batch_size=20, learning_rate=3e-3).double().fit(samples())
    unseen, H = samples(seed=1), model.components_
    plain = UnfoldedNMF(SIZE, K, layers=layers).double().begin_with(H)
    with torch.no_grad():
        learnt, unlearnt = ((unseen - its(unseen)).norm() for its in (model, plain))
    assert learnt < 0.9 * unlearnt
    assert min(w.min().item() for w in model.weights_meant_non_negative()) >= 0
    assert model.penalties.min() >= 0


def test_a_sample_of_zeros_has_codes_of_zero_and_a_finite_gradient():
    X = torch.zeros(2, SIZE, dtype=torch.float64, requires_grad=True)
    model = unlearnt(3)
    codes = model.encode(X)
    assert bool((codes == 0).all())
    model(X).sum().backward()
    assert bool(X.grad.isfinite().all())


def test_codes_by_layer_take_arrays():
    X = samples()
    for array, tensor in zip(unlearnt(2).codes_by_layer(X.numpy()), unlearnt(2).codes_by_layer(X), strict=True):
        assert torch.equal(torch.from_numpy(array), tensor)


def test_wrong_components_are_named():
    model = UnfoldedNMF(SIZE, K)
    with pytest.raises(ValueError, match="components: expected 5 rows; got 4"):
        model.begin_with(torch.rand(4, SIZE))
    with pytest.raises(ValueError, match=r"components: expected finite numbers in \[0, inf\)"):
        model.begin_with(-torch.rand(K, SIZE))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_samples_whose_loss_is_no_number_are_learnt_all_the_same(scale):
    model = UnfoldedNMF(SIZE, K, epochs=2, batch_size=20).double().fit(scale * samples())
    assert model.losses_ == [0.0 if scale < 1 else float("inf")] * 2
    X = samples()
    plain = UnfoldedNMF(SIZE, K, epochs=2, batch_size=20).double().fit(X)
    torch.testing.assert_close(model(scale * X) / scale, plain(X), rtol=1e-6, atol=1e-8)
