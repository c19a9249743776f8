"""Where a factorisation starts."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffnmf.checks import check_counts, check_name, check_seed
from diffnmf.factorization.base import Budget, in_own_memory
from diffnmf.factorization.exact_weights import exact_weights
from diffnmf.factorization.hals import HALS
from diffnmf.factorization.merging import can_merge, merge_scaled
from diffnmf.factorization.nmf_problem import NMFProblem, Units
from diffnmf.factorization.nndsvd import nndsvd, nndsvd_filled_with
from diffnmf.factorization.partial_start import Start, partial_start
from diffnmf.factorization.problem_input import Given, make_nmf_problem
from diffnmf.factorization.spa import spa
from diffnmf.factorization.sparse_matrix import ObservedMatrix, SparseMatrix, multiply
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import one_where_zero

Seed = int | Sequence[int]  # of all problems, or of each

# The race of "auto". After five rounds of HALS the better of two starts is, with few exceptions, also the one that ends
# lower, or close to it (docs/merging.md).
RACE = 5
NNDSVD_SIDE = 1024  # the eigenvectors of a larger Gram matrix take longer than the rounds that they save


@torch.no_grad()
@precisely
def initialize(
    Y: Tensor, k: int, init: str | None = None, seed: Seed = 0, *, mask: Tensor | str | None = None
) -> Start:
    """A start H (*batch, n, k), W (*batch, k, m) ≥ 0 for ``factorize``.

    Arguments:
        Y: (*batch, n, m), non-negative.
        k: components, ≥ 1.
        init: None is "auto".

            - "auto": "merge" and a filled "nndsvd" ("random" where both sides of Y are beyond 1,024) run five rounds
              of HALS each, and every problem keeps the better one, as it is then. "random" where k exceeds n and m.
              For a sparse Y the filled "nndsvd"; in ``factorize`` "random" where what it does not store is not known.
            - "merge": a factorisation already, of the merged columns or rows of Y, see ``merge``; k ≤ max(n, m).
            - "random": uniform in [0, 2√(mean(Y)/k)), so that the mean of HW is that of Y. One draw of each shape
              serves every problem of a batch, scaled for each: the same problem has the same start wherever it stands.
            - "uniform": that draw in [0, 1), whatever the scale of Y. What many programs do; "published_hals" loses
              components from it.
            - "nndsvd": see ``nndsvd``: no chance, many zeros.
            - "nndsvda": the same with mean(Y) in the place of the zeros.
            - "nndsvdar": the same with random numbers of the size of mean(Y)/100.
            - "spa": k columns of Y by ``spa`` (k ≤ m) and their exact weights.

            "uniform", "nndsvda" and "nndsvdar" depend on the units of Y. Where HW would be so far above Y that the
            squares of a gradient overflow (Y below 1e-97 and above 1e97, in float32 1e-8 and 1e8), they are those of
            the last Y for which they do not.
        seed: of the draw, an int ≥ 0; or several, one for each problem of the batch in its order.
        mask: what is known of Y, as in ``factorize``; the rest is filled in with row mean · column mean / mean.

    Returns:
        H and W in the dtype and on the device of Y; NaN where a problem is not finite.

    Raises:
        TypeError, ValueError: as ``factorize``.

    Sources: see ``nndsvd``, ``merge`` and ``spa``.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import factorize, initialize
        >>> Y = torch.rand(10, 30, 20)
        >>> H0, W0 = initialize(Y, 3, "merge")
        >>> H0.shape, W0.shape
        (torch.Size([10, 30, 3]), torch.Size([10, 3, 20]))
        >>> H, W, *_ = factorize(Y, 3, H0=H0, W0=W0, tol=1e-2)  # what init="merge" does
    """
    init, seed = check_start(init, seed)
    problem, units, _ = make_nmf_problem(Y, k, mask=mask)
    H, W = partial_start(problem, None, lambda whole: start(whole, units, init, seed))
    return units.unscale(H), units.unscale(W)


def check_start(init: str | None, seed: Seed) -> tuple[str, Seed]:
    """The name of a start and the seed of its draw, or those of the problems, checked."""
    several = isinstance(seed, Sequence) and not isinstance(seed, str)
    seed = tuple(check_seed("seed", one) for one in check_counts("seed", seed)) if several else check_seed("seed", seed)
    return check_name("init", "auto" if init is None else init, INITS), seed


def start(problem: NMFProblem, units: Units, init: str, seed: Seed) -> Start:
    """``initialize`` in the scaled units."""
    if isinstance(problem.Y, ObservedMatrix) and init not in DRAWN_INITS:
        if init != "auto":
            raise ValueError(
                f'init: expected "auto", "random" or "uniform" where what is not stored is not known; got {init!r}'
                " (leave it out)"
            )
        init = "random"
    if isinstance(problem.Y, SparseMatrix) and init in DENSE_INITS:
        raise ValueError(
            f'init: expected one of "auto", "random", "uniform", "nndsvd", "nndsvda", "nndsvdar" for a sparse Y;'
            f" got {init!r}, which needs dense columns (use Y.to_dense())"
        )
    return INITS[init](problem, units, seed)


def complete(problem: NMFProblem, given: Given, drawn: Callable[[], Start], exact: bool) -> Start:
    """A start of which H or W, or the first columns of H, are given: the rest fits them.

    Arguments:
        problem: B problems.
        given: what is.
        drawn: gives a whole start.
        exact: the missing factor is the exact non-negative least squares one. Otherwise, for methods that
            never move a zero, it is the drawn one times the best number.
    """
    H, W, fixed = given.H, given.W, given.fixed
    if H is None and W is None:
        H, W = drawn()
    elif W is None:
        assert H is not None
        H = _with_fixed(H, fixed)
        W = _fit(problem, "W", H, None if exact else drawn()[1])
    elif H is None:
        H = _fit(problem, "H", W.mT, None if exact else drawn()[0].mT).mT
    assert H is not None
    return _with_fixed(H, fixed), W


def _with_fixed(H: Tensor, fixed: Tensor | None) -> Tensor:
    return H if fixed is None else torch.cat((fixed, H[:, :, fixed.shape[2] :].expand(len(fixed), -1, -1)), 2)


def _fit(problem: NMFProblem, factor: str, H: Tensor, W: Tensor | None) -> Tensor:
    """The W (B, k, m) ≥ 0 that brings HW closest to Y: of all, or of the multiples of a given one. Or H for a W."""
    Y, V = problem.target(factor), problem.entry_weights(factor)
    if W is None:
        return exact_weights(H, Y, weights=V)
    # ⟨HW, Y⟩ / ‖HW‖², from products with the smaller sides
    if isinstance(Y, ObservedMatrix):
        product = Y.sampled_product(H[0].mT, W[0])
        cross, square = ((product * x).sum().reshape(1, 1, 1) for x in (Y.values, product))
    elif V is None:
        cross = (multiply(H.mT, Y) * W).sum((1, 2), keepdim=True)
        square = ((H.mT @ H) * (W @ W.mT)).sum((1, 2), keepdim=True)
    else:
        assert isinstance(Y, Tensor)
        HW = H @ W
        cross, square = ((HW * x * V).sum((1, 2), keepdim=True) for x in (Y, HW))
    return W * (cross / one_where_zero(square))


def _drawn(problem: NMFProblem, seed: Seed, draw: Callable[..., Tensor]) -> Start:
    """H (1, n, k) and W (1, k, m) of one draw for every problem; (B, n, k) and (B, k, m) of a draw for each."""
    batch, n, m = problem.Y.shape
    seeds = [seed] if isinstance(seed, int) else seed
    if len(seeds) not in (1, batch):
        raise ValueError(
            f"seed: expected an int, or {batch} of them, one for each problem; got {len(seeds)} (give one for all)"
        )
    pairs = []
    for one in seeds:
        generator = torch.Generator().manual_seed(one)
        shapes = ((n, problem.k), (problem.k, m))
        pairs.append([draw(*shape, generator=generator, dtype=torch.float64, device="cpu") for shape in shapes])
    H, W = (torch.stack(list(x)).to(problem.Y.device, problem.Y.dtype) for x in zip(*pairs, strict=True))
    return H, W


def _uniform(problem: NMFProblem, seed: Seed) -> Start:
    """U[0, 1)."""
    return _drawn(problem, seed, torch.rand)


def _scaled_random(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    H, W = _uniform(problem, seed)
    scale = 2 * (problem.Y.mean((1, 2), keepdim=True) / problem.k).sqrt()
    return scale * H, scale * W


def _unscaled_random(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    H, W = _uniform(problem, seed)
    root = units.root.clamp(min=1 / largest_start(problem))
    return H / root, W / root


def largest_start(problem: NMFProblem) -> float:
    """The largest entry of H and W for which the square of a gradient HᵀHW, summed, stays in the range of the dtype."""
    return math.exp2(math.log2(torch.finfo(problem.Y.dtype).max) // 6 - 8)


def _nndsvd(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    return nndsvd(problem.Y, problem.k)


def _nndsvda(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    mean = _mean_for_users(problem, units)
    return nndsvd_filled_with(problem.Y, problem.k, mean, mean)


def _nndsvdar(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    mean = _mean_for_users(problem, units)
    H, W = (mean * noise.abs() / 100 for noise in _drawn(problem, seed, torch.randn))
    return nndsvd_filled_with(problem.Y, problem.k, H, W)


def _mean_for_users(problem: NMFProblem, units: Units) -> Tensor:
    """The mean of Y in their units, as scikit-learn has it, although it has no business among square roots of Y."""
    return problem.Y.mean((1, 2), keepdim=True) * units.root.clamp(max=largest_start(problem))


def _spa(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    H = spa(problem.dense, problem.k)
    return H, exact_weights(H, problem.dense)


def _merge(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    return merge_scaled(problem.dense, problem.k)


def _filled_nndsvd(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    """nndsvd with √(mean(Y)/k), the mean of a random start, in the place of zeros: the same for Y in any units.

    After five rounds of HALS it is as good as the mean(Y) of "nndsvda", or better.
    """
    fill = (problem.Y.mean((1, 2), keepdim=True) / problem.k).sqrt()
    return nndsvd_filled_with(problem.Y, problem.k, fill, fill)


def _auto(problem: NMFProblem, units: Units, seed: Seed) -> Start:
    """The better of two starts after a short race, for every problem by itself."""
    _, n, m = problem.Y.shape
    if isinstance(problem.Y, SparseMatrix):
        return _filled_nndsvd(problem, units, seed) if problem.k <= min(n, m) else _scaled_random(problem, units, seed)
    if not can_merge(n, m, problem.k):
        return _scaled_random(problem, units, seed)
    challenger = _filled_nndsvd if min(n, m) <= NNDSVD_SIDE else _scaled_random
    (H, W, objective), (H_other, W_other, other) = (
        _after_rounds(problem, *begin(problem, units, seed)) for begin in (_merge, challenger)
    )
    better = (other < objective)[:, None, None]
    return torch.where(better, H_other, H), torch.where(better, W_other, W)


def _after_rounds(problem: NMFProblem, H: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """H and W after a few rounds of HALS, and the objective there, (B,)."""
    W, Ht = in_own_memory(problem, H, W)
    run = HALS().run(problem, W, Ht, Budget(tol=0.0, max_iter=RACE, observer=None))
    return run.Ht.mT, run.W, problem.objective(run.errors[-1], run.W, run.Ht)


INITS: dict[str, Callable[[NMFProblem, Units, Seed], Start]] = {
    "auto": _auto,
    "merge": _merge,
    "random": _scaled_random,
    "uniform": _unscaled_random,
    "nndsvd": _nndsvd,
    "nndsvda": _nndsvda,
    "nndsvdar": _nndsvdar,
    "spa": _spa,
}
DENSE_INITS = frozenset({"merge", "spa"})
DRAWN_INITS = frozenset({"random", "uniform"})
