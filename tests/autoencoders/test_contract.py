"""What holds for every system of the registry."""

import copy
import pickle

import numpy as np
import pytest
import torch
from helpers import rand

from diffnmf.autoencoders import AUTOENCODERS, DeepNMF, NCAEClassifier
from diffnmf.autoencoders.samples import rows_of
from diffnmf.metrics import relative_error

pytestmark = pytest.mark.usefixtures("one_thread")
SIGMOID = {"sparsity": 0.3, "sparsity_weight": 0.1}
BATCHES = {"epochs": 20, "batch_size": 20}
SHORT = {
    "ncae": {"max_iter": 40, **SIGMOID},
    "nnsae": {"epochs": 30},
    "projected": {"learning_rate": 0.1, **BATCHES, **SIGMOID},
    "exponentiated_gradient": {"bias_learning_rate": 0.1, **BATCHES, **SIGMOID},
    "non_negative": {"encoder_learning_rate": 0.05, **BATCHES},
    "unfolded": {"epochs": 5, "batch_size": 20},
    "deep_nmf": {"epochs": 8, "batch_size": 20},
}
N, SIZE, K = 80, 12, 4


def samples(dtype=torch.float32):
    """Sums of 4 disjoint parts, in [0, 1]."""
    parts = torch.zeros(K, SIZE, dtype=torch.float64)
    for j in range(K):
        parts[j, 3 * j : 3 * j + 3] = 1
    return (rand(N, K).pow(2) @ parts).to(dtype)


def _deep(labels):
    return DeepNMF(SIZE, K, classes=3, epochs=1).fit(samples(), labels).predict(samples().numpy())


def _classifier(labels):
    model = NCAEClassifier(SIZE, (K,), 3, max_iter=3, softmax_iter=3, tuning_iter=3)
    return model.fit(samples(), labels).predict(samples().numpy())


