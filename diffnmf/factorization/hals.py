"""Method "hals": hierarchical alternating least squares, accelerated.

The sweeps are those of Cichocki and Phan (2009), Fast local algorithms for large scale nonnegative matrix and tensor
factorizations: every row of a factor in turn at its optimum, the others held.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffnmf.checks import check_count, check_flag, set_fields
from diffnmf.factorization.alternating import AlternatingMethod, FactorState
from diffnmf.factorization.base import Budget, Run
from diffnmf.factorization.extrapolation import adapt_, extrapolate_, forget_, remember
from diffnmf.factorization.half_step import Quadratic, negligible
from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.factorization.observed_half_step import ObservedHalfStep
from diffnmf.factorization.revival import revive_
from diffnmf.factorization.small_runs import is_small, run_small
from diffnmf.factorization.weighted_half_step import WeightedHalfStep
from diffnmf.factorization.weighted_sweep import majorizer, weighted_sweep_
from diffnmf.kernels import hals as kernels
from diffnmf.kernels.calling import TYPES, available
from diffnmf.kernels.cuda import hals as on_cuda
from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.norms import one_where_zero

# Rows that one matrix product serves: fewer would read X more often, more would correct each row more often.
BLOCK = 10
# Entries of X (B, k, N) at a time on the CPU: what a last-level cache holds, and what is worth sharing among threads.
PIECE = 2**22

# Passes over a factor with weights at the most: on MNIST a third costs a fifth more, and is worth less.
WEIGHTED_SWEEPS = 2

# Weights are even when their mean, divided by the largest one, times k is at least this. Then one Gram matrix for all
# columns (see ``majorizer``) gets further in the time of thirty iterations with one for each: on 2,000 images of MNIST
# it does at k = 50, on groups of 40 of them at k ≤ 30 it does not.
EVEN = 30.0

AnyHalfStep = Quadratic | WeightedHalfStep | ObservedHalfStep


@dataclass(frozen=True)
class HALS(AlternatingMethod):
    """Coordinate descent over the rows of W and the columns of H, each at its optimum in turn.

    Choose it as the default: the most progress a second. Without extrapolation the error never increases.

    Options:
        sweeps: passes over a factor at the most, an int ≥ 1, while its Gram matrix and its cross product are fresh:
            more than one where they are cheaper than forming those two.
        extrapolate: move each factor a little further in the direction of its last step; how far is chosen for every
            problem by itself (Ang and Gillis 2019).
        revive: give components that have died another start, from the columns of Y that are fitted worst. Not done
            under penalties, where a dead component may be what is asked for.
        shuffle: take the rows of a factor in another random order, which is the same for all problems, in every sweep.
        seed: of these orders, an int ≥ 0.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Sources: Cichocki and Phan (2009), Fast local algorithms for large scale nonnegative matrix and tensor
    factorizations; Gillis and Glineur (2012), Accelerated multiplicative updates and hierarchical ALS algorithms for
    nonnegative matrix factorization, Neural Computation 24(4), for the sweeps; Ang and Gillis (2019), Accelerating
    nonnegative matrix factorization algorithms using extrapolation, Neural Computation 31(2).

    Example:
        >>> import torch
        >>> from diffnmf.factorization import HALS, factorize
        >>> Y = torch.rand(30, 20).double()
        >>> errors = factorize(Y, 3, method=HALS(sweeps=1, extrapolate=False), max_iter=10, tol=0.0).errors
        >>> bool((errors.diff() < 0).all())
        True
    """

    sweeps: int = 3
    extrapolate: bool = True
    revive: bool = True
    shuffle: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        set_fields(
            self,
            sweeps=check_count("sweeps", self.sweeps, at_least=1),
            extrapolate=check_flag("extrapolate", self.extrapolate),
            revive=check_flag("revive", self.revive),
            shuffle=check_flag("shuffle", self.shuffle),
            seed=check_count("seed", self.seed),
        )

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"weights", "sparse", "observed", "fixed", "parts"})

    def begin(self, problem: NMFProblem, W: Tensor, Ht: Tensor) -> dict[str, Tensor]:
        memory = remember(W, Ht) if self.extrapolate else {}
        if problem.weights is not None:
            largest = problem.weights.amax((1, 2), keepdim=True)
            evenness = problem.weights.mean((1, 2), keepdim=True) / one_where_zero(largest)
            memory = {**memory, "largest": largest, "evenness": evenness}
        return {**memory, "steps": torch.zeros(len(W), dtype=torch.int64, device=W.device)} if self.shuffle else memory

    def observe(self, objective: Tensor, memory: dict[str, Tensor]) -> None:
        if self.extrapolate:
            adapt_(memory, objective)

    def update(self, half: AnyHalfStep, X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
        past = memory[factor] if self.extrapolate else None
        if not self.shuffle:
            self._sweep(half, X, memory, past)
            return
        state = np.random.SeedSequence([self.seed, int(memory["steps"][0])]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        order = torch.randperm(X.shape[1], generator=generator, device="cpu").to(X.device)
        memory["steps"] += 1
        shuffled = X[:, order]
        last = None if past is None else past[:, order]
        self._sweep(half.reordered(order), shuffled, memory, last)
        X[:, order] = shuffled
        if past is not None and last is not None:
            past[:, order] = last

    def _sweep(
        self,
        half: AnyHalfStep,
        X: Tensor,
        memory: dict[str, Tensor],
        past: Tensor | None,
    ) -> None:
        """Some passes over X, and the extrapolation, in place."""
        k, beta = X.shape[1], None if past is None else memory["used"]
        if isinstance(half, Quadratic):
            sweep_(*half.penalized(), X, passes(self.sweeps, half.size, k), past, beta)
            return
        if isinstance(half, ObservedHalfStep):
            half.sweep_(X, min(self.sweeps, WEIGHTED_SWEEPS))
        else:
            self._weighted_sweep(half, X, memory["largest"], even=memory["evenness"].flatten() * k >= EVEN)
        if past is not None and beta is not None:
            extrapolate_(X, past, beta)

    def _weighted_sweep(self, half: WeightedHalfStep, X: Tensor, largest: Tensor, *, even: Tensor) -> None:
        """Some passes over X in place; ``even`` (B,) bool says which problems share one Gram matrix for all columns."""
        if even.all():
            sweep_(*majorizer(half, X, largest), X, 1)
        elif not even.any():
            weighted_sweep_(half, X, min(self.sweeps, WEIGHTED_SWEEPS))
        else:  # each as it would be alone
            for index in (even.nonzero().squeeze(-1), (~even).nonzero().squeeze(-1)):
                some = X[index]
                self._weighted_sweep(half.take(index), some, largest[index], even=even[index])
                X[index] = some

    def run_small(self, problem: NMFProblem, iterate: FactorState, budget: Budget) -> Run | None:
        if self.shuffle or not is_small(problem, iterate):
            return None
        n, m = problem.Y.shape[1:]
        sweeps = passes(self.sweeps, n, problem.k), passes(self.sweeps, m, problem.k)
        return run_small(problem, iterate, budget, sweeps=sweeps, revive=self.revive_dead if self.revive else None)

    @property
    def revives(self) -> bool:
        return self.revive

    def revive_dead(self, problem: NMFProblem, iterate: FactorState) -> None:
        if self.revive and not problem.penalized:
            revived = revive_(problem, iterate.W, iterate.Ht)
            if bool(revived.any()):
                self.forget(iterate.memory, iterate.W, iterate.Ht, revived)

    def forget(self, memory: dict[str, Tensor], W: Tensor, Ht: Tensor, components: Tensor) -> None:
        if self.extrapolate:
            forget_(memory, W, Ht, components)


def passes(most: int, p: int, k: int) -> int:
    """Over a factor, up to ``most``: as many as cost less than forming C, of which one costs k / p."""
    return max(1, min(most, p // k))


def sweep_(
    A: Tensor, C: Tensor, X: Tensor, sweeps: int, past: Tensor | None = None, beta: Tensor | None = None
) -> None:
    """Reduce ½⟨X, AX⟩ − ⟨C, X⟩ over X ≥ 0 in place, by ``sweeps`` passes over the rows of X.

    A row whose diagonal entry in A is zero has no curvature: it takes the step C_i, which without l1 is zero, too.

    Arguments:
        A: (B, k, k), positive semidefinite.
        C: (B, k, N).
        X: (B, k, N) ≥ 0.
        sweeps: ≥ 1.
        past: (B, k, N), for an extrapolation afterwards, see ``extrapolate_``; None: none.
        beta: (B, 1, 1), with ``past``.
    """
    if available(A, C, X) and X.is_contiguous() and X.dtype in TYPES:
        kernels.half_(A, C, X, sweeps, negligible(X.dtype), past, beta)
        return
    if on_cuda.available(A, C, X, past, beta):
        on_cuda.half_(A, C, X, sweeps, negligible(X.dtype), past, beta)
        return
    batch, k, width = X.shape
    size = max(1, PIECE // max(1, batch * k)) if looking_is_free(X.device) else max(1, width)
    for start in range(0, width, size):
        columns = slice(start, start + size)
        _sweep_piece(A, C[..., columns], X[..., columns], sweeps)
    if past is not None and beta is not None:
        extrapolate_(X, past, beta)


def _sweep_piece(A: Tensor, C: Tensor, X: Tensor, sweeps: int) -> None:
    """A row at its optimum is max(0, C_i − Σ_{j≠i} A_ij x_j) / A_ii.

    For a block of rows one product takes the others at their old values. What is missing then, the rows of the block
    at their new values as they come, is added row by row.
    """
    k = X.shape[1]
    diagonal = A.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)  # (B, k, 1)
    alive = diagonal > 0
    inverse = torch.where(alive, 1 / diagonal, 1.0)
    number = torch.arange(k, device=X.device)
    new = (number[:, None] // BLOCK == number // BLOCK) & (number[:, None] >= number)
    old = A.masked_fill(new, 0.0)
    old -= torch.diag_embed((~alive).squeeze(-1).to(A.dtype))  # of a row without curvature: C − (−x)
    corrections = -A * inverse

    buffer = torch.empty_like(X[:, :BLOCK])
    steps = []  # views are made once: each costs as much as a small operation
    for start in range(0, k, BLOCK):
        rows = slice(start, min(start + BLOCK, k))
        moved = buffer[:, : rows.stop - start]
        columns = corrections[:, rows, rows].unsqueeze(-1).unbind(2)  # (B, s, 1) each
        among = [(row, moved[:, i + 1 :], columns[i][:, i + 1 :]) for i, row in enumerate(moved.split(1, dim=1))]
        steps.append((C[:, rows], old[:, rows], inverse[:, rows], moved, among, X[:, rows]))
    zero = negligible(X.dtype)
    for _ in range(sweeps):
        for C_rows, old_rows, inverse_rows, moved, among, X_rows in steps:
            torch.baddbmm(C_rows, old_rows, X, alpha=-1, out=moved).mul_(inverse_rows)
            for row, rest, column in among:
                torch.threshold_(row, zero, 0.0)
                rest.addcmul_(column, row)
            X_rows.copy_(moved)
