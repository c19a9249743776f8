"""Problems and independent checks for the NNLS tests; in numpy and scipy: no code of the library is trusted."""

import numpy as np
import scipy.optimize
import torch
from torch import Tensor


def random_problem(*batch: int, n: int = 12, k: int = 4, m: int = 3, seed: int = 0, dtype=torch.float64):
    """H (*batch, n, k) and Y (*batch, n, m) of any sign, without ties; about half of W is zero."""
    generator = torch.Generator().manual_seed(seed)
    H = torch.randn(*batch, n, k, generator=generator, dtype=torch.float64)
    Y = torch.randn(*batch, n, m, generator=generator, dtype=torch.float64)
    return H.to(dtype), Y.to(dtype)


def with_condition(n: int, k: int, condition: float, seed: int = 0) -> Tensor:
    """H (n, k) of that condition number."""
    generator = torch.Generator().manual_seed(seed)
    U = torch.linalg.qr(torch.randn(n, k, generator=generator, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64)).Q
    return U * torch.logspace(0, -np.log10(condition), k, dtype=torch.float64) @ V.T


def kkt(H: Tensor, Y: Tensor, W: Tensor, ridge: float = 0.0, l1: float = 0.0) -> float:
    """The KKT residual as DESIGN defines it, written in numpy from the formula, for one problem."""
    H, Y, W = (x.detach().double().numpy() for x in (H, Y, W))
    worst = 0.0
    for y, w in zip(Y.T, W.T, strict=True):
        d = np.linalg.norm(H, axis=0)
        d[d == 0] = 1
        g = (H.T @ (H @ w - y) + l1 + ridge * w) / d
        worst = max(worst, np.abs(np.minimum(d * w, g)).max(initial=0) / (np.linalg.norm(y) or 1.0))
    return worst


def residual_norms(H: Tensor, Y: Tensor, W: Tensor) -> np.ndarray:
    """‖y − Hw‖ of every column, relative to ‖y‖."""
    lengths = torch.linalg.vector_norm(Y.double(), dim=0)
    return (
        torch.linalg.vector_norm(Y.double() - H.double() @ W.double(), dim=0) / torch.where(lengths == 0, 1.0, lengths)
    ).numpy()


def scipy_nnls(H: Tensor, Y: Tensor, ridge: float | Tensor = 0.0, l1: float | Tensor = 0.0) -> Tensor:
    """The same problem by scipy, column by column: ridge as extra rows, l1 through an extended right-hand side.

    ½‖y − Hw‖² + l1 Σw differs from ½‖[H; √ridge I] w − z‖² by a constant where [H; √ridge I]ᵀ z = Hᵀy − l1.
    ridge may be (k, 1), and l1 anything that broadcasts to W (k, m).
    """
    H, Y = H.detach().double().numpy(), Y.detach().double().numpy()
    k = H.shape[1]
    ridge, l1 = (x.numpy() if isinstance(x, Tensor) else x for x in (ridge, l1))
    extended = np.vstack([H, np.sqrt(ridge) * np.eye(k)])
    columns = []
    for y, penalty in zip(Y.T, np.broadcast_to(l1, (k, Y.shape[1])).T, strict=True):
        z = np.concatenate([y, np.zeros(k)])
        if penalty.any():
            z = np.linalg.lstsq(extended.T, H.T @ y - penalty, rcond=None)[0]
        columns.append(scipy.optimize.nnls(extended, z, maxiter=100 * k)[0])
    return torch.from_numpy(np.stack(columns, axis=1))
