"""A run of HALS on problems so small that the compiled kernel takes them as a whole, with their checks.

Between two checks of one small problem there is less to compute than it takes Python to ask for it. The iterates are
those of the loop in alternating.py.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from diffnmf.factorization.alternating import CHECK_EVERY, FactorState
from diffnmf.factorization.base import Budget, Observer, Run
from diffnmf.factorization.extrapolation import RATES
from diffnmf.factorization.half_step import TRUSTED_SQUARE, negligible
from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.factorization.stationarity import LEAST_START, ROUNDING
from diffnmf.kernels import hals as kernels
from diffnmf.kernels.calling import available
from diffnmf.kernels.hals import CONVERGED, DEAD, DUE, REVIVED, Momentum, Progress, Rules

# Problems of so few multiplications n·m·k an iteration, each on one thread: its data stay in the cache, and no call of
# a library or of a small operation stands between.
SMALL = 2**23
# Of a call, some tenths of a second: Ctrl-C is heard between two of them. In multiplications, roughly.
A_CALL = 2**28
HISTORY = 2**22  # errors of a call

Revival = Callable[[NMFProblem, FactorState], None]


def is_small(problem: NMFProblem, iterate: FactorState) -> bool:
    """Whether the compiled kernel takes these problems."""
    factors = (iterate.W, iterate.Ht, *iterate.memory.values())
    return (
        math.prod(problem.Y.shape[1:]) * problem.k <= SMALL
        and problem.plain
        and not problem.penalized
        and available(problem.dense, *factors)
        and all(x.is_contiguous() for x in factors)
    )


def run_small(
    problem: NMFProblem, iterate: FactorState, budget: Budget, *, sweeps: tuple[int, int], revive: Revival | None
) -> Run:
    """As ``Method.run``, of problems that are small.

    ``sweeps``: passes over W and over H. ``revive``: what brings dead components back to life; None: they stay dead.
    """
    dtype, batch = iterate.W.dtype, len(problem.Y)
    rules = Rules(
        tol=budget.tol,
        most=budget.max_iter,
        every=CHECK_EVERY,
        revives=revive is not None,
        sweeps=sweeps,
        rates=RATES,
        zero=negligible(dtype),
        trusted=TRUSTED_SQUARE[dtype],
        least=LEAST_START,
        rounding=ROUNDING * torch.finfo(dtype).eps,
    )
    counts = torch.zeros(2, batch, dtype=torch.int64, device="cpu")
    known = torch.zeros(2, batch, dtype=torch.float64, device="cpu")
    progress = Progress(counts[0], counts[1].fill_(DUE), known[0], known[1])
    iterations = min(HISTORY, A_CALL * torch.get_num_threads() // _cost(problem))  # of one problem in a call
    size = max(1, iterations // CHECK_EVERY)
    parts = [
        _Part(problem, iterate, progress, slice(start, min(start + size, batch)), rules, revive)
        for start in range(0, batch, size)
    ]
    if budget.observer is None:
        for part in parts:
            part.finish(max(CHECK_EVERY, iterations // part.count))
    else:
        _advance_together(parts, iterate, budget.observer)
    errors = [part.errors() for part in parts]
    longest = max(map(len, errors), default=1)
    errors = [torch.cat((x, x[-1:].expand(longest - len(x), -1))) for x in errors]
    whole = torch.cat(errors, 1) if errors else known.new_zeros(1, 0)
    return Run(iterate.W, iterate.Ht, whole, progress.iterations, progress.states == CONVERGED)


class _Part:
    """Some problems of a run, which go through the same iterations in one call; what they write to are views."""

    def __init__(
        self,
        problem: NMFProblem,
        iterate: FactorState,
        progress: Progress,
        index: slice,
        rules: Rules,
        revive: Revival | None,
    ) -> None:
        self.problem, self.iterate = problem.take(index), iterate.take(index)
        self.rules, self._revive = rules, revive
        self.momentum = Momentum(**self.iterate.memory) if self.iterate.memory else None
        self.progress = Progress(*(x[index] for x in vars(progress).values()))
        self.count = len(self.problem.Y)
        self.done = 0
        self.blocks: list[Tensor] = []  # of errors; each begins where the one before it ends

    @property
    def running(self) -> bool:
        return self.done < self.rules.most and bool((self.progress.states != CONVERGED).any())

    def finish(self, at_once: int) -> None:
        """The whole run, by so many iterations a call."""
        self.advance(min(self.rules.most, at_once))
        while self.running:
            self.advance(min(self.rules.most, self.done + at_once))

    def advance(self, until: int, *, closing: bool = True) -> None:
        """Up to iteration ``until``; if ``closing``, with the check that is due there."""
        errors = torch.empty(until - self.done + 1, self.count, dtype=torch.float64, device="cpu")
        problem, iterate = self.problem, self.iterate
        while True:
            kernels.run_(
                problem.dense,
                problem.square,
                iterate.W,
                iterate.Ht,
                self.momentum,
                self.progress,
                errors,
                until,
                self.rules,
                closing=closing,
            )
            dead = (self.progress.states == DEAD).nonzero().squeeze(-1)
            if len(dead) == 0:
                break
            self.revive(dead)
        self.blocks.append(errors)
        self.done = until

    def revive(self, index: Tensor) -> None:
        """Bring dead components of some problems back to life; the check that found them goes on."""
        assert self._revive is not None
        iterate = self.iterate.take(index)
        self._revive(self.problem.take(index), iterate)
        self.iterate.put(index, iterate)
        self.progress.states[index] = REVIVED

    def stop(self) -> None:
        """Here: with a last check."""
        self.rules = replace(self.rules, most=self.done)
        self.progress.states[self.progress.states != CONVERGED] = DUE
        self.advance(self.done)

    def errors(self) -> Tensor:
        """(iterations + 1, B) of the iterations that have been made."""
        made = int(self.progress.iterations.max())
        return torch.cat([block[:-1] for block in self.blocks[:-1]] + self.blocks[-1:])[: made + 1]


def _advance_together(parts: list[_Part], iterate: FactorState, observer: Observer) -> None:
    """One iteration of all problems after the other, each of which is shown."""
    for part in parts:
        part.advance(0)
    done, stopped = 0, False
    while not stopped and any(part.running for part in parts):
        done += 1
        for part in parts:
            part.advance(done, closing=False)
        stopped = observer(done, iterate.Ht.mT, iterate.W)
        for part in parts:
            if stopped:
                part.stop()
            else:
                part.advance(done)


def _cost(problem: NMFProblem) -> int:
    """Of an iteration of one problem: its products with Y, its Gram matrices and sweeps."""
    _, n, m = problem.Y.shape
    return problem.k * (n * m + problem.k * (n + m))
