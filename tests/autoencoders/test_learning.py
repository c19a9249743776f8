"""How the systems learn: what diverges, how long L-BFGS goes on, and weights that cannot learn."""

import pytest
import torch
from helpers import rand

from diffnmf.autoencoders import AUTOENCODERS, DeepNMF, NCAEClassifier
from diffnmf.autoencoders.learning import minimize, train_in_batches
from diffnmf.errors import DivergenceError

pytestmark = pytest.mark.usefixtures("one_thread")
X = rand(40, 12, dtype=torch.float32)
LABELS = torch.arange(40) % 3


@pytest.fixture(params=AUTOENCODERS)
def name(request):
    return request.param


def made(name):
    return AUTOENCODERS[name](12, 3, **({"max_iter": 3} if name == "ncae" else {"epochs": 2}))


def deep():
    return DeepNMF(12, 3, classes=3, epochs=1)


def classifier():
    return NCAEClassifier(12, (3,), 3, max_iter=3, softmax_iter=3, tuning_iter=3)


def test_what_diverges_says_so():
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 1e30)
    with pytest.raises(DivergenceError, match=r"loss: became (inf|nan) in epoch 1"):
        train_in_batches(
            lambda X: (X * weight).square().mean(),
            torch.ones(4, 3),
            [optimizer],
            torch.Generator(),
            epochs=3,
            batch_size=4,
        )
    with pytest.raises(DivergenceError, match="loss: became nan in evaluation 0"):
        minimize(lambda: (weight * torch.nan).sum(), [weight], max_iter=3)


def test_the_line_search_takes_no_iterations_away(monkeypatch):
    optimizers = []

    class Watched(torch.optim.LBFGS):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            optimizers.append(self)

    monkeypatch.setattr(torch.optim, "LBFGS", Watched)
    w = torch.full((8,), -1.5, dtype=torch.float64, requires_grad=True)

    def rosenbrock():
        return (100 * (w[1:] - w[:-1].square()).square() + (1 - w[:-1]).square()).sum()

    minimize(rosenbrock, [w], max_iter=3)
    (optimizer,) = optimizers
    assert optimizer.state[w]["n_iter"] == 3  # it was 2


def test_fit_inside_of_inference_mode(name):
    expected = made(name).fit(X).components_
    model = made(name)
    with torch.inference_mode():
        inside = made(name)
        model.fit(X + 0)
    assert torch.equal(model.components_, expected)
    with pytest.raises(ValueError, match="expected a weight that can be changed; got one made inside .*inference_mode"):
        inside.fit(X)


@pytest.mark.parametrize("make", [deep, classifier])
def test_labels_inside_of_inference_mode(make):
    expected = make().fit(X, LABELS).predict(X)
    model = make()
    with torch.inference_mode():
        labels = LABELS + 0
        model.fit(X, labels)
    assert torch.equal(model.predict(X), expected)
    assert torch.equal(make().fit(X, labels).predict(X), expected)


@pytest.mark.parametrize("name", [name for name in AUTOENCODERS if name != "nnsae"])  # its rules are no gradients
def test_frozen_weights_are_named(name):
    """All are drawn anew, so that none could stay what it is."""
    model = made(name)
    last = list(model.parameters())[-1].requires_grad_(False)
    before = last.clone()
    with pytest.raises(ValueError, match=r"expected a weight with requires_grad=True.*requires_grad_\(\)"):
        model.fit(X)
    assert torch.equal(last, before)
    model.requires_grad_().fit(X)


def test_frozen_weights_of_the_classifier_are_named():
    with pytest.raises(ValueError, match="layers.0.encoder.weight: expected a weight with requires_grad=True"):
        classifier().requires_grad_(False).fit(X, LABELS)


def test_float16_learns_or_says_that_it_cannot(name):
    model = made(name).half()
    if name in ("ncae", "nnsae"):
        model.fit(X)
        assert model.losses_[-1] < model.losses_[0]
    else:
        message = r"expected torch.float32.*to learn by Adam; got torch.float16 .*model.bfloat16\(\)"
        with pytest.raises(TypeError, match=message):
            model.fit(X)
