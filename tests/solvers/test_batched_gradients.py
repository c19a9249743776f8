"""Gradients of a batch, ``is_grads_batched`` and ``vectorize=True``, and vmap over nothing: with every constraint."""

import pytest
import torch
from helpers import rand
from nnls_problems import random_problem
from torch.func import grad, vmap

from diffnmf.layers import NNLSLayer

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {
    "plain": {},
    "weights": {"weights": rand(10, 1)},
    "total": {"total": 1.0},
    "at most": {"total": 1.0, "total_kind": "at_most", "upper": 0.6},
    "upper": {"upper": 0.3},
    "signed": {"signed": torch.tensor([[True], [False], [False], [True]])},
    "ridge": {"ridge": rand(4, 3)},
    "allowed": {"allowed": torch.tensor([[True], [False], [True], [True]])},
}


@pytest.fixture(params=OPTIONS.values(), ids=OPTIONS)
def layer(request):
    return NNLSLayer(**request.param)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("dependent", [False, True])
def test_as_one_gradient_after_the_other(layer, dependent, create_graph):
    H, Y = random_problem(2, n=10, k=4, m=3)
    if dependent:  # which makes columns difficult
        H[..., 3] = H[..., 2] * (1 + 1e-9) + 1e-9 * H[..., 1]
    W = layer(H.requires_grad_(), Y)
    incoming = rand(5, *W.shape)
    options = {"retain_graph": True, "create_graph": create_graph}
    (together,) = torch.autograd.grad(W, H, incoming, is_grads_batched=True, **options)
    alone = torch.stack([torch.autograd.grad(W, H, one, **options)[0] for one in incoming])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9 * alone.abs().max().item())


def test_vectorized_jacobian(layer):
    H, Y = random_problem(n=10, k=4, m=3)
    expected = torch.func.jacrev(lambda h: layer(h, Y))(H)
    jacobian = torch.autograd.functional.jacobian(lambda h: layer(h, Y), H, vectorize=True)
    torch.testing.assert_close(jacobian, expected)


def test_vmap_over_nothing(layer):
    H, Y = (x[:0] for x in random_problem(1, n=10, k=4, m=3))
    assert vmap(layer)(H, Y).shape == (0, 4, 3)
    assert vmap(layer)(H[:, None].expand(0, 5, 10, 4), Y[:, None].expand(0, 5, 10, 3)).shape == (0, 5, 4, 3)
    assert vmap(grad(lambda h, y: layer(h, y).sum()))(H, Y).shape == H.shape
