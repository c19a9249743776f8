"""A start that is already a factorisation: columns of Y are merged until k are left; as a start and as method "merge".

All of it happens in Gram space: on YᵀY (m×m) for columns, so that n costs one product at each end. The derivation, what
it is related to, and where it loses: docs/merging.md.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_matrix, set_fields
from diffnmf.factorization.at_once import run_at_once
from diffnmf.factorization.base import Budget, Method, Run
from diffnmf.factorization.gram_merging import gram_steps, merge_gram
from diffnmf.factorization.half_step import half_step
from diffnmf.factorization.hals import sweep_
from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.factorization.problem_input import scale_exponent
from diffnmf.factorization.workers import for_each
from diffnmf.solvers.devices import precisely

# Of more columns than this (or 2k) a sample is merged. At 256 of 800 columns that costs 2 to 4 % of the error, and
# nothing any more five rounds of HALS later.
DIRECT = 1024
STEPS, SWEEPS = 4, 2  # in Gram space, and over the weights at the end, unless told otherwise
SWEEPS_FROM_SHARES = 8  # more of them where W is not known from the merging
# Entries of the matrices of a batch that are worked on at once: what a second-level cache holds.
ENTRIES = 2**19


@dataclass(frozen=True)
class Merge(Method):
    """Agglomerative merging of the columns of Y (or of its rows, where they are fewer), then a few steps in Gram space.

    Choose it where a good factorisation is wanted at once: without a single iteration it comes within a few percent of
    the error of converged HALS on images, in about the time of one iteration. It needs k ≤ max(n, m), and has no use
    for penalties on H. Its one "iteration" begins from W = 0, and converges.

    Options:
        steps: steps in Gram space after the merging, an int ≥ 0; 0 is bare merging.
        sweeps: coordinate sweeps over the weights at the end, an int ≥ 1.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Source: see ``merge``.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import Merge, factorize
        >>> Y = torch.rand(8, 64, 40)  # eight groups
        >>> merged = factorize(Y, 5, method=Merge()).errors[-1]
        >>> converged = factorize(Y, 5, tol=0.0, max_iter=100).errors[-1]
        >>> bool((merged < 1.05 * converged).all())
        True
    """

    steps: int = STEPS
    sweeps: int = SWEEPS

    def __post_init__(self) -> None:
        set_fields(self, steps=check_count("steps", self.steps), sweeps=check_count("sweeps", self.sweeps, at_least=1))

    @property
    def needs_start(self) -> bool:
        return False

    def run(self, problem: NMFProblem, W: Tensor, Ht: Tensor, budget: Budget) -> Run:
        if problem.basis_penalties.any:
            raise ValueError(
                'l1_H, ridge_H: expected 0 for method "merge", which minimises nothing over H; use l1_W or ridge_W,'
                ' or init="merge" with another method'
            )
        H, W = merge_scaled(problem.dense, problem.k, self.steps, self.sweeps)
        half = half_step(H.mT.contiguous(), problem.Y, problem.weights_penalties)
        if problem.weights_penalties.any:
            sweep_(*half.penalized(), W, self.sweeps)
        return run_at_once(problem, half, W, budget)


def can_merge(n: int, m: int, k: int) -> bool:
    """Whether there is anything to merge: Y (n, m) has k columns, or k rows."""
    return k <= max(n, m)


@torch.no_grad()
@precisely
def merge(Y: Tensor, k: int, *, steps: int = STEPS, sweeps: int = SWEEPS) -> tuple[Tensor, Tensor]:
    """Merge the columns of every Y into k components, and fit them: H (*batch, n, k) and W (*batch, k, m).

    Every column begins as a component of its own. Again and again the two components are replaced by their best common
    rank-one fit for which this loses least. The smaller side of Y that has at least k members is merged; rows are
    merged as the columns of Yᵀ. Where that side has more than 1,024 members (or 2k), as many of them at equal distances
    are merged, and W is fitted to all.

    Arguments:
        Y: (*batch, n, m), non-negative, finite, float32 or float64.
        k: 1 ≤ k ≤ max(n, m).
        steps: alternations of a sweep of W and a step of H, both in Gram space, an int ≥ 0.
        sweeps: coordinate sweeps over the weights at the end, an int ≥ 1.

    Raises:
        TypeError, ValueError: Y is no floating-point matrix, or has neither k columns nor k rows, or steps or sweeps is
            no such number; for what else may be wrong with an Y, ``initialize(Y, k, "merge")`` has errors and ways out.

    Source: ours; docs/merging.md has the derivation, and what it is related to.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import merge
        >>> H, W = merge(torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]), 2)  # two columns say the same
        >>> (H @ W).round(decimals=3)
        tensor([[1., 2., 0.],
                [0., 0., 3.]])
    """
    k = check_count("k", k, at_least=1)
    steps, sweeps = check_count("steps", steps), check_count("sweeps", sweeps, at_least=1)
    *batch_shape, n, m = check_matrix("Y", Y).shape
    Y = Y.detach().reshape(-1, n, m)
    batch = len(Y)
    exponent = scale_exponent(Y.amax((1, 2)) if Y.numel() else Y.new_zeros(batch))
    root = torch.ldexp(Y.new_ones(batch), exponent)[:, None, None]  # squares of Y / root² are in range
    scaled = bool(exponent.any())
    if scaled:
        Y = Y / root / root
    H, W = merge_scaled(Y, k, steps, sweeps)
    if scaled:
        whole = H if merged_side(n, m, k) == "rows" else W  # what is not merged has the size of Y
        whole.mul_(root).mul_(root)
    return H.reshape(*batch_shape, n, k), W.reshape(*batch_shape, k, m)


def merge_scaled(Y: Tensor, k: int, steps: int = STEPS, sweeps: int = SWEEPS) -> tuple[Tensor, Tensor]:
    """As ``merge``, of Y (B, n, m) whose squares are in range, as those of an ``NMFProblem`` are."""
    batch, n, m = Y.shape
    if not can_merge(n, m, k):
        raise ValueError(
            f"k: expected at most max(n, m) = {max(n, m)}, as many as there are columns or rows to merge; got {k}"
            ' (use init="random")'
        )
    rows = merged_side(n, m, k) == "rows"
    columns = Y.mT if rows else Y
    H, W = Y.new_empty(batch, columns.shape[1], k), Y.new_empty(batch, k, columns.shape[2])
    side = min(columns.shape[2], max(DIRECT, 2 * k))
    size = max(1, ENTRIES // max(1, 3 * side * side)) if Y.device.type == "cpu" else max(1, batch)
    pieces = [slice(start, start + size) for start in range(0, batch, size)]
    work = partial(_merge_piece, columns, H, W, steps, sweeps)
    for_each(work, pieces, parallel=Y.device.type == "cpu")
    return (W.mT, H.mT) if rows else (H, W)


def _merge_piece(Y: Tensor, H: Tensor, W: Tensor, steps: int, sweeps: int, piece: slice) -> None:
    """Some problems of a batch: Y is read, H and W are written."""
    H[piece], W[piece] = merge_columns(Y[piece], H.shape[2], steps, sweeps)


def merged_side(n: int, m: int, k: int) -> str:
    """What of Y (n, m) is merged: the "columns", or the "rows" where they are fewer, but k at least."""
    return "rows" if m < k or k <= n < m else "columns"


def merged_members(count: int, k: int) -> Tensor:
    """Which of them are merged, (s,): all, or a sample from all over Y, since neighbours are often alike."""
    most = max(DIRECT, 2 * k)
    if count <= most:
        return torch.arange(count, device="cpu")
    return torch.linspace(0, count - 1, most, device="cpu").long()


def even_share(C: Tensor, squares: Tensor) -> Tensor:
    """Weights (B, k, m) that give every component an even share, to begin sweeps with: from C = HᵀY and ‖h‖² (B, k)."""
    return C / (squares.unsqueeze(-1) * C.shape[1]).clamp(min=torch.finfo(C.dtype).tiny)


def merge_columns(Y: Tensor, k: int, steps: int, sweeps: int) -> tuple[Tensor, Tensor]:
    """``merge`` of the columns of Y (B, n, m)."""
    m = Y.shape[2]
    members = merged_members(m, k)
    if len(members) == m:
        G = Y.mT @ Y
        A, W = gram_steps(G, merge_gram(G, k), steps)
        Ht = torch.relu(A @ Y.mT)
        C = Ht @ Y
    else:
        Ht = merge_columns(Y[:, :, members.to(Y.device)], k, steps, sweeps)[0].mT
        C = Ht @ Y
        W = even_share(C, Ht.square().sum(-1))
        sweeps += SWEEPS_FROM_SHARES
    sweep_(Ht @ Ht.mT, C, W, sweeps)
    return Ht.mT, W
