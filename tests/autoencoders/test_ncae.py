"""NCAE: its loss, what its penalty does, and the deep classifier made of it."""

import numpy as np
import pytest
import torch
from helpers import close, matrix, rand, randn

from diffnmf.autoencoders import NCAE, NCAEClassifier, ncae_loss
from diffnmf.data import load_dataset

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    """Images as rows (N, 64) in [0, 1], and their labels."""
    images = load_dataset("digits").train
    return images.pixels(torch.arange(len(images))).flatten(1), images.labels


def smallest_weight(model):
    return min(weight.min().item() for weight in model.weights_meant_non_negative())


def test_the_gradient_of_the_loss():
    X = rand(7, 5)
    weights = [
        randn(*shape, seed=seed).requires_grad_() for seed, shape in enumerate([(3, 5), (3,), (5, 3), (5,)], start=1)
    ]
    assert torch.autograd.gradcheck(lambda *w: ncae_loss(X, *w, penalty=0.5), weights)


def test_the_loss_by_hand():
    """One sample, one pixel, one unit."""
    loss = ncae_loss(
        matrix([[0.25]]),
        matrix([[-2.0]]),
        matrix([0.5]),
        matrix([[3.0]]),
        matrix([-1.5]),
        penalty=0.1,
        sparsity=0.5,
        sparsity_weight=2.0,
    )
    # The unit is active by σ(−2 · 0.25 + 0.5) = 1/2, which is the sparsity; the output is σ(3/2 − 1.5) = 1/2.
    close(loss, 0.5 * 0.25**2 + 0.05 * 4)


def test_the_penalty_pulls_negative_weights_alone():
    W = matrix([[-2.0, 3.0]]).requires_grad_()
    zero = torch.zeros(2, 1, dtype=torch.float64)
    options = {"sparsity": 0.5, "sparsity_weight": 0.0}

    def gradient(penalty):
        loss = ncae_loss(rand(4, 2), W, matrix([0.0]), zero, matrix([0.0, 0.0]), penalty=penalty, **options)
        return torch.autograd.grad(loss, W)[0]

    close(gradient(0.25) - gradient(0.0), [[-0.5, 0.0]])


def test_a_large_penalty_leaves_next_to_nothing_below_zero(digits):
    X = digits[0][:200]
    models = {penalty: NCAE(64, 10, penalty=penalty, max_iter=150).fit(X) for penalty in (0.0, 1000.0)}
    smallest = {penalty: smallest_weight(model) for penalty, model in models.items()}
    assert smallest[0.0] < -1
    assert smallest[1000.0] > -5e-3  # how far the steps have come is another matter on every processor


def test_both_layers_are_meant():
    encoder, decoder = NCAE(6, 2).weights_meant_non_negative()
    assert (encoder.shape, decoder.shape) == ((2, 6), (6, 2))


def test_a_unit_that_is_never_active_has_a_finite_loss():
    weights = torch.zeros(1, 2), torch.full((1,), -1e4), torch.zeros(2, 1), torch.zeros(2)
    assert bool(ncae_loss(torch.rand(3, 2), *weights).isfinite())


def test_the_classifier_tells_digits_apart(digits):
    X, y = digits
    test = load_dataset("digits").test
    unseen = test.pixels(torch.arange(len(test))).flatten(1)
    options = {"sparsity": 0.3, "sparsity_weight": 0.1, "max_iter": 60}
    model = NCAEClassifier(64, (30, 20), 10, tuning_iter=0, **options).fit(X, y)
    untuned = (model.predict(unseen) == test.labels).double().mean()
    tuned = NCAEClassifier(64, (30, 20), 10, tuning_iter=60, **options).fit(X.numpy(), y.numpy())
    accuracy = (torch.from_numpy(tuned.predict(unseen.numpy())) == test.labels).double().mean()
    assert accuracy > 0.92
    assert accuracy > untuned + 0.01 > 0.5
    assert isinstance(tuned.encode(unseen.numpy()), np.ndarray)
    assert len(tuned.weights_meant_non_negative()) == 3


def test_layers_of_equal_shape_begin_with_weights_of_their_own(digits):
    X, y = (values[:20] for values in digits)
    model = NCAEClassifier(64, (64, 64), 10, max_iter=0, softmax_iter=0, tuning_iter=0)
    for _ in range(2):  # as it is made, and as it begins to learn
        first, second = model.layers
        assert not torch.equal(first.encoder.weight, second.encoder.weight)
        again = NCAEClassifier(64, (64, 64), 10, max_iter=0, softmax_iter=0, tuning_iter=0)
        assert torch.equal(again.layers[1].encoder.weight, second.encoder.weight)
        model.fit(X, y)


def test_a_large_penalty_holds_in_the_whole_classifier(digits):
    X, y = (values[:200] for values in digits)
    model = NCAEClassifier(64, (12, 8), 10, penalty=300.0, max_iter=60, softmax_iter=50, tuning_iter=50).fit(X, y)
    assert smallest_weight(model) > -1e-3


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (torch.zeros(5), TypeError, "y: expected integers"),
        (torch.zeros(4, dtype=torch.int64), ValueError, "y: expected one class for each of 5 samples"),
        (torch.full((5,), 3), ValueError, "y: expected classes from 0 to 2; got 3 to 3"),
        (torch.full((5,), -1), ValueError, "y: expected classes from 0 to 2; got -1 to -1"),
    ],
)
def test_wrong_classes_are_named(y, error, message):
    with pytest.raises(error, match=message):
        NCAEClassifier(6, (2,), 3).fit(torch.rand(5, 6), y)


def test_wrong_options_of_the_classifier_are_named():
    with pytest.raises(ValueError, match="ks: expected at least one int"):
        NCAEClassifier(6, (), 3)
    with pytest.raises(ValueError, match="classes: expected an int ≥ 2; got 1"):
        NCAEClassifier(6, (2,), 1)
    for name in ("softmax_iter", "tuning_iter", "penalty"):
        with pytest.raises(ValueError, match=name):
            NCAEClassifier(6, (2,), 3, **{name: -1})
