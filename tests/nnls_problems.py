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


def constrained_kkt(
    H: Tensor,
    Y: Tensor,
    W: Tensor,
    *,
    ridge: object = 0.0,
    l1: object = 0.0,
    allowed: object = None,
    weights: object = None,
    total: object = None,
    total_kind: str = "equal",
    upper: object = None,
    signed: object = None,
) -> tuple[float, float]:
    """How far W (k, m) is from what it has to obey, and from optimal: the arguments are those of ``nnls``.

    In numpy, with more digits than float64 has, from the definition: some multiplier μ (zero without a sum, ≥ 0 below
    "at most", zero where that has room) has to make the slope of every entry that may rise ≥ −μ, and of every one that
    may fall ≤ −μ. The least possible violation over all μ is that of the worst pair. Both numbers are relative to the
    size of the column, in unit columns of H, and to the rounding that grows with W.
    """

    def array(x: object, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(x.detach().double().numpy() if isinstance(x, Tensor) else x, shape)

    (n, k), m = H.shape, Y.shape[1]
    H, Y, W = (x.detach().double().numpy().astype(np.longdouble) for x in (H, Y, W))
    ridge, l1 = array(ridge, (k, m)), array(l1, (k, m))
    weights = array(1.0 if weights is None else weights, (n, m)).astype(np.longdouble)
    may_be = array(1.0 if allowed is None else allowed, (k, m)) != 0
    high = np.where(may_be, array(np.inf if upper is None else upper, (k, m)), 0)
    low = np.where(may_be & (array(0.0 if signed is None else signed, (k, m)) != 0), -np.inf, 0)
    totals = None if total is None else array(total, (1, m))[0]
    infeasible = wrong = 0.0
    for i in range(m):
        w, omega = W[:, i], weights[:, i]
        y = np.where(omega == 0, 0, Y[:, i])
        d = np.sqrt(omega @ H**2 + ridge[:, i])
        d[d == 0] = d[d > 0].min() if (d > 0).any() else 1
        scale = np.sqrt(omega @ y**2)
        if totals is not None and (total_kind == "equal" or w.sum() > totals[i] - 1e-6 * abs(totals[i])):
            scale = max(scale, abs(totals[i]) * d.min())  # not where much more is allowed than there is
        scale = scale or 1
        scale = scale + (d * np.abs(w)).sum()
        outside = np.maximum(np.maximum(low[:, i] - w, w - high[:, i]) * d, 0).max(initial=0)
        slope = (H.T @ (omega * (H @ w - y)) + ridge[:, i] * w + l1[:, i]) / d / scale
        near = 1e-13 * scale / d  # of a bound: as good as there
        rising, falling = high[:, i] - w > near, w - low[:, i] > near
        least, most = (-slope)[rising], (-slope)[falling]  # of μ/d
        unit_up, unit_down = (1 / d)[rising], (1 / d)[falling]
        violation = 0.0
        if totals is None:
            violation = max(least.max(initial=0), (-most).max(initial=0))
        else:
            missing = (totals[i] - w.sum()) * d.min()
            room = total_kind == "at_most" and missing > 1e-13 * scale
            outside = max(outside, -missing if total_kind == "at_most" else abs(missing))
            if room:
                violation = max(least.max(initial=0), (-most).max(initial=0))
            else:
                # μ u_i ≥ least_i − ε and μ u_j ≤ most_j + ε for some μ: ε ≥ (least_i u_j − most_j u_i)/(u_i + u_j).
                for gap, unit in zip(least, unit_up, strict=True):
                    pairs = (gap * unit_down - most * unit) / (unit_down + unit)
                    violation = max(violation, pairs.max(initial=0))
                if total_kind == "at_most":  # μ ≥ 0
                    violation = max(violation, (-most).max(initial=0))
        infeasible, wrong = max(infeasible, float(outside / scale)), max(wrong, float(violation))
        if not np.isfinite(w).all():
            return np.inf, np.inf
    return infeasible, wrong
