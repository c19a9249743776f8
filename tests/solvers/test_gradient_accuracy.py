"""The digits of the gradient against exact rational arithmetic: cond(H) costs them once, not twice."""

from fractions import Fraction

import pytest
import torch
from nnls_problems import random_problem, with_condition
from torch import Tensor

from diffnmf.layers import NNLSLayer

EPS = torch.finfo(torch.float64).eps
CONDITIONS = [1e0, 1e1, 1e2, 3e2, 1e3, 3e3, 1e4, 2.3e4, 1e5, 2.5e5, 5e5, 1e6]


def fractions(X: Tensor) -> list[list[Fraction]]:
    return [[Fraction(x) for x in row] for row in X.tolist()]


def solved(A: list[list[Fraction]], b: list[Fraction]) -> list[Fraction]:
    """A⁻¹b by elimination, without any rounding."""
    rows, size = [[*row, x] for row, x in zip(A, b, strict=True)], len(A)
    for i in range(size):
        for r in range(size):
            if r != i:
                factor = rows[r][i] / rows[i][i]  # positive definite: no pivot is zero
                rows[r] = [x - factor * y for x, y in zip(rows[r], rows[i], strict=True)]
    return [rows[i][size] / rows[i][i] for i in range(size)]


def dot(x: list[Fraction], y: list[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0))


def exact_gradients(H: Tensor, Y: Tensor, free: Tensor, grad_W: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """∂L/∂H and ∂L/∂Y of the solution on given free sets (k, m), rounded once."""
    columns, grad_H, grad_Y = fractions(H.T), torch.zeros_like(H), []
    exact_H = fractions(grad_H.T)
    for y, g, f in zip(fractions(Y.T), fractions(grad_W.T), free.T.tolist(), strict=True):
        F = [j for j, is_free in enumerate(f) if is_free]
        basis = [columns[j] for j in F]
        G = [[dot(a, b) + (Fraction(ridge) if a is b else 0) for b in basis] for a in basis]
        w, v = solved(G, [dot(h, y) for h in basis]), solved(G, [g[j] for j in F])
        rows = list(zip(*basis, strict=True))
        Hv = [dot(list(row), v) for row in rows]
        residual = [y_i - dot(list(row), w) for y_i, row in zip(y, rows, strict=True)]
        for position, j in enumerate(F):
            exact_H[j] = [
                total + r * v[position] - hv * w[position]
                for total, r, hv in zip(exact_H[j], residual, Hv, strict=True)
            ]
        grad_Y.append([float(x) for x in Hv])
    as_floats = [[float(x) for x in row] for row in exact_H]
    return torch.tensor(as_floats, dtype=torch.float64).T, torch.tensor(grad_Y, dtype=torch.float64).T


def smooth_spectrum(condition: float, seed: int) -> Tensor:
    return with_condition(8, 5, condition, seed)


def nearly_equal_pair(condition: float, seed: int) -> Tensor:
    H, _ = random_problem(n=10, k=4, seed=seed)
    H = H.abs()
    H[:, 1] = H[:, 0] + 3 / condition * H[:, 1]
    return H


@pytest.mark.parametrize("ridge", [0.0, 1e-9])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("make", [smooth_spectrum, nearly_equal_pair])
def test_the_gradient_loses_what_cond_H_takes_and_no_more(make, condition, ridge):
    for seed in range(4):
        H = make(condition, seed)
        (n, k), generator = H.shape, torch.Generator().manual_seed(seed)
        planted, noise, grad_W = (torch.randn(rows, 2, generator=generator, dtype=torch.float64) for rows in (k, n, k))
        Y = H @ planted.abs() + 0.1 / condition * noise  # most entries are free: ill-conditioned where H is
        inputs = H.clone().requires_grad_(), Y.clone().requires_grad_()
        W = NNLSLayer(ridge=ridge)(*inputs)
        found = torch.autograd.grad((W * grad_W).sum(), inputs)
        S = torch.linalg.svdvals(H)
        cond = (S[0] / (S[-1].square() + ridge).sqrt()).item()
        for gradient, exact in zip(found, exact_gradients(H, Y, W > 0, grad_W, ridge), strict=True):
            assert (gradient - exact).norm() <= 60 * cond * EPS * exact.norm()


@pytest.mark.parametrize("seed", range(3))
def test_a_gram_matrix_that_is_singular_spoils_no_other_column(seed):
    """Two columns are apart, but their Gram matrix has lost it: by a pivot of zero, or just below."""
    H, Y = random_problem(n=10, k=4, m=3, seed=seed)
    H[:, 3] = H[:, 2] * (1 + 1e-9) + 1e-9 * H[:, 1]
    H.requires_grad_()
    layer = NNLSLayer(signed=torch.tensor([[True], [False], [False], [True]]))
    (plain,) = torch.autograd.grad(layer(H, Y).sum(), H, create_graph=True)
    functional = torch.func.grad(lambda h: layer(h, Y).sum())(H.detach())
    assert plain.isfinite().all() and functional.isfinite().all()