@pytest.fixture(scope="module", params=AUTOENCODERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(name):
    return AUTOENCODERS[name](SIZE, K, **SHORT[name]).fit(samples())


def test_every_system_has_a_short_training_here():
    assert SHORT.keys() == AUTOENCODERS.keys()


def test_it_learns(name, fitted):
    X = samples()
    constant = relative_error(X.mT, X.mean(dim=0).expand_as(X).mT)
    with torch.no_grad():
        assert relative_error(X.mT, fitted(X).mT) < 0.9 * constant
    if name == "deep_nmf":  # which begins at NMF, here exact, and learns elsewhere
        assert max(fitted.losses_) < 1e-4
    else:
        assert fitted.losses_[-1] < fitted.losses_[0]


def test_shapes(fitted):
    X = samples()
    codes = fitted.encode(X)
    assert codes.shape == (N, K)
    assert fitted.components_.shape == (K, SIZE)
    torch.testing.assert_close(fitted.decode(codes), fitted(X))
    assert fitted.encode(X[:0]).shape == (0, K)
    assert fitted.decode(codes[:0]).shape == (0, SIZE)


def test_codes_are_non_negative(fitted):
    assert bool((fitted.encode(samples()) >= 0).all())


def test_arrays_come_back_for_arrays(fitted):
    X = samples()
    codes = fitted.encode(X.numpy())
    assert isinstance(codes, np.ndarray)
    np.testing.assert_array_equal(codes, fitted.encode(X).detach().numpy())
    assert isinstance(fitted.decode(codes), np.ndarray)
    assert isinstance(fitted.components_, torch.Tensor)


def test_the_gradient_reaches_the_samples(fitted):
    X = samples().requires_grad_()
    fitted(X).sum().backward()
    assert bool(X.grad.isfinite().all())
    assert bool((X.grad != 0).any())


def test_equal_seeds_learn_equal_weights(name, fitted):
    again = AUTOENCODERS[name](SIZE, K, **SHORT[name]).fit(samples())
    torch.testing.assert_close(again.components_, fitted.components_, rtol=0, atol=0)
    twice = again.fit(samples())  # begins anew
    torch.testing.assert_close(twice.components_, fitted.components_, rtol=0, atol=0)
    other = AUTOENCODERS[name](SIZE, K, seed=1, **SHORT[name]).fit(samples())
    assert not torch.equal(other.components_, fitted.components_)


def test_the_global_generator_is_left_alone(name):
    before = torch.get_rng_state()
    AUTOENCODERS[name](SIZE, K, **SHORT[name])
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_are_kept_with_the_state(name, fitted):
    X = samples()
    fresh = AUTOENCODERS[name](SIZE, K, seed=3, **SHORT[name])
    fresh.load_state_dict(fitted.state_dict())
    for other in (fresh, copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        torch.testing.assert_close(other(X), fitted(X), rtol=0, atol=0)


def test_the_memory_of_the_samples_does_not_count(name, fitted):
    X = samples()
    array = X.numpy()
    with torch.inference_mode():
        features = X + 0.0  # as those of a network that is only used
    for same in (
        np.asfortranarray(array),
        array[::-1].copy()[::-1],
        array.astype(">f4"),
        X.mT.contiguous().mT,
        features,
    ):
        again = AUTOENCODERS[name](SIZE, K, **SHORT[name]).fit(same)
        torch.testing.assert_close(again.components_, fitted.components_, rtol=0, atol=0)


def test_autocast_lowers_nothing_that_is_learnt(name, fitted):
    with torch.autocast("cpu", torch.bfloat16):
        again = AUTOENCODERS[name](SIZE, K, **SHORT[name]).fit(samples())
        components = again.components_
        assert again(samples()).shape == (N, SIZE)
    torch.testing.assert_close(components, fitted.components_, rtol=0, atol=0)
    torch.testing.assert_close(again.encode(samples()), fitted.encode(samples()), rtol=0, atol=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DeepNMF(SIZE, K, classes=3, epochs=1),
        lambda: NCAEClassifier(SIZE, (K,), 3, max_iter=3, softmax_iter=3, tuning_iter=3),
    ],
)
def test_autocast_lowers_nothing_that_is_learnt_with_classes(make):
    X, y = samples(), torch.arange(N) % 3
    expected = make().fit(X, y)
    with torch.autocast("cpu", torch.bfloat16):
        found = make().fit(X, y)
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("learn", [_deep, _classifier])
def test_labels_come_in_any_container(learn):
    pandas = pytest.importorskip("pandas")
    y = np.arange(N) % 3
    expected = learn(y)
    reversed_, swapped = y[::-1].copy()[::-1], y.astype(">i4")
    for same in (reversed_, swapped, y.astype(np.uint16), pandas.Series(y, index=range(7, N + 7)), torch.from_numpy(y)):
        np.testing.assert_array_equal(learn(same), expected)
    with pytest.raises(TypeError, match="expected integers, the class of each sample; got"):
        learn(np.array(["a"] * N))


def test_work_is_done_in_the_dtype_of_the_weights(name):
    model = AUTOENCODERS[name](SIZE, K, **SHORT[name]).double().fit(samples())  # of float32 samples
    assert model.components_.dtype == torch.float64
    assert model.encode(samples().numpy()).dtype == np.float64


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (torch.rand(5, SIZE + 1), ValueError, r"X: expected rows \(N, 12\); got \(5, 13\)"),
        (torch.rand(SIZE), ValueError, r"X: expected rows \(N, 12\); got \(12,\)"),
        (torch.full((5, SIZE), -0.5), ValueError, r"X: expected finite numbers in \[0, .*; got -0.5"),
        (torch.full((5, SIZE), float("nan")), ValueError, "X: expected finite numbers"),
        (torch.full((5, SIZE), float("inf")), ValueError, "X: expected finite numbers"),
        (torch.zeros(0, SIZE), ValueError, "X: expected at least one sample"),
        (torch.zeros(5, SIZE, dtype=torch.complex64), TypeError, "X: expected real numbers"),
        ([["a"] * SIZE], TypeError, "X: expected an array or a tensor of real numbers"),
    ],
)
def test_wrong_samples_are_named(name, X, error, message):
    with pytest.raises(error, match=message):
        AUTOENCODERS[name](SIZE, K, **SHORT[name]).fit(X)


def test_wrong_codes_are_named(fitted):
    with pytest.raises(ValueError, match=r"codes: expected rows \(N, 4\); got \(5, 3\)"):
        fitted.decode(torch.rand(5, 3))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k: expected an int ≥ 1; got 0"),
        ({"in_features": 2.0}, TypeError, "in_features: expected an int ≥ 1; got 2.0"),
        ({"seed": -1}, ValueError, "seed: expected an int ≥ 0; got -1"),
        ({"seed": 2**64}, ValueError, r"seed: expected an int ≥ 0 and < 2\^64; got 18446744073709551616"),
    ],
)
def test_wrong_sizes_are_named(name, options, error, message):
    with pytest.raises(error, match=message):
        AUTOENCODERS[name](**{"in_features": SIZE, "k": K, **options})


