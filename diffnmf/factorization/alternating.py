"""The loop that every alternating method shares: W, then H, for the problems that have not converged.

Problems are independent, and a few iterations of some of them fit in a cache: so the loop takes the problems in chunks
and several iterations of a chunk in a row, up to the next check.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffnmf.factorization.base import Budget, Method, Run
from diffnmf.factorization.half_step import half_step
from diffnmf.factorization.nmf_problem import Index, NMFProblem
from diffnmf.factorization.observed_half_step import ObservedHalfStep
from diffnmf.factorization.sparse_matrix import ObservedMatrix
from diffnmf.factorization.stationarity import Stationarity, stationarity
from diffnmf.factorization.weighted_half_step import WeightedHalfStep
from diffnmf.factorization.workers import for_each
from diffnmf.solvers.devices import looking_is_free

CHECK_EVERY = 10  # iterations; a check costs about half an iteration
CHUNK_BYTES = 2**24  # of Y and the factors, on the CPU: what a last-level cache holds


@dataclass(frozen=True)
class FactorState:
    """The factors of B problems and what a method remembers of each, updated in place.

    Attributes:
        W: (B, k, m).
        Ht: (B, k, n).
        memory: tensors (B, ...) by name.
    """

    W: Tensor
    Ht: Tensor
    memory: dict[str, Tensor]

    def take(self, index: Index) -> "FactorState":
        """Some problems: a view for a slice, otherwise a copy."""
        return FactorState(self.W[index], self.Ht[index], {name: x[index] for name, x in self.memory.items()})

    def put(self, index: Index, part: "FactorState") -> None:
        """Write a copy back."""
        if isinstance(index, Tensor):
            self.W[index], self.Ht[index] = part.W, part.Ht
            for name, x in self.memory.items():
                x[index] = part.memory[name]


class AlternatingMethod(Method):
    """A method that updates W with H held, then H with W held."""

    @abstractmethod
    def update(self, half: Any, X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
        """Reduce the objective over one factor, in place.

        Arguments:
            half: B half-steps, as ``half_step`` makes them.
            X: (B, k, N), the factor.
            memory: what ``begin`` returned, for the same problems; updated in place.
            factor: "W" or "H".
        """

    def half_step(self, problem: NMFProblem, factor: str, other: Tensor) -> Any:
        """What is reduced over one factor while the ``other`` one is held, Hᵀ (B, k, n) or W (B, k, m)."""
        target, penalties = problem.target(factor), problem.penalties(factor)
        weights = problem.entry_weights(factor)
        if isinstance(target, ObservedMatrix):
            return ObservedHalfStep(other, target, penalties)
        if weights is None:
            return half_step(other, target, penalties)
        assert isinstance(target, Tensor)
        return WeightedHalfStep(other, target, weights, penalties)

    def update_beside(self, fixed: int, half: Any, Ht: Tensor, memory: dict[str, Tensor]) -> None:
        """Reduce the objective over all columns of H but the first ``fixed`` ones, in place."""
        if fixed == Ht.shape[1]:
            return
        some = Ht[:, fixed:].clone()
        part = {**memory, "H": memory["H"][:, fixed:].clone()} if "H" in memory else memory
        self.update(half.without_fixed(fixed, Ht), some, part, "H")
        Ht[:, fixed:] = some
        if "H" in memory:
            memory["H"][:, fixed:] = part["H"]

    def begin(self, problem: NMFProblem, W: Tensor, Ht: Tensor) -> dict[str, Tensor]:
        """What is remembered of each problem from one iteration to the next, (B, ...) each; may change the start."""
        return {}

    def observe(self, objective: Tensor, memory: dict[str, Tensor]) -> None:
        """Told the objective, (B,) float64, of every iterate."""

    def run_small(self, problem: NMFProblem, iterate: FactorState, budget: Budget) -> Run | None:
        """The whole run, where the method has a way for small problems that takes less time; None: nothing is done."""
        return None

    @property
    def revives(self) -> bool:
        """Whether dead components are brought back to life."""
        return False

    def revive_dead(self, problem: NMFProblem, iterate: FactorState) -> None:
        """Bring dead components back to life, in place, without raising the error; called now and then."""

    def forget(self, memory: dict[str, Tensor], W: Tensor, Ht: Tensor, components: Tensor) -> None:
        """Told which components (B, k) have been revived: what is remembered of them is of no use any more."""

    def stationarity(self, problem: NMFProblem, half_W: Any, W: Tensor, half_H: Any, Ht: Tensor) -> Stationarity:
        """How far an iterate is from a stationary point; both half-steps are formed there."""
        if problem.fixed:
            return stationarity(half_W, W, half_H.without_fixed(problem.fixed, Ht), Ht[:, problem.fixed :])
        return stationarity(half_W, W, half_H, Ht)

    def run(self, problem: NMFProblem, W: Tensor, Ht: Tensor, budget: Budget) -> Run:
        iterate = FactorState(W, Ht, self.begin(problem, W, Ht))
        return self.run_small(problem, iterate, budget) or _Alternation(self, problem, iterate, budget).run()


class _Alternation:
    """One run: the iterate of all problems, the working set, the history."""

    def __init__(self, method: AlternatingMethod, problem: NMFProblem, iterate: FactorState, budget: Budget) -> None:
        batch, device = len(problem.Y), problem.Y.device
        self.method, self.problem, self.iterate, self.budget = method, problem, iterate, budget
        self.errors: list[Tensor] = []  # (B,) each
        self.active = torch.arange(batch, device=device)
        self.iterations = torch.zeros(batch, dtype=torch.int64, device=device)
        self.converged = torch.zeros(batch, dtype=torch.bool, device=device)
        self.start_norm = torch.zeros(batch, dtype=torch.float64, device=device)
        self.on_cpu, self.may_look = device.type == "cpu", looking_is_free(device)

    def run(self) -> Run:
        done, last = 0, self.budget.max_iter
        self.check(done)
        while done < last and len(self.active):
            until = done + 1 if self.budget.observer else min(last, done + CHECK_EVERY - done % CHECK_EVERY)
            self.extend_history(until)
            for_each(partial(self.steps, range(done + 1, until + 1)), self.chunks(), parallel=self.on_cpu)
            done = until
            self.iterations[self.active] = done
            stopped = self.budget.observer is not None and self.budget.observer(
                done, self.iterate.Ht.mT, self.iterate.W
            )
            if stopped:
                last = done
            if done % CHECK_EVERY == 0 or done == last:
                self.check(done, final=done == last)
        errors = torch.stack(self.errors)
        return Run(self.iterate.W, self.iterate.Ht, errors, self.iterations, self.converged)

    def steps(self, iterations: range, index: Index) -> None:
        """Some iterations of some problems."""
        problem, iterate = self.problem.take(index), self.iterate.take(index)
        for iteration in iterations:
            self.step(iteration, index, problem, iterate)
        self.iterate.put(index, iterate)

    def step(self, iteration: int, index: Index, problem: NMFProblem, iterate: FactorState) -> None:
        """One iteration of some problems. The error comes from the half-step in which X is the smaller factor."""
        W, Ht, memory, square = iterate.W, iterate.Ht, iterate.memory, problem.square
        half = self.method.half_step(problem, "W", Ht)
        if problem.tall and half.knows_error:
            self.record(iteration - 1, index, half.error(square, W, may_look=self.may_look), problem, iterate)
        self.method.update(half, W, memory, "W")
        half = self.method.half_step(problem, "H", W)
        if problem.fixed:
            self.method.update_beside(problem.fixed, half, Ht, memory)
        else:
            self.method.update(half, Ht, memory, "H")
        if not problem.tall and half.knows_error:
            self.record(iteration, index, half.error(square, Ht, may_look=self.may_look), problem, iterate)

    def record(self, iteration: int, index: Index, error: Tensor, problem: NMFProblem, iterate: FactorState) -> None:
        self.errors[iteration][index] = error
        self.method.observe(problem.objective(error, iterate.W, iterate.Ht), iterate.memory)

    def extend_history(self, iteration: int) -> None:
        """Make room for the errors up to that iteration; a problem that takes no part any more repeats its last."""
        while len(self.errors) <= iteration:
            self.errors.append(self.errors[-1].clone() if self.errors else torch.zeros_like(self.problem.square))

    def check(self, iteration: int, final: bool = False) -> None:
        """Revive components; take the problems that have converged out of the working set."""
        self.extend_history(iteration)
        finished = torch.zeros_like(self.converged)
        for_each(partial(self.examine, iteration, final, finished), self.chunks(), parallel=self.on_cpu)
        if self.budget.tol > 0:
            self.converged |= finished
            self.active = self.active[~finished[self.active]]

    def examine(self, iteration: int, final: bool, finished: Tensor, index: Index) -> None:
        """What a check does to some problems: those that have converged are marked in ``finished`` (B,)."""
        problem, iterate = self.problem.take(index), self.iterate.take(index)
        if iteration and not final:
            self.method.revive_dead(problem, iterate)
            self.iterate.put(index, iterate)
        if self.budget.tol == 0 and iteration and not final:
            return  # the steps record the error
        error, now = self.measure(problem, iterate)
        self.errors[iteration][index] = error
        if now is not None:
            if iteration == 0:
                self.start_norm[index] = now.of_start
            elif iteration <= CHECK_EVERY:
                self.start_norm[index] = now.at_most_size(self.start_norm[index])
            finished[index] = now.reaches(self.budget.tol * self.start_norm[index])

    def measure(self, problem: NMFProblem, iterate: FactorState) -> tuple[Tensor, Stationarity | None]:
        """The relative errors (B,), and, where that is asked for, how far the iterates are from a stationary point."""
        half_W = self.method.half_step(problem, "W", iterate.Ht)
        error = half_W.error(problem.square, iterate.W, may_look=self.may_look)
        if self.budget.tol == 0:
            return error, None
        half_H = self.method.half_step(problem, "H", iterate.W)
        return error, self.method.stationarity(problem, half_W, iterate.W, half_H, iterate.Ht)

    def chunks(self) -> list[Index]:
        """The working set in pieces whose iterations stay in the cache; everything at once on other devices."""
        batch, n, m = self.problem.Y.shape
        size = batch
        if self.on_cpu:
            bytes_each = self.problem.Y.element_size() * (n * m + 3 * self.problem.k * (n + m))
            size = max(1, CHUNK_BYTES // bytes_each)
        if len(self.active) == batch:
            return [slice(start, min(start + size, batch)) for start in range(0, batch, max(size, 1))]
        return list(self.active.split(max(size, 1)))
