"""Method "unit_columns": NMF with penalties that say what the columns of H should be like.

The columns u_i of H have norm 1 and W holds the mass, so that no penalty can be escaped by moving scale from H to W:

    ‖Y − UW‖²/‖Y‖² + α (1 − mean Hoyer sparsity of u_i) + β mean ⟨u_i, u_j⟩ + γ (1 − mean ⟨u_i, p_i⟩)

On the unit sphere everything in it is linear in one column u_i with the others held: the error because ‖u_i w_iᵀ‖ does
not depend on u_i, the Hoyer sparsity (√n − Σu_i)/(√n − 1) because its 2-norm is 1. So with R_i the residual without
component i, the best column is

    u_i = normalise(ReLU(R_i w_iᵀ − μ − ν Σ_{j≠i} u_j + g p_i)),
    μ = α‖Y‖²/(2k(√n − 1)),   ν = β‖Y‖²/(k(k − 1)),   g = γ‖Y‖²/(2k),

which is a step of HALS with another last line. With the Gram matrix A = WWᵀ and C = WYᵀ it reads C_i − μ + g p_i −
Σ_{j≠i} (A_ij + ν) u_j: the overlap only adds ν to A off its diagonal.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_flag, check_floating, check_number, set_fields
from diffnmf.factorization.alternating import AlternatingMethod, FactorState
from diffnmf.factorization.base import Budget, Run
from diffnmf.factorization.extrapolation import extrapolate_, forget_
from diffnmf.factorization.half_step import HalfStep, negligible, projected
from diffnmf.factorization.hals import passes, sweep_
from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.factorization.revival import revive_
from diffnmf.factorization.stationarity import Stationarity, stationarity_of
from diffnmf.solvers.norms import one_where_zero, safe_norm, with_unit_columns

# How much of its last step a factor goes on by. H turns on a sphere, and would overshoot with the step of W.
BETA_W, BETA_H = 0.8, 0.2


@dataclass(frozen=True, eq=False)  # a tensor is no part of an equality
class UnitColumns(AlternatingMethod):
    """Coordinate descent with columns of H at unit norm, penalised for what they are like.

    It reduces, over unit columns u_i ≥ 0 of H and W ≥ 0, the relative error² plus

        sparsity (1 − mean Hoyer sparsity of u_i) + overlap · mean ⟨u_i, u_j⟩ + closeness (1 − mean ⟨u_i, p_i⟩)

    Each weight is what an H that is wholly dense, all alike, or nothing like the prototypes costs, in units of relative
    error²: a useful one is a few times the relative error². It does not depend on the units or the size of Y.

    Choose it to trade error for a sparser, more distinct or more constant H; with all weights zero it is ``HALS`` with
    columns of H at unit norm, which takes other steps. It is best started from a factorisation (init "merge"). Every
    iteration costs about one of HALS. Without extrapolation the objective never increases. A column that nothing
    supports any more, since all that is left of it lies below its penalty, stays as it was. The ``l1`` and ``ridge`` of
    ``factorize`` are refused.

    Options:
        sparsity: weight of 1 − mean Hoyer sparsity, a number ≥ 0; nothing where n = 1.
        overlap: weight of the mean cosine of two columns, a number ≥ 0.
        closeness: weight of 1 − mean cosine of a column and its prototype, a number ≥ 0. The order of the columns
            counts: start from the prototypes (``H0``), or put the start in their order (see ``match_slots``).
        prototypes: (n, k) ≥ 0, one for each column of H, of any length; needed with ``closeness``.
        extrapolate: move each factor a little further in the direction of its last step, except after a step that has
            raised the objective.
        sweeps: as in ``HALS``, of W.
        revive: as in ``HALS``.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Sources: Hoyer (2004), Non-negative matrix factorization with sparseness constraints, JMLR 5, for the sparsity; the
    steps are those of Cichocki and Phan (2009), see ``HALS``, on the sphere.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import UnitColumns, factorize
        >>> Y = torch.rand(10, 64, 4) @ torch.rand(10, 4, 20)  # ten groups
        >>> method = UnitColumns(sparsity=0.1)
        >>> H, W, *_ = factorize(Y, 4, method=method, init="merge", max_iter=20, tol=0.0)
        >>> H.norm(dim=-2).allclose(torch.ones(10, 4))
        True
        >>> method.objective(Y, H, W).shape
        torch.Size([10])
    """

    sparsity: float = 0.0
    overlap: float = 0.0
    closeness: float = 0.0
    prototypes: Tensor | None = None
    extrapolate: bool = True
    sweeps: int = 3
    revive: bool = True

    def __post_init__(self) -> None:
        set_fields(
            self,
            **{name: check_number(name, getattr(self, name)) for name in ("sparsity", "overlap", "closeness")},
            extrapolate=check_flag("extrapolate", self.extrapolate),
            sweeps=check_count("sweeps", self.sweeps, at_least=1),
            revive=check_flag("revive", self.revive),
        )
        if self.prototypes is not None:
            set_fields(self, prototypes=_checked_prototypes(self.prototypes))
        elif self.closeness > 0:
            raise ValueError(
                "prototypes: expected a tensor (n, k), one column for each of H, with closeness > 0; got None"
                " (slot_prototypes makes them from the bases of several groups)"
            )

    @property
    def unit_basis(self) -> bool:
        return True

    def objective(self, Y: Tensor, H: Tensor, W: Tensor) -> Tensor:
        """What is reduced, (*batch,) float64: relative error² and the penalties, which see H with unit columns.

        Arguments:
            Y: (*batch, n, m).
            H: (*batch, n, k), non-negative; its columns may have any length.
            W: (*batch, k, m).
        """
        size = safe_norm(Y, dim=(-2, -1))
        error = safe_norm(Y - H @ W, dim=(-2, -1)) / one_where_zero(size)
        return error.square() + self.penalty(H)

    def penalty(self, H: Tensor) -> Tensor:
        """The penalties alone, (*batch,) float64. A zero column counts as dense, unlike all others, far from its own.

        Arguments:
            H: (*batch, n, k), non-negative; its columns may have any length.
        """
        return self._penalty(with_unit_columns(H).mT, self._unit_prototypes(H.shape[-2], H.shape[-1], H))

    def run(self, problem: NMFProblem, W: Tensor, Ht: Tensor, budget: Budget) -> Run:
        if problem.penalized:
            raise ValueError(
                'l1_H, l1_W, ridge_H, ridge_W: expected 0 for method "unit_columns", which has penalties of its own; '
                'use UnitColumns(sparsity=...), or method "hals"'
            )
        self._unit_prototypes(problem.Y.shape[1], problem.k, problem.dense)  # an error here, not in a thread
        return super().run(problem, W, Ht, budget)

    def begin(self, problem: NMFProblem, W: Tensor, Ht: Tensor) -> dict[str, Tensor]:
        length = one_where_zero(torch.linalg.vector_norm(Ht, dim=-1, keepdim=True))  # (B, k, 1)
        Ht.div_(length)
        W.mul_(length)
        memory = {
            "square": problem.square.to(W.dtype)[:, None, None],
            "penalty": self._penalty(Ht, self._unit_prototypes(problem.Y.shape[1], problem.k, Ht)),
            "objective": torch.full_like(problem.square, torch.inf),
            "used": W.new_zeros(len(W), 1, 1),  # the first step from a start says nothing about the next one
        }
        return {**memory, "W": W.clone(), "H": Ht.clone()} if self.extrapolate else memory

    def observe(self, objective: Tensor, memory: dict[str, Tensor]) -> None:
        objective = objective + memory["penalty"]
        fell = (objective < memory["objective"]) & memory["objective"].isfinite()
        memory["used"].copy_(fell[:, None, None])
        memory["objective"].copy_(objective)

    def update(self, half: HalfStep, X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
        if factor == "W":
            past, beta = (memory["W"], BETA_W * memory["used"]) if self.extrapolate else (None, None)
            sweep_(*half.penalized(), X, passes(self.sweeps, half.size, X.shape[1]), past, beta)
            return
        turn_columns_(*self._pulls(half, memory["square"]), X)
        if self.extrapolate:
            extrapolate_(X, memory["H"], BETA_H * memory["used"])
            _normalise_(X)
        memory["penalty"].copy_(self._penalty(X, self._unit_prototypes(X.shape[2], X.shape[1], X)))

    def stationarity(
        self, problem: NMFProblem, half_W: HalfStep, W: Tensor, half_H: HalfStep, Ht: Tensor
    ) -> Stationarity:
        """On the sphere only what is orthogonal to a column counts; of a column that nothing supports, nothing does."""
        A, C = self._pulls(half_H, problem.square.to(W.dtype)[:, None, None])
        pull = torch.baddbmm(C, A, Ht, alpha=-1)  # (B, k, n): a column at its optimum is normalise(ReLU(pull))
        supported = pull.amax(-1, keepdim=True) > 0
        along = (pull * Ht).sum(-1, keepdim=True)
        gradient = torch.where(supported, along * Ht - pull, 0.0)
        return stationarity_of([half_W.slopes(W), (projected(gradient, Ht), half_H.C)])

    @property
    def revives(self) -> bool:
        return self.revive and not (self.sparsity or self.overlap or self.closeness)

    def revive_dead(self, problem: NMFProblem, iterate: FactorState) -> None:
        if not self.revives:
            return
        revived = revive_(problem, iterate.W, iterate.Ht)
        _normalise_(iterate.Ht)
        if self.extrapolate:
            forget_(iterate.memory, iterate.W, iterate.Ht, revived)

    def _pulls(self, half: HalfStep, square: Tensor) -> tuple[Tensor, Tensor]:
        """A (B, k, k), its diagonal zero, and C (B, k, n): column i is drawn towards C_i − Σ_j A_ij u_j."""
        k, n = half.C.shape[1:]
        A, C = half.A, half.C
        if self.overlap and k > 1:
            A = A + self.overlap / (k * (k - 1)) * square
        if self.sparsity and n > 1:
            C = C - self.sparsity / (2 * k * (math.sqrt(n) - 1)) * square
        prototypes = self._unit_prototypes(n, k, C)
        if prototypes is not None:
            C = C + self.closeness / (2 * k) * square * prototypes
        return A - torch.diag_embed(A.diagonal(dim1=1, dim2=2)), C

    def _unit_prototypes(self, n: int, k: int, like: Tensor) -> Tensor | None:
        """Pᵀ (k, n) with rows of norm 1, in the dtype and on the device of ``like``; None where they do not count."""
        if self.closeness == 0 or self.prototypes is None:
            return None
        if self.prototypes.shape != (n, k):
            raise ValueError(
                f"prototypes: expected (n, k) = ({n}, {k}), one for each column of H;"
                f" got {tuple(self.prototypes.shape)}"
            )
        return with_unit_columns(self.prototypes.to(like.device, torch.float64)).mT.to(like.dtype)

    def _penalty(self, Ht: Tensor, prototypes: Tensor | None) -> Tensor:
        """Of unit rows Ht (*batch, k, n), (*batch,) float64."""
        k, n = Ht.shape[-2:]
        live = (Ht > 0).any(-1)
        cost = torch.zeros(Ht.shape[:-2], dtype=torch.float64, device=Ht.device)
        if self.sparsity and n > 1:
            hoyer = (math.sqrt(n) - Ht.sum(-1, dtype=torch.float64)) / (math.sqrt(n) - 1)
            cost += self.sparsity * (1 - torch.where(live, hoyer, 0.0).mean(-1))
        if self.overlap and k > 1:
            # The products of all pairs are those of the sum with itself, less those of every column with itself.
            pairs = Ht.sum(-2).square().sum(-1, dtype=torch.float64) - live.sum(-1)
            cost += self.overlap * pairs / (k * (k - 1))
        if prototypes is not None:
            cost += self.closeness * (1 - (Ht * prototypes).sum(-1, dtype=torch.float64).mean(-1))
        return cost


def turn_columns_(A: Tensor, C: Tensor, Ht: Tensor) -> None:
    """Bring each row of Ht (B, k, n) in turn to normalise(ReLU(C_i − Σ_j A_ij u_j)), in place.

    A row for which nothing is left stays as it is.

    Arguments:
        A: (B, k, k) with a zero diagonal.
        C: (B, k, n).
        Ht: (B, k, n) ≥ 0, rows of norm 1 or 0.
    """
    zero = negligible(Ht.dtype)
    row = torch.empty_like(Ht[:, :1])
    for i in range(Ht.shape[1]):
        now = Ht[:, i : i + 1]
        torch.baddbmm(C[:, i : i + 1], A[:, i : i + 1], Ht, alpha=-1, out=row)
        torch.threshold_(row, zero, 0.0)
        length = torch.linalg.vector_norm(row, dim=-1, keepdim=True)
        torch.where(length > 0, row.div_(one_where_zero(length)), now, out=row)
        now.copy_(row)


def _normalise_(X: Tensor) -> None:
    """Rows of norm 1, in place; zero ones stay."""
    X.div_(one_where_zero(torch.linalg.vector_norm(X, dim=-1, keepdim=True)))


def _checked_prototypes(value: object) -> Tensor:
    prototypes = check_floating("prototypes", value).detach()
    if prototypes.ndim != 2:
        raise ValueError(f"prototypes: expected (n, k), one for each column of H; got {tuple(prototypes.shape)}")
    if not bool(prototypes.isfinite().all()) or bool((prototypes < 0).any()):
        raise ValueError("prototypes: expected finite entries ≥ 0; got others (clip with .clamp(min=0))")
    return prototypes
