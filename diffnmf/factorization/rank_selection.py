"""How many components: what rank k can reach at best, and what it predicts of entries that it has not seen."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_counts, check_matrix, check_name, check_optional_count, check_seed
from diffnmf.factorization.base import Method
from diffnmf.factorization.factorize import factorize, without_complaint
from diffnmf.factorization.hidden_entries import deal, deal_stored, relative_norm, stored_errors
from diffnmf.factorization.large.blocks import refuse_blocks
from diffnmf.factorization.problem_input import checked_sparse
from diffnmf.factorization.registry import get_method
from diffnmf.factorization.sample_arrays import MISSING, columns_of
from diffnmf.factorization.sparse_matrix import ObservedMatrix
from diffnmf.factorization.svd import singular_values
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import one_where_zero

ErrorsOf = Callable[[int, dict[str, Any]], Tensor]  # of k and the options of factorize, (folds, *batch) float64
FOLD_ELEMENTS = 2**23  # entries of Y that are worked on at once: small problems take all their folds together


class RankScores(NamedTuple):
    """How well each number of components predicts held-out entries.

    Attributes:
        ks: the numbers of components that were tried, ascending.
        mean: (len(ks), *batch) float64, the relative error on held-out entries, mean over the folds.
        std: (len(ks), *batch) float64, its standard deviation over the folds.
        best: (*batch,) int64, the k with the smallest mean; 0 where none is finite: for a problem that is not, and
            where a fold hides nothing but zeros.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import cross_validate_rank
        >>> scores = cross_validate_rank(torch.rand(20, 2) @ torch.rand(2, 15), [1, 2], folds=3, rounds=30)
        >>> scores.best, bool(scores.mean[1] < scores.mean[0] / 2)
        (tensor(2), True)
    """

    ks: tuple[int, ...]
    mean: Tensor
    std: Tensor
    best: Tensor


@torch.no_grad()
@precisely
def svd_curve(Y: Any, max_k: int | None = None) -> Tensor:
    """‖Y − Y_k‖_F / ‖Y‖_F with Y_k the best matrix of rank k (Eckart and Young 1936), for k = 0, 1, ..., max_k.

    No factorisation with k components can have a smaller error. Where the curve bends, what follows looks like noise.

    Arguments:
        Y: (*batch, n, m), floating point, any sign; or an array or a data frame, as for ``cross_validate_rank``.
        max_k: an int ≥ 0; by default min(n, m), from which on the error is zero.

    Returns:
        (max_k + 1, *batch) float64, entry k for rank k, so entry 0 is 1 (0 for Y = 0). NaN for a problem that is not
        finite. For dtypes other than float64 it is accurate to 1e-8.

    Raises:
        TypeError, ValueError: max_k is no such number, or Y is no floating-point matrix.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import svd_curve
        >>> svd_curve(torch.diag(torch.tensor([4.0, 3.0, 0.0])))  # from k = 2 on nothing is left
        tensor([1.0000, 0.6000, 0.0000, 0.0000], dtype=torch.float64)
    """
    refuse_blocks("Y", Y, "svd_curve")
    Y = columns_of("Y", Y)
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
    Y: Any,
    ks: Iterable[int],
    *,
    folds: int = 5,
    rounds: int = 50,
    method: str | Method = "hals",
    init: str | None = "random",
    missing: str = "error",
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

    A prediction is at most the largest entry that is visible. With many components a few hidden entries are predicted
    a thousand times larger than anything in Y, where hardly a visible one says how much of a component a sample holds;
    they alone would decide.

    Hidden entries do not count in the fit, exactly: it is that of ``factorize`` with a ``mask``.

    Why scattered entries and not whole blocks of rows and columns (Owen and Perry 2009, Bi-cross-validation of the SVD
    and the nonnegative matrix factorization), which need no filling: on planted data the error on blocks hardly rises
    beyond the true k, so that its minimum misses it more often; and a block takes columns away, of which a group has
    few beside k.

    Arguments:
        Y: (*batch, n, m), non-negative, floating point. The same entries are hidden in every problem. Or, with a sample
            in each row as ``diffnmf.NMF`` takes them, an array or a data frame (m, n). With missing="unstored" a
            single matrix that is sparse: (n, m) in torch's CSR or CSC layout, or one of SciPy (m, n).
        ks: numbers of components to try, ≥ 1.
        folds: parts, at least 2, at most max(n, m), or as many as entries are stored. Each problem is fitted
            folds · len(ks) times.
        rounds: iterations of each fit.
        method: "hals", "anls" or "mu", or an instance. "mu" needs several times as many rounds.
        init: as in ``factorize``.
        missing: "error", or "ignore": a NaN in Y is an entry that is not known. Or "unstored", for a sparse Y: what it
            does not store is not known, as in a table of ratings; parts of what it stores are hidden in turn. Little
            is known then, and penalties are worth more. For "hals", and "mu" with the squared error.
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
    method = get_method(method)
    refuse_blocks("Y", Y, "cross_validate_rank")
    named = check_name("missing", missing, MISSING)
    observed = named == "unstored"
    if not observed and (getattr(Y, "layout", torch.strided) != torch.strided or hasattr(Y, "tocsr")):
        raise ValueError(
            f"missing: expected 'unstored' for a sparse Y; got {missing!r} (or use Y.to_dense(), Y.toarray())"
        )
    Y = columns_of("Y", Y, missing=named, sparse=observed)
    if not observed:  # which is checked like any sparse matrix
        _check_entries(Y)
    numbers = tuple(sorted(set(check_counts("ks", ks, at_least=1))))
    folds = check_count("folds", folds, at_least=2)
    rounds = check_count("rounds", rounds, at_least=1)
    seed = check_seed("seed", seed)
    if "weights" not in method.takes:
        raise ValueError(f'method: expected one that can leave entries out, "hals", "anls" or "mu"; got {method!r}')
    options: dict[str, Any] = {
        "method": method,
        "init": init,
        "max_iter": rounds,
        "l1_H": l1_H,
        "l1_W": l1_W,
        "ridge_H": ridge_H,
        "ridge_W": ridge_W,
        "seed": seed,
    }
    errors_of = _stored_folds(Y, folds, seed) if observed else _dense_folds(Y, named, folds, seed)
    errors = torch.stack([errors_of(k, options) for k in numbers])  # (len(ks), folds, *batch)
    mean = errors.mean(1)
    tried = torch.tensor(numbers, device=Y.device)
    best = torch.where(mean.isfinite().all(0), tried[mean.argmin(0)], 0)
    return RankScores(numbers, mean, errors.std(1), best)


def _dense_folds(Y: Tensor, missing: str, folds: int, seed: int) -> ErrorsOf:
    """The errors of Y (*batch, n, m) on each of its parts."""
    _check_folds(folds, max(Y.shape[-2:]), "max(n, m)", "of every column")
    Y = Y.detach().to(torch.promote_types(Y.dtype, torch.float32))
    known = None if missing == "error" else ~Y.isnan()
    n, m = Y.shape[-2:]
    parts = torch.arange(folds, device="cpu").reshape(-1, *(1,) * Y.ndim)  # (folds, 1, ..., 1)
    hidden = (deal(n, m, folds, seed) == parts).to(Y.device)  # (folds, 1, ..., n, m)
    at_once = max(1, FOLD_ELEMENTS // max(1, Y.numel()))

    def errors_of(k: int, options: dict[str, Any]) -> Tensor:
        return torch.cat([_hidden_error(Y, known, some, k, options) for some in hidden.split(at_once)])

    return errors_of


def _stored_folds(Y: Tensor, folds: int, seed: int) -> ErrorsOf:
    """The same of a sparse Y (n, m), of which nothing is known but what it stores."""
    matrix = checked_sparse(Y, observed=True)
    assert isinstance(matrix, ObservedMatrix)
    _check_folds(folds, len(matrix.values), "the number of entries that are stored", "in every fold")
    parts = deal_stored(matrix, folds, seed)
    return lambda k, options: torch.stack([stored_errors(matrix, parts == i, k, options) for i in range(folds)])


@torch.no_grad()
@precisely
def _hidden_error(Y: Tensor, known: Tensor | None, hidden: Tensor, k: int, options: dict[str, Any]) -> Tensor:
    """The relative error on the hidden entries, (F, *batch) float64, of Y (*batch, n, m), hidden (F, 1, ..., n, m)."""
    visible = ~hidden if known is None else ~hidden & known
    hidden = hidden if known is None else hidden & known
    whole = Y.expand(len(hidden), *Y.shape)
    with without_complaint():
        factors = factorize(whole, k, mask=visible.expand_as(whole), tol=0.0, **options)
    # Next to nothing may be visible of a component in a sample: its weight is free then, and what it says of the rest.
    predicted = torch.minimum(factors.H @ factors.W, torch.where(visible, Y, 0.0).amax((-2, -1), keepdim=True))
    error, size = torch.where(hidden, predicted - Y, 0.0), torch.where(hidden, Y, 0.0)
    return relative_norm(error, size, Y.nan_to_num(0.0).amax((-2, -1), keepdim=True))


def _check_folds(folds: int, most: int, what: str, where: str) -> None:
    if folds > most:
        raise ValueError(f"folds: expected at most {what} = {most}, to hide entries {where}; got {folds}")


def _check_entries(Y: Tensor) -> None:
    check_matrix("Y", Y)
    if 0 in Y.shape[-2:]:
        raise ValueError(f"Y: expected (*batch, n, m), n and m ≥ 1; got {tuple(Y.shape)}")
