"""What mini-batch NMF carries from batch to batch, and one step of it."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_flag, check_name, check_number, check_optional_count
from diffnmf.factorization.alphas import Alphas
from diffnmf.factorization.divergence import check_beta
from diffnmf.factorization.mini_batch_known import KnownEntriesRule
from diffnmf.factorization.mini_batch_rules import DivergenceRule, Memory, Rule, SquaredErrorRule, Target, Visit
from diffnmf.factorization.nmf_problem import Penalties, largest_penalty
from diffnmf.factorization.sample_arrays import MISSING, Samples, loss_of_unstored
from diffnmf.factorization.sparse_matrix import stored_entries
from diffnmf.solvers.devices import precise_products, precisely


@dataclass(frozen=True)
class BatchOptions:
    """The parameters of ``MiniBatchNMF``, checked."""

    beta: float
    batch_size: int
    tol: float
    max_no_improvement: int | None
    max_iter: int
    alphas: Alphas
    forget_factor: float
    fresh_restarts: bool
    fresh_restarts_max_iter: int
    transform_max_iter: int | None
    verbose: bool
    missing: str

    @staticmethod
    def of(model: Any) -> "BatchOptions":
        """Those of an estimator.

        Raises:
            TypeError, ValueError: one of them is not what is expected; the message names it.
        """
        stop, last = model.max_no_improvement, model.transform_max_iter
        beta, missing = check_beta("beta_loss", model.beta_loss), check_name("missing", model.missing, MISSING)
        if missing == "unstored" and beta != 2:
            raise loss_of_unstored(model)
        return BatchOptions(
            beta=beta,
            batch_size=check_count("batch_size", model.batch_size, at_least=1),
            tol=check_number("tol", model.tol),
            max_no_improvement=check_optional_count("max_no_improvement", stop, at_least=1),
            max_iter=check_count("max_iter", model.max_iter, at_least=1),
            alphas=Alphas.of(model),
            forget_factor=check_number("forget_factor", model.forget_factor, "[0, 1]"),
            fresh_restarts=check_flag("fresh_restarts", model.fresh_restarts),
            fresh_restarts_max_iter=check_count("fresh_restarts_max_iter", model.fresh_restarts_max_iter, at_least=1),
            transform_max_iter=check_optional_count("transform_max_iter", last, at_least=1),
            verbose=bool(model.verbose),
            missing=missing,
        )

    def rule(self, like: Tensor, features: int, root: float = 1.0) -> Rule:
        """How a batch is worked on where Y counts in units of root², in the dtype and on the device of ``like``."""
        units = _power(root, 1 - 2 * self.beta), _power(root, 2 - 2 * self.beta)
        largest = largest_penalty(like.dtype)
        (l1_W, l1_H), (ridge_W, ridge_H) = (
            [min(x * unit, largest) if x else 0.0 for x in both]
            for unit, *both in zip(units, self.alphas.of_W(features), self.alphas.of_H(1), strict=True)
        )
        of_W = Penalties.of(l1_W, ridge_W, like)
        if self.beta == 2:
            kind = SquaredErrorRule if self.missing == "error" else KnownEntriesRule
            return kind(of_W, l1_H, ridge_H)
        return DivergenceRule(of_W, l1_H, ridge_H, self.beta)


@dataclass
class Learner:
    """The components, and what is remembered of the batches. It is kept by ``MiniBatchNMF``, and pickled with it.

    Attributes:
        Ht: (1, k, n), Hᵀ in the scaled units.
        memory: the sums.
        root: a power of two; Y counts in units of its square, in which it is about 1, both factors in units of it.
        beta: of the loss that the sums are of.
        missing: one of ``MISSING``, for which they are.
        blank: whether H is zero because what it was to start from was: nothing could ever be learnt.
    """

    Ht: Tensor
    memory: Memory
    root: float
    beta: float
    missing: str
    blank: bool

    @staticmethod
    def start(Ht: Tensor, Y: Tensor, options: BatchOptions) -> "Learner":
        """From Hᵀ (k, n), for data like Y (n, b), which says what the units are."""
        root = root_of(Y)
        Ht = (Ht / root).unsqueeze(0).contiguous()
        blank = not bool((stored_entries(Y) > 0).any()) and not bool(Ht.any())
        memory = options.rule(Ht, Ht.shape[2]).remember(Ht)
        return Learner(Ht, memory, root, options.beta, options.missing, blank)

    @property
    def components(self) -> Tensor:
        """Hᵀ (k, n) in the units of the data."""
        return self.Ht[0] * self.root

    @property
    def cost_unit(self) -> float:
        """What a cost in the scaled units is multiplied by; 0 or infinite where costs of the data are no numbers."""
        return _power(self.root, 2 * self.beta)

    @torch.no_grad()
    def step(
        self, samples: Samples, options: BatchOptions, rho: float, last: Visit | None = None, *, solve: bool = True
    ) -> tuple[Tensor, float]:
        """Learn from a batch.

        Arguments:
            samples: the batch.
            options: what they are now.
            rho: what remains of the batches before.
            last: when it was seen before, in the scaled units.
            solve: solve for its weights from even ones, rather than improve those of last time a little.

        Returns:
            Its weights (1, k, b) and what a sample of it cost, with H as it was, both in the scaled units.
        """
        target = Target.of(samples, self.root)
        rule = options.rule(self.Ht, self.Ht.shape[2], self.root)
        with precise_products(samples.Y.device):
            half = rule.half_step(target, self.Ht)
            if solve:
                W = rule.solve_weights(half, options.fresh_restarts_max_iter, options.tol)
            else:
                W = rule.even_weights(half) if last is None else last.W.clone()
                rule.improve_weights(half, W, rule.sweeps(half))
            cost = rule.cost(half, target, W, self.Ht)
            # Ctrl-C in the middle leaves the sums without the batch, never with half of it.
            memory, Ht = self.memory.copy(), self.Ht.clone()
            rule.improve_components(memory, rho, target, W, last, Ht)
            vars(self).update(memory=memory, Ht=Ht)  # both at once
        return W, cost


@torch.no_grad()
@precisely
def weights_after(iterations: int, Ht: Tensor, samples: Samples, options: BatchOptions) -> Tensor:
    """Those of a batch for components Hᵀ (k, n), (k, b), after so many iterations from even ones."""
    root = root_of(samples.Y)
    Ht = (Ht / root).unsqueeze(0).contiguous()
    rule = options.rule(Ht, Ht.shape[2], root)
    return rule.solve_weights(rule.half_step(Target.of(samples, root), Ht), iterations, options.tol)[0] * root


def root_of(Y: Tensor) -> float:
    """The power of two that is about the root of the largest entry of Y (n, b)."""
    values = stored_entries(Y)
    largest = float(values.nan_to_num(0.0).amax()) if values.numel() else 0.0
    return 2.0 ** (math.frexp(largest)[1] // 2 if largest > 0 else 0)


def _power(root: float, exponent: float) -> float:
    """root^exponent; infinite where that is too large, where Python would raise."""
    return float(torch.tensor(root, dtype=torch.float64, device="cpu") ** exponent)
