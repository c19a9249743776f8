"""Deep NMF: the gradient through the stack, planted hierarchies, labels."""

import numpy as np
import pytest
import torch
from helpers import rand
from torch.autograd import gradcheck

from diffnmf import nnls
from diffnmf.autoencoders import DeepNMF
from diffnmf.autoencoders.deep_nmf import level_errors
from diffnmf.data import load_dataset
from diffnmf.factorization import match_slots
from diffnmf.metrics import relative_error

pytestmark = pytest.mark.usefixtures("one_thread")


def plain(X, *dictionaries):
    """The errors by their definition, on X itself."""
    codes, errors, product = X, [], torch.eye(X.shape[1], dtype=X.dtype)
    for A in dictionaries:
        codes, product = nnls(A.T, codes.T).W.T, A @ product
        errors.append((X - codes @ product).square().sum())
    return torch.stack(errors), codes


def planted(samples=600, seed=0):
    """Three topics of three parts each: parts are single pixels and their surroundings, and vary within a topic.

    Returns X (N, 45), the parts (9, 45), what topics are made of (3, 9), and the topic of a sample (N,).
    """
    random = torch.Generator().manual_seed(seed)
    parts = torch.zeros(9, 45)
    for i, part in enumerate(parts):
        part[5 * i : 5 * i + 5] = torch.tensor([0.3, 0.8, 1.0, 0.6, 0.2])
        part[(5 * i + 9) % 45] = 0.3  # parts overlap
    mixing = torch.block_diag(*[torch.tensor([[1.0, 0.7, 0.5]])] * 3)
    topic = torch.randint(3, (samples,), generator=random)
    strength = 0.5 + torch.rand(samples, 1, generator=random)
    shares = strength * mixing[topic] * (0.5 + torch.rand(samples, 9, generator=random))
    X = shares @ parts + 0.02 * torch.rand(samples, 45, generator=random)
    return X, parts, mixing, topic


def cosines(found, true):
    """Of each true row and the found one that stands for it."""
    found, true = (torch.nn.functional.normalize(x.double(), dim=1) for x in (found, true))
    return (found[match_slots(found.T, true.T)] * true).sum(1)


@pytest.mark.parametrize("sizes", [(4,), (4, 2), (5, 3, 2)])
def test_the_gradient_through_the_stack(sizes):
    X = rand(7, 9)
    lengths = (9, *sizes)
    dictionaries = [rand(*pair, seed=i + 1) for i, pair in enumerate(zip(sizes, lengths, strict=False))]
    leaves = [x.clone().requires_grad_() for x in (X, *dictionaries)]
    assert gradcheck(lambda X, *A: level_errors(X, A), leaves)
    found, expected = level_errors(leaves[0], leaves[1:]), plain(*leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        gradients = [torch.autograd.grad(x.sum(), leaves, retain_graph=True, allow_unused=True) for x in (one, other)]
        torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-9)


def test_the_error_of_exact_data_is_not_negative():
    dictionaries = [rand(4, 40, seed=1, dtype=torch.float32), rand(2, 4, seed=2, dtype=torch.float32)]
    X = rand(50, 2, dtype=torch.float32) @ dictionaries[1] @ dictionaries[0]
    errors, _ = level_errors(X, dictionaries)
    assert errors.dtype == torch.float64
    assert (errors >= 0).all()
    assert (errors < 1e-7 * X.double().square().sum()).all()


@pytest.mark.parametrize("scale", [2.0**-80, 2.0**60])
def test_the_loss_is_that_of_samples_of_any_size(scale):
    X = rand(40, 12, dtype=torch.float32)
    plain, scaled = (DeepNMF(12, 3, epochs=2).fit(size * X) for size in (1, scale))
    assert scaled.losses_ == plain.losses_
    assert torch.equal(scaled.components_, plain.components_)


def test_labels_of_many_classes_are_not_rounded(monkeypatch):
    """bfloat16 has no numbers between 256 and 258."""
    seen, plain = [], DeepNMF._label_loss

    def watched(self, codes, labels):
        seen.append(labels)
        return plain(self, codes, labels)

    monkeypatch.setattr(DeepNMF, "_label_loss", watched)
    labels = torch.arange(60) + 240
    DeepNMF(16, 3, classes=300, epochs=1, batch_size=60).bfloat16().fit(rand(60, 16), labels)
    assert torch.equal(seen[-1].sort().values, labels)


def test_a_planted_hierarchy_is_found():
    X, parts, mixing, topic = planted()
    model = DeepNMF(45, 3, hidden=(9,), epochs=30, batch_size=100, learning_rate=2e-3).fit(X)
    assert model.losses_[-1] < model.losses_[0]
    assert cosines(model.level_components(0), parts).min() > 0.95
    assert cosines(model.level_components(1), mixing @ parts).min() > 0.95
    strongest = model.encode(X).argmax(1)
    pairs = torch.zeros(3, 3).index_put_((topic, strongest), torch.ones(len(X)), accumulate=True)
    assert pairs.amax(1).sum() > 0.95 * len(X)


