"""Data on the CPU while ``torch.set_default_device`` names another device, and modules that are made there."""

import numpy as np
import pytest
import torch
from helpers import rand
from scipy.sparse import random_array
from sklearn.base import clone
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from diffnmf import NMF, Blocks, MiniBatchNMF, NNLSCoder, nnls
from diffnmf.autoencoders import AUTOENCODERS, DeepNMF, NCAEClassifier
from diffnmf.data import ImageSet
from diffnmf.data.splits import split_images
from diffnmf.factorization import factorize
from diffnmf.factorization.initialization import INITS
from diffnmf.models import GANUNMF

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning", "ignore::UserWarning"),
]
ONE_PASS = {name: {"max_iter": 2} if name == "ncae" else {"epochs": 1} for name in AUTOENCODERS}


class Elsewhere(TorchFunctionMode):
    """A default device without numbers, which a generator of the CPU does not fit: as it is with a GPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _device_constructors() and kwargs.get("device") is None:
            if kwargs.get("generator") is not None:
                raise RuntimeError("Expected a 'meta' device type for generator but found 'cpu'")
            kwargs = {**kwargs, "device": torch.device("meta")}
        return function(*args, **kwargs)


@pytest.mark.parametrize(
    "options",
    [
        {"upper": 0.3},
        {"total": 1.0},
        {"weights": rand(12, 1)},
        {"signed": torch.tensor([[True], [False], [False], [True]])},
        {"ridge": rand(4, 3)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_constraints(options):
    H, Y = rand(2, 12, 4).requires_grad_(), rand(2, 12, 3, seed=1)
    expected = nnls(H, Y, **options).W
    with Elsewhere():
        W = nnls(H, Y, **options).W
        W.sum().backward()
    assert torch.equal(W, expected) and H.grad.isfinite().all()


@pytest.mark.parametrize("init", INITS)
def test_starts(init):
    Y = rand(2, 20, 15)
    expected = factorize(Y, 3, init=init, max_iter=3, tol=0.0, seed=0).H
    with Elsewhere():
        assert torch.equal(factorize(Y, 3, init=init, max_iter=3, tol=0.0, seed=0).H, expected)


@pytest.mark.parametrize("estimator", [NMF, MiniBatchNMF])
def test_estimators(estimator):
    X = np.random.default_rng(0).random((30, 15))
    expected = estimator(3, random_state=0, max_iter=3).fit(X).transform(X)
    with Elsewhere():
        np.testing.assert_array_equal(estimator(3, random_state=0, max_iter=3).fit(X).transform(X), expected)


@pytest.mark.parametrize("estimator", [NMF(3), NMF(3, missing="unstored"), MiniBatchNMF(3, batch_size=10)], ids=str)
def test_sparse_matrices(estimator):
    X = random_array((30, 15), density=0.4, random_state=0, format="csr")
    model = clone(estimator).set_params(random_state=0, max_iter=3)
    expected = model.fit_transform(X)
    with Elsewhere():
        np.testing.assert_array_equal(model.fit_transform(X), expected)


@pytest.mark.parametrize("init", ["auto", "merge", "nndsvda"])
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_blocks(init, dtype, tmp_path):
    blocks = Blocks(np.random.default_rng(0).random((60, 15)), max_memory=20e3, dtype=dtype)
    expected = factorize(blocks, 3, init=init, max_iter=3, tol=0.0)
    with Elsewhere():
        found = factorize(blocks, 3, init=init, max_iter=3, tol=0.0, checkpoint=tmp_path / "checkpoint")
        again = factorize(blocks, 3, init=init, max_iter=3, tol=0.0, checkpoint=tmp_path / "checkpoint")
    assert torch.equal(found.H, expected.H) and torch.equal(again.W, expected.W)


@pytest.mark.parametrize("labels", [torch.arange(40) % 2, None], ids=["labels", "no labels"])
def test_splits(labels):
    images = ImageSet("noise", rand(40, 4, 4).float(), labels)
    expected = split_images(images, seed=0)
    with Elsewhere():
        found = split_images(images, seed=0)
    assert torch.equal(found.test.images, expected.test.images)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoders(name):
    X = rand(40, 12).float()
    model, again = (AUTOENCODERS[name](12, 4, **ONE_PASS[name]) for _ in range(2))
    with Elsewhere():
        model.fit(X)
    assert torch.equal(model.components_, again.fit(X).components_)


@pytest.mark.parametrize("name", [*AUTOENCODERS, "with a head", "classifier"])
def test_autoencoders_are_made_on_the_default_device(name):
    with torch.device("meta"):
        made = {"with a head": lambda: DeepNMF(12, 4, classes=3), "classifier": lambda: NCAEClassifier(12, (4,), 3)}
        model = made.get(name, lambda: AUTOENCODERS[name](12, 4))()
        assert name == "classifier" or model.encode(torch.rand(5, 12)).shape == (5, 4)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_models():
    Y, model = rand(64, 6).float(), GANUNMF((8, 8), 6, 3, width=8, basis_init="merge")
    expected = model.factorize(Y).W
    with Elsewhere():
        torch.testing.assert_close(model.factorize(Y).W, expected)
        assert NNLSCoder(12, 4, seed=0).weight.is_meta


def test_a_seed_is_the_same_dictionary_on_every_device():
    before = torch.get_rng_state()
    assert torch.equal(NNLSCoder(12, 4, seed=3).weight, torch.rand(12, 4, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(torch.get_rng_state(), before)