WRONG_OPTIONS = [
    ("ncae", {"sparsity": 1.0}, r"sparsity: expected a number in \(0, 1\); got 1.0"),
    ("ncae", {"sparsity_weight": -1}, "sparsity_weight"),
    ("ncae", {"penalty": -1}, "penalty"),
    ("ncae", {"max_iter": -1}, "max_iter"),
    ("nnsae", {"learning_rate": 0}, "learning_rate"),
    ("nnsae", {"regularisation": 0}, "regularisation"),
    ("nnsae", {"negative_decay": 0}, "negative_decay"),
    ("nnsae", {"positive_decay": 1}, "positive_decay"),
    ("nnsae", {"mean_activity": 1}, "mean_activity"),
    ("nnsae", {"plasticity_rate": 0}, "plasticity_rate"),
    ("nnsae", {"epochs": -1}, "epochs"),
    ("projected", {"learning_rate": 0}, "learning_rate"),
    ("projected", {"epochs": -1}, "epochs"),
    ("projected", {"batch_size": 0}, "batch_size"),
    ("exponentiated_gradient", {"bias_learning_rate": 0}, "bias_learning_rate"),
    ("non_negative", {"l1": -1}, "l1"),
    ("non_negative", {"learning_rate": 0}, "learning_rate"),
    ("non_negative", {"encoder_learning_rate": 0}, "encoder_learning_rate"),
    ("non_negative", {"epochs": -1}, "epochs"),
    ("non_negative", {"batch_size": 0}, "batch_size"),
    ("unfolded", {"layers": 0}, "layers"),
    ("unfolded", {"l1": -1}, "l1"),
    ("unfolded", {"l2": -1}, "l2"),
    ("unfolded", {"learning_rate": 0}, "learning_rate"),
    ("unfolded", {"epochs": -1}, "epochs"),
    ("unfolded", {"batch_size": 0}, "batch_size"),
]


@pytest.mark.parametrize(("system", "options", "message"), WRONG_OPTIONS)
def test_wrong_options_are_named(system, options, message):
    with pytest.raises(ValueError, match=message):
        AUTOENCODERS[system](SIZE, K, **options)


def test_rows_keep_their_gradient_and_take_the_dtype_of_the_weights():
    X = rand(3, 2).requires_grad_()
    rows = rows_of("X", X, 2, torch.zeros(1))
    assert rows.dtype == torch.float32
    rows.sum().backward()
    assert torch.equal(X.grad, torch.ones(3, 2, dtype=torch.float64))
    assert rows_of("X", [[1, 2], [3, 4]], 2, torch.zeros(1)).tolist() == [[1, 2], [3, 4]]


def test_gradients_of_each_sample(name, fitted):
    """Inside of torch.func.vmap no number can be looked at, and so none is checked."""
    X = samples()[:5]
    codes = torch.func.vmap(lambda x: fitted.encode(x[None])[0])(X)
    torch.testing.assert_close(codes, fitted.encode(X), rtol=1e-4, atol=1e-5)
    parameters = {key: value.detach() for key, value in fitted.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(fitted, parameters, (x[None],)).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, X)
    assert each.keys() == parameters.keys() and all(len(x) == 5 and x.isfinite().all() for x in each.values())


def test_arrays_with_weights_in_bfloat16(name):
    model = AUTOENCODERS[name](SIZE, K, **SHORT[name]).bfloat16()
    assert model.fit(samples().numpy()[:20]).encode(samples().numpy()).dtype == np.float32


@pytest.mark.slow
def test_codes_can_be_compiled_as_one_graph_and_exported(fitted):
    """Whether the numbers are good is a question to them, for which a graph has no place."""
    X = samples()[:5]
    compiled = torch.compile(fitted, fullgraph=True, backend="eager")
    exported = torch.export.export(fitted, (X,)).module()
    torch.testing.assert_close(compiled(X), fitted(X))
    torch.testing.assert_close(exported(X), fitted(X))