def test_learning_together_is_better_than_level_by_level():
    """The coarse level gains three percent and more, and the fine one gives away less than two."""
    images = load_dataset("digits").train
    X = images.pixels(torch.arange(400)).flatten(1)
    options = {"hidden": (16,), "batch_size": 100, "learning_rate": 3e-3}
    greedy, deep = (DeepNMF(64, 6, epochs=epochs, **options).fit(X) for epochs in (0, 20))
    errors = {
        model: [
            relative_error(X, S @ model.level_components(level)).item()
            for level, S in enumerate(model.encode_levels(X))
        ]
        for model in (greedy, deep)
    }
    assert errors[deep][1] < 0.97 * errors[greedy][1]
    assert errors[deep][0] < 1.02 * errors[greedy][0]
    assert deep.losses_[-1] < 0.97 * deep.losses_[0]
    squares = [error**2 for error in errors[greedy]]
    assert deep.losses_[0] == pytest.approx(sum(squares) / 2, rel=0.1)  # of the first epoch, as it went


def test_labels_make_the_codes_tell_classes_apart():
    X, _, _, topic = planted()
    labels = (topic + 1) % 3
    model = DeepNMF(45, 3, hidden=(9,), classes=3, epochs=20, batch_size=100, learning_rate=1e-2).fit(X, labels)
    assert (model.predict(X) == labels).float().mean() > 0.95
    unseen, _, _, topic = planted(seed=1)
    predicted = model.predict(unseen.numpy())
    assert isinstance(predicted, np.ndarray)
    assert (predicted == ((topic + 1) % 3).numpy()).mean() > 0.95
    assert min(A.min() for A in model.weights_meant_non_negative()) >= 0


def test_levels_are_what_they_say():
    X = rand(30, 12, dtype=torch.float32)
    model = DeepNMF(12, 2, hidden=(6, 4), epochs=1).fit(X)
    levels = model.encode_levels(X)
    assert [tuple(S.shape) for S in levels] == [(30, 6), (30, 4), (30, 2)]
    assert torch.equal(levels[-1], model.encode(X))
    product = model.level_weights(2) @ model.level_weights(1) @ model.level_weights(0)
    torch.testing.assert_close(product, model.components_)
    torch.testing.assert_close(model.decode(levels[-1]), levels[-1] @ product)
    exact = nnls(model.level_weights(1).T, levels[0].T).W.T
    torch.testing.assert_close(levels[1], exact)
    assert DeepNMF(12, 3).sizes == (6, 3)
    again = DeepNMF(12, 2, hidden=(6, 4), epochs=1).fit(X)
    assert torch.equal(again.components_, model.components_)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DeepNMF(5, 2, hidden=3), TypeError, "hidden: expected at least one int ≥ 1"),
        (lambda: DeepNMF(5, 2, hidden=(0,)), ValueError, "hidden: expected an int ≥ 1; got 0"),
        (lambda: DeepNMF(5, 2, classes=1), ValueError, "classes: expected an int ≥ 2"),
        (lambda: DeepNMF(5, 2, label_weight=0), ValueError, "label_weight: expected a finite number > 0"),
        (lambda: DeepNMF(5, 2).level_components(2), ValueError, "level: expected less than 2"),
        (lambda: DeepNMF(5, 2).predict(torch.rand(3, 5)), ValueError, "classes: expected how many"),
        (lambda: DeepNMF(5, 2).fit(torch.rand(9, 5), [0] * 9), ValueError, "labels: expected labels with classes"),
        (lambda: DeepNMF(5, 2, classes=2).fit(torch.rand(9, 5)), ValueError, "labels: expected labels with classes"),
        (
            lambda: DeepNMF(5, 2, classes=2).fit(torch.rand(9, 5), [0] * 8),
            ValueError,
            "labels: expected one class for each of 9",
        ),
        (lambda: DeepNMF(5, 2, classes=2).fit(torch.rand(9, 5), [0.0] * 9), TypeError, "labels: expected integers"),
        (lambda: DeepNMF(5, 2, classes=2).fit(torch.rand(9, 5), ["a"] * 9), TypeError, "labels: expected integers"),
        (
            lambda: DeepNMF(5, 2, classes=2).fit(torch.rand(9, 5), [2] * 9),
            ValueError,
            "labels: expected classes from 0 to 1; got 2 to 2",
        ),
        (lambda: DeepNMF(5, 2).fit(-torch.rand(9, 5)), ValueError, r"X: expected finite numbers in \[0, inf\)"),
        (lambda: DeepNMF(5, 2).fit(torch.rand(3, 5)), ValueError, "X: expected at least 4 samples"),
        (
            lambda: DeepNMF(5, 2, hidden=(4, 7)).fit(torch.rand(6, 5)),
            ValueError,
            r"X: expected at least 7 samples, as many as the largest level has components; got 6 \(lower hidden",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
