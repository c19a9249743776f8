"""Method "mu": multiplicative updates, for the squared error and every other beta-divergence."""

from dataclasses import dataclass

from torch import Tensor

from diffnmf.checks import check_flag, set_fields
from diffnmf.factorization.alternating import AlternatingMethod
from diffnmf.factorization.divergence import DivergenceHalfStep, check_beta
from diffnmf.factorization.half_step import Half, HalfStep
from diffnmf.factorization.multiplicative_step import multiplicative_step_, safe_exponent
from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.factorization.stationarity import Stationarity, stationarity_of

# Exponent of the extrapolated updates: up to 2 the updates still converge, but with 1.7 they diverge on a spectrogram.
OVERRELAXATION = 1.3


@dataclass(frozen=True)
class MU(AlternatingMethod):
    """X ← X · (C / (AX + l1 + ridge X)), entry by entry: the classic, whose error never increases.

    Choose it for another loss than the squared error, or to compare with what others publish: its steps are cheap, but
    the slowest to arrive. An entry that is zero stays zero, so begin from a start without zeros (not "nndsvd" nor
    "spa"). From equal starts its iterates are those of scikit-learn's ``NMF(solver="mu")``.

    With another β than 2, numerator and denominator are F(T P^(β−2)) and F(P^(β−1)), P = FᵀX, and their ratio has the
    exponent 1/(2 − β) below β = 1 and 1/(β − 1) above β = 2, with which the divergence never increases.

    Options:
        beta_loss: "frobenius" (β = 2), "kullback-leibler" (1, for counts), "itakura-saito" (0, for power spectra), or
            any β. Other losses than "frobenius" are reported as √(2 Σ d_β), at every check; they have converged
            when ‖X ∘ gradient‖, which is zero at fixed points, has become small. At β ≤ 0 every entry of Y has to be
            positive.
        extrapolate: update from a point a little further in the direction in which X grew last, and go a third
            further: at β in [1, 2], where the divergence is convex in each factor, this takes half of the iterations or
            fewer, though the error may rise in between.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Sources: Lee and Seung (2001), Algorithms for non-negative matrix factorization; Févotte and Idier (2011), see
    ``divergence.py``; Hien, Leplat and Gillis (2024), Block majorization minimization with extrapolation and
    application to β-NMF, for ``extrapolate``.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import MU, factorize
        >>> counts = torch.poisson(5 * torch.rand(30, 20))
        >>> errors = factorize(counts, 3, method=MU("kullback-leibler"), max_iter=30, tol=0.0).errors
        >>> bool(errors[-1] < errors[0])
        True
    """

    beta_loss: float | str = "frobenius"
    extrapolate: bool = False

    def __post_init__(self) -> None:
        check_beta("beta_loss", self.beta_loss)
        set_fields(self, extrapolate=check_flag("extrapolate", self.extrapolate))
        if self.extrapolate and not 1 <= self.beta <= 2:
            raise ValueError(
                f"extrapolate: expected False but for beta_loss in [1, 2]; got {self.beta_loss} (leave it out)"
            )

    @property
    def keeps_zeros(self) -> bool:
        return True

    @property
    def takes(self) -> frozenset[str]:
        every = frozenset({"weights", "sparse", "fixed", "parts"})
        return every | {"observed"} if self.beta == 2 else every

    @property
    def beta(self) -> float:
        return check_beta("beta_loss", self.beta_loss)

    def half_step(self, problem: NMFProblem, factor: str, other: Tensor) -> HalfStep | DivergenceHalfStep:
        if self.beta == 2:
            return super().half_step(problem, factor, other)
        target, weights = problem.target(factor), problem.entry_weights(factor)
        return DivergenceHalfStep(other, target, problem.penalties(factor), self.beta, weights)

    def begin(self, problem: NMFProblem, W: Tensor, Ht: Tensor) -> dict[str, Tensor]:
        if not self.extrapolate:
            return {}
        return {"W": W.clone(), "H": Ht.clone(), "t": W.new_ones(len(W), 1, 1)}

    def update(self, half: Half, X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
        if self.extrapolate:
            _extrapolate_(X, memory, factor)
        multiplicative_step_(half, X, OVERRELAXATION if self.extrapolate else safe_exponent(self.beta))

    def update_beside(self, fixed: int, half: Half, Ht: Tensor, memory: dict[str, Tensor]) -> None:
        held = Ht[:, :fixed].clone()
        self.update(half, Ht, memory, "H")
        Ht[:, :fixed] = held

    def stationarity(self, problem: NMFProblem, half_W: Half, W: Tensor, half_H: Half, Ht: Tensor) -> Stationarity:
        if self.beta == 2:
            return super().stationarity(problem, half_W, W, half_H, Ht)
        slopes, at_zero = half_H.slopes(Ht)
        return stationarity_of([half_W.slopes(W), (slopes[:, problem.fixed :], at_zero[:, problem.fixed :])])


def _extrapolate_(X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
    """X ← X + β max(0, X − last), with Nesterov's β; the step of H is that of the W before it."""
    t = memory["t"]
    grown = 0.5 * (1 + (1 + 4 * t * t).sqrt())
    past = memory[factor]
    now = X.clone()
    X.addcmul_((t - 1) / grown, (X - past).clamp_(min=0))
    past.copy_(now)
    if factor == "H":
        t.copy_(grown)
