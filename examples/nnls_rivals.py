"""What the NNLS layer is measured against: each rival solves the same batch, forward and, where it can, backward.

A rival is a function from H (B, n, k) and Y (B, n, m) to W (B, k, m). Those of ``DIFFERENTIABLE`` carry a gradient.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Rival = Callable[[Tensor, Tensor], Tensor]


def gram_floor(H: Tensor, Y: Tensor) -> Tensor:
    """Not a solver: HᵀH and HᵀY, which every method forms, in a result of the right shape."""
    return (H.mT @ H).sum() * 1e-300 + H.mT @ Y


def scipy_loop(H: Tensor, Y: Tensor) -> Tensor:
    """scipy.optimize.nnls, column by column."""
    from scipy.optimize import nnls

    bases, targets = H.detach().cpu().numpy(), Y.detach().cpu().numpy()
    return _stack([[nnls(h, column)[0] for column in y.T] for h, y in zip(bases, targets, strict=True)], H)


def scipy_reduced(H: Tensor, Y: Tensor) -> Tensor:
    """The same after H = QR: R (k, k) and Qᵀy instead of H (n, k) and y."""
    Q, R = torch.linalg.qr(H.detach())
    return scipy_loop(R, Q.mT @ Y.detach())


def scikit_learn(H: Tensor, Y: Tensor) -> Tensor:
    """scikit-learn's coordinate descent with H fixed, to a tolerance that makes it exact."""
    from sklearn.decomposition import non_negative_factorization

    def weights(h: np.ndarray, y: np.ndarray) -> np.ndarray:
        X, basis = np.ascontiguousarray(y.T), np.ascontiguousarray(h.T)
        W, _, _ = non_negative_factorization(
            X, H=basis, n_components=len(basis), update_H=False, solver="cd", tol=1e-10, max_iter=20_000
        )
        return W

    bases, targets = H.detach().cpu().numpy(), Y.detach().cpu().numpy()
    return _stack([weights(h, y) for h, y in zip(bases, targets, strict=True)], H)


def spams_lars(H: Tensor, Y: Tensor) -> Tensor:
    """SPAMS (Mairal et al. 2010): LARS in C++, the non-negative Lasso along its path down to no penalty."""
    import spams

    def weights(h: np.ndarray, y: np.ndarray) -> np.ndarray:
        W = spams.lasso(np.asfortranarray(y), np.asfortranarray(h), lambda1=0.0, mode=2, pos=True, numThreads=1)
        return np.asarray(W.toarray().T)

    bases, targets = H.detach().cpu().numpy(), Y.detach().cpu().numpy()
    return _stack([weights(h, y) for h, y in zip(bases, targets, strict=True)], H)


def daqp(H: Tensor, Y: Tensor) -> Tensor:
    """daqp (Arnström et al. 2022): a dual active-set method for quadratic programs in C, column by column."""
    import daqp

    # It takes the numbers of a vector for neighbours in memory.
    Q, p = (H.mT @ H).detach().cpu().numpy(), -(H.mT @ Y).mT.contiguous().detach().cpu().numpy()
    k = H.shape[2]
    rows, above, below = np.zeros((0, k)), np.full(k, 1e30), np.zeros(k)
    return _stack(
        [[daqp.solve(q, c, rows, above, below)[0] for c in columns] for q, columns in zip(Q, p, strict=True)], H
    )


def fnnls_eigen(H: Tensor, Y: Tensor) -> Tensor:
    """fnnlseigen: the method of Bro and De Jong (1997) in C++, column by column."""
    from fnnlsEigen import fnnls

    bases, targets = (x.contiguous().detach().cpu().numpy() for x in (H, Y.mT))
    return _stack([[fnnls(h, y) for y in columns] for h, columns in zip(bases, targets, strict=True)], H)


def qpth(H: Tensor, Y: Tensor) -> Tensor:
    """qpth (Amos and Kolter 2017): a batched interior-point method, one quadratic program per column."""
    from qpth.qp import QPFunction

    Q, p, G, h, empty = _quadratic_programs(H, Y)
    return _columns(QPFunction(verbose=-1)(Q, p, G, h, empty, empty), H, Y)


def proxsuite(H: Tensor, Y: Tensor) -> Tensor:
    """proxsuite's QPLayer (Bambade et al. 2024), on the CPU."""
    from proxsuite.torch.qplayer import QPFunction

    Q, p, G, h, empty = _quadratic_programs(H, Y)
    lower = torch.full_like(h, -1e20)
    x, _, _ = QPFunction()(Q, p, empty, empty, G, lower, h)
    return _columns(x, H, Y)


def cvxpylayers_full(H: Tensor, Y: Tensor) -> Tensor:
    """cvxpylayers as the paper used it: the full H as a parameter, W as one matrix variable, its own tolerances."""
    (n, k), m = H.shape[1:], Y.shape[2]
    (W,) = _full_layer(n, k, m)(H, Y)
    return W


@lru_cache
def _full_layer(n: int, k: int, m: int) -> Any:
    import cvxpy as cp
    from cvxpylayers.torch import CvxpyLayer

    H, Y, W = cp.Parameter((n, k)), cp.Parameter((n, m)), cp.Variable((k, m))
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(H @ W - Y)), [W >= 0])
    return CvxpyLayer(problem, parameters=[H, Y], variables=[W])


def autograd_projected_gradient(H: Tensor, Y: Tensor, steps: int = 200) -> Tensor:
    """200 plain projected-gradient steps, differentiated by autograd."""
    G, C = H.mT @ H, H.mT @ Y
    step = 1.0 / torch.linalg.matrix_norm(G, ord=2)[:, None, None]
    W = torch.zeros_like(C)
    for _ in range(steps):
        W = (W - step * (G @ W - C)).clamp(min=0)
    return W


def _quadratic_programs(H: Tensor, Y: Tensor) -> tuple[Tensor, ...]:
    """½ wᵀQw + pᵀw with −w ≤ 0, one per column: (B·m, k, k), (B·m, k), ..."""
    k, m = H.shape[2], Y.shape[2]
    Q = (H.mT @ H).unsqueeze(1).expand(-1, m, -1, -1).flatten(0, 1)
    p = -(H.mT @ Y).mT.flatten(0, 1)
    G = -torch.eye(k, dtype=H.dtype, device=H.device).expand(len(p), k, k)
    h = torch.zeros(len(p), k, dtype=H.dtype, device=H.device)
    return Q, p, G, h, torch.empty(0, dtype=H.dtype, device=H.device)


def _columns(x: Tensor, H: Tensor, Y: Tensor) -> Tensor:
    return x.unflatten(0, (len(H), Y.shape[2])).mT.to(H)


def _stack(rows: list[Any], like: Tensor) -> Tensor:
    """Per problem a list of columns, to (B, k, m)."""
    return torch.from_numpy(np.stack([np.asarray(columns) for columns in rows])).mT.to(like)


DIFFERENTIABLE: dict[str, Rival] = {
    "qpth": qpth,
    "proxsuite": proxsuite,
    "autograd, 200 steps": autograd_projected_gradient,
    "cvxpylayers, full H": cvxpylayers_full,
}
FORWARD_ONLY: dict[str, Rival] = {
    "scipy loop": scipy_loop,
    "scipy loop, reduced H": scipy_reduced,
    "scikit-learn CD": scikit_learn,
    "spams": spams_lars,
    "daqp": daqp,
    "fnnlseigen": fnnls_eigen,
}
# Whose packages have to be there.
PACKAGES = {"qpth": "qpth", "proxsuite": "proxsuite", "spams": "spams", "daqp": "daqp", "fnnlseigen": "fnnlsEigen"}
