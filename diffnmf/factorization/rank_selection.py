"""How many components: what rank k can reach at best, and what it predicts of entries that it has not seen."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_counts, check_matrix, check_optional_count
from diffnmf.factorization.base import Method
from diffnmf.factorization.factorize import factorize
from diffnmf.factorization.hals import HALS
from diffnmf.factorization.registry import get_method
from diffnmf.factorization.svd import singular_values
from diffnmf.solvers.problem import one_where_zero

FOLD_ELEMENTS = 2**23  # entries of Y that are worked on at once: small problems take all their folds together


class RankScores(NamedTuple):
    """How well each number of components predicts held-out entries.

    Attributes:
        ks: the numbers of components that were tried, ascending.
        mean: (len(ks), *batch) float64, the relative error on held-out entries, mean over the folds.
        std: (len(ks), *batch) float64, its standard deviation over the folds.
        best: (*batch,) int64, the k with the smallest mean; 0 for a problem that is not finite.
    """

    ks: tuple[int, ...]
    mean: Tensor
    std: Tensor
    best: Tensor


@torch.no_grad()
def svd_curve(Y: Tensor, max_k: int | None = None) -> Tensor:
    """‖Y − Y_k‖_F / ‖Y‖_F with Y_k the best matrix of rank k (Eckart and Young 1936), for k = 0, 1, ..., max_k.

    No factorisation with k components can have a smaller error. Where the curve bends, what follows looks like noise.

    Arguments:
        Y: (*batch, n, m), floating point, any sign.
        max_k: an int ≥ 0; by default min(n, m), from which on the error is zero.

    Returns:
        (max_k + 1, *batch) float64, entry k for rank k, so entry 0 is 1 (0 for Y = 0). NaN for a problem that is not
        finite. For dtypes other than float64 it is accurate to 1e-8.

    Raises:
        TypeError, ValueError: max_k is no such number, or Y is no floating-point matrix.
    """
    _check_entries(Y)
    most = min(Y.shape[-2:])
    max_k = check_optional_count("max_k", max_k)
    finite = Y.isfinite().all(-1).all(-1)  # (*batch,)
    matrix = torch.where(finite[..., None, None], Y, 0.0).double()  # LAPACK refuses a whole batch for one NaN
    sigma = singular_values(matrix, exact=Y.dtype == torch.float64)  # (*batch, most)
    share = (sigma / one_where_zero(sigma[..., :1])).square()  # squares of what is large would overflow
    tail = share.flip(-1).cumsum(-1).flip(-1)  # Σ_{i > k} σ_i², summed from the smallest on
    curve = (tail / one_where_zero(tail[..., :1])).sqrt()
    length = (most if max_k is None else max_k) + 1
    curve = torch.nn.functional.pad(curve, (0, max(0, length - most)))[..., :length]
    return torch.where(finite[..., None], curve, torch.nan).movedim(-1, 0)


def cross_validate_rank(
    Y: Tensor,
    ks: Iterable[int],
    *,
    folds: int = 5,
    rounds: int = 50,
    method: str | Method | None = None,
    init: str | None = "random",
    l1_H: float = 0.0,
    l1_W: float = 0.0,
    ridge_H: float = 0.0,
    ridge_W: float = 0.0,
    seed: int = 0,
) -> RankScores:
    """Cross-validate the number of components on entries of Y that are held out, scattered over the matrix.

    The entries are dealt into ``folds`` random parts (Wold 1978). Each part in turn is hidden, Y ≈ HW is fitted to the
    others, and HW is compared with what was hidden: Σ(Y − HW)² / ΣY² over the hidden entries, square root. Too few
    components miss structure, too many fit noise, and both show.

    Hidden entries are filled with their estimate, and the fit and the fill alternate: one iteration of ``method``, then
    HW in the place of what is hidden. Filled so, ½‖Y − HW‖² touches the error on the visible entries at the current
    (H, W) and lies above it elsewhere, so every round lowers that too (expectation-maximisation: Srebro and Jaakkola
    2003, Weighted low-rank approximations; Zhang et al. 2006, Learning from incomplete ratings using NMF).

    Why scattered entries and not whole blocks of rows and columns (Owen and Perry 2009, Bi-cross-validation of the SVD
    and the nonnegative matrix factorization), which need no filling: on planted data the error on blocks hardly rises
    beyond the true k, so that its minimum misses it more often; and a block takes columns away, of which a group has
    few beside k.

    Arguments:
        Y: (*batch, n, m), non-negative, floating point. The same entries are hidden in every problem.
        ks: numbers of components to try, ≥ 1.
        folds: parts, at least 2, at most max(n, m). Each problem is fitted folds · len(ks) times.
        rounds: of one iteration and one fill.
        method: an iterative one of ``factorize``; None is HALS without extrapolation, which builds on earlier
            iterations of the same Y. "mu" needs several times as many rounds.
        init: as in ``factorize``, on the first fill: row mean · column mean / mean of the visible entries. That is of
            rank one, so that there is nothing to merge.
        l1_H: as in ``factorize``, like the other penalties.
        l1_W: likewise.
        ridge_H: likewise.
        ridge_W: likewise.
        seed: of the parts and of a random start.

    Raises:
        TypeError, ValueError: as ``factorize``, and for ks, folds, rounds; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import cross_validate_rank
        >>> generator = torch.Generator().manual_seed(0)
        >>> H, W = torch.rand(60, 3, generator=generator), torch.rand(3, 40, generator=generator)
        >>> Y = (H @ W + 0.05 * torch.randn(60, 40, generator=generator)).clamp(min=0)
        >>> cross_validate_rank(Y, range(1, 7)).best
        tensor(3)
    """
    method = HALS(extrapolate=False) if method is None else get_method(method)
    _check_entries(Y)
    numbers = tuple(sorted(set(check_counts("ks", ks, at_least=1))))
    folds = _check_folds(folds, Y)
    rounds = check_count("rounds", rounds, at_least=1)
    seed = check_count("seed", seed)
    if not method.needs_start:
        raise ValueError(f'method: expected one that goes on from H and W, such as "hals" or "anls"; got {method!r}')
    Y = Y.detach().to(torch.promote_types(Y.dtype, torch.float32))
    n, m = Y.shape[-2:]
    parts = torch.arange(folds).reshape(-1, *(1,) * Y.ndim)  # (folds, 1, ..., 1)
    hidden = (_deal(n, m, folds, seed) == parts).to(Y.device)  # (folds, 1, ..., n, m)
    options: dict[str, Any] = {
        "method": method,
        "l1_H": l1_H,
        "l1_W": l1_W,
        "ridge_H": ridge_H,
        "ridge_W": ridge_W,
        "seed": seed,
    }
    at_once = max(1, FOLD_ELEMENTS // max(1, Y.numel()))
    scores = []
    for k in numbers:
        pieces = [_hidden_error(Y, some, k, rounds, init, options) for some in hidden.split(at_once)]
        scores.append(torch.cat(pieces))  # (folds, *batch)
    errors = torch.stack(scores)  # (len(ks), folds, *batch)
    mean = errors.mean(1)
    tried = torch.tensor(numbers, device=Y.device)
    best = torch.where(mean.isfinite().all(0), tried[mean.argmin(0)], 0)
    return RankScores(numbers, mean, errors.std(1), best)


@torch.no_grad()
def _hidden_error(Y: Tensor, hidden: Tensor, k: int, rounds: int, init: str | None, options: dict[str, Any]) -> Tensor:
    """The relative error on the hidden entries, (F, *batch) float64, of Y (*batch, n, m), hidden (F, 1, ..., n, m)."""
    factors = factorize(torch.where(hidden, _first_fill(Y, hidden), Y), k, init=init, tol=0.0, max_iter=1, **options)
    for _ in range(rounds - 1):
        filled = torch.where(hidden, factors.H @ factors.W, Y)
        factors = factorize(filled, k, H0=factors.H, W0=factors.W, tol=0.0, max_iter=1, **options)
    largest = one_where_zero(Y.amax((-2, -1), keepdim=True))  # squares of what is large would overflow
    error = _norm(torch.where(hidden, factors.H @ factors.W - Y, 0.0) / largest)
    size = _norm(torch.where(hidden, Y, 0.0) / largest)
    return torch.where((size == 0) & (error > 0), math.inf, error / one_where_zero(size))


def _norm(X: Tensor) -> Tensor:
    """Frobenius norms, (..., n, m) to (...,) float64."""
    return torch.linalg.vector_norm(X, dim=(-2, -1), dtype=torch.float64)


def _first_fill(Y: Tensor, hidden: Tensor) -> Tensor:
    """Row mean · column mean / mean over the visible entries: the independence model, of rank one."""
    visible = torch.where(hidden, 0.0, Y)
    mean = visible.sum((-2, -1), keepdim=True) / (~hidden).sum((-2, -1), keepdim=True)
    lines = []
    for dim in (-1, -2):
        count = (~hidden).sum(dim, keepdim=True)
        # A row of which nothing is visible is like the others.
        lines.append(torch.where(count > 0, visible.sum(dim, keepdim=True) / count.clamp(min=1), mean))
    return lines[0] * (lines[1] / one_where_zero(mean))


def _deal(n: int, m: int, folds: int, seed: int) -> Tensor:
    """The part of every entry, (n, m) int64: equal shares in each column, or in each row where rows are longer."""
    if n < m:
        return _deal(m, n, folds, seed).T
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(n, m, generator=generator).argsort(0)  # a random order of its own for each column
    return (order + torch.arange(m)) % folds  # shifted, so that what is left over goes round


def _check_folds(folds: int, Y: Tensor) -> int:
    folds, longest = check_count("folds", folds, at_least=2), max(Y.shape[-2:])
    if folds > longest:
        raise ValueError(f"folds: expected at most max(n, m) = {longest}, to hide entries of every column; got {folds}")
    return folds


def _check_entries(Y: Tensor) -> None:
    check_matrix("Y", Y)
    if 0 in Y.shape[-2:]:
        raise ValueError(f"Y: expected (*batch, n, m), n and m ≥ 1; got {tuple(Y.shape)}")
