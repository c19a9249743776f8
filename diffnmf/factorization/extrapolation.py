"""Extrapolation of alternating updates: a factor goes a little further in the direction of its last step.

Ang and Gillis (2019), Accelerating nonnegative matrix factorization algorithms using extrapolation, Neural Computation
31(2): the length β of every problem grows while its objective falls and shrinks when it rises. Unlike there, the
extrapolated point is made non-negative and is itself the iterate, and a rise is not undone: the next step merely goes
without extrapolation. So an iteration costs the same whatever happens, and no device has to be asked.
"""

import torch
from torch import Tensor

from diffnmf.factorization.half_step import negligible

# Chosen on MNIST groups. Longer steps at once go down faster, to worse minima.
FIRST_STEP = 0.3  # β of the first iteration
RATES = GROWTH, CAP_GROWTH, SHRINKAGE = 1.05, 1.01, 1.5


def remember(W: Tensor, Ht: Tensor) -> dict[str, Tensor]:
    """What extrapolation remembers of B problems.

    Returns:
        "W" (B, k, m) and "H" (B, k, n): where the last steps ended, before they were extended; "beta", "cap" (what β
        may grow to) and "used" (β, or 0 after a rise), each (B, 1, 1); "objective" (B,), the last one.
    """
    zero = W.new_zeros(len(W), 1, 1)
    objective = torch.full((len(W),), torch.inf, dtype=torch.float64, device=W.device)
    return {
        "W": W.clone(),
        "H": Ht.clone(),
        "beta": zero + FIRST_STEP,
        "cap": zero + 1,
        "used": zero,
        "objective": objective,
    }


def adapt_(memory: dict[str, Tensor], objective: Tensor) -> None:
    """Choose β anew in the light of what the last iteration has brought, (B,)."""
    rose = (objective > memory["objective"])[:, None, None]
    beta, cap = memory["beta"], memory["cap"]
    grown = torch.minimum(GROWTH * beta, cap)
    capped = torch.where(rose, beta, (CAP_GROWTH * cap).clamp(max=1.0))
    memory["used"].copy_(torch.where(rose, 0.0, grown))
    beta.copy_(torch.where(rose, beta / SHRINKAGE, grown))
    cap.copy_(capped)
    memory["objective"].copy_(objective)


def extrapolate_(X: Tensor, last: Tensor, beta: Tensor) -> None:
    """X ← max(0, X + β (X − last)) and last ← X, in place: X and last (B, k, N), beta (B, 1, 1)."""
    step = X - last
    last.copy_(X)
    torch.threshold_(X.addcmul_(beta, step), negligible(X.dtype), 0.0)


def forget_(memory: dict[str, Tensor], W: Tensor, Ht: Tensor, components: Tensor) -> None:
    """Give components (B, k), which have a new start at W and Ht, no past."""
    for factor, X in (("W", W), ("H", Ht)):
        memory[factor].copy_(torch.where(components.unsqueeze(-1), X, memory[factor]))
