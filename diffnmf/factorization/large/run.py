"""The iterations of a large matrix: a pass over its rows, in which S is updated, then D from the sums over them."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffnmf.factorization.alternating import CHECK_EVERY, AlternatingMethod
from diffnmf.factorization.base import Budget, Run
from diffnmf.factorization.half_step import TRUSTED_SQUARE, Half, Quadratic
from diffnmf.factorization.large.checkpoint import Checkpoints
from diffnmf.factorization.large.part import Part
from diffnmf.factorization.large.revival import revive_
from diffnmf.factorization.large.summed_pulls import SummedPulls
from diffnmf.factorization.nmf_problem import Penalties, relative
from diffnmf.factorization.stationarity import Stationarity, square_of, stationarity_of_squares


@dataclass
class State:
    """What an iteration begins from, and what a checkpoint holds.

    Attributes:
        S: (1, k, count), of this process.
        D: (1, k, F).
        memory: of the method, by name: "W" and "H" like the factors, the rest alike in all processes.
        products: SSᵀ (1, k, k) and SX (1, k, F) in float64 at this S.
        errors: of the start and of every iteration.
        start_norm: of the projected gradient, which ``tol`` is relative to.
        converged: whether it has become small enough.
        saved: the iteration of the last checkpoint; None before the first.
    """

    S: Tensor
    D: Tensor
    memory: dict[str, Tensor]
    products: tuple[Tensor, Tensor] | None = None
    errors: list[float] = field(default_factory=list)
    start_norm: float = 0.0
    converged: bool = False
    saved: int | None = None

    @property
    def iteration(self) -> int:
        return len(self.errors) - 1


class LargeRun:
    """One run of an alternating method over a part."""

    def __init__(
        self,
        part: Part,
        method: AlternatingMethod,
        budget: Budget,
        checkpoints: Checkpoints | None = None,
        progress: bool = False,
    ) -> None:
        self.part, self.method, self.budget, self.checkpoints = part, method, budget, checkpoints
        self.bar = _bar(part, budget) if progress and part.processes.rank == 0 else None
        self.last_saved = time.monotonic()
        self.ended = False  # by the observer

    def run(self, S: Tensor, D: Tensor) -> Run:
        """From a start S (1, k, count) and D (1, k, F), which are written to; or from the last checkpoint."""
        W, Ht = self.part.factors(S, D)
        state = State(S, D, self.method.begin(self.part.problem, W, Ht))
        if self.checkpoints is None or not self.checkpoints.load(state, self.part):
            self.begin(state)
        if self.bar is not None:
            self.bar.update(state.iteration * self.part.rows.count)
        while state.iteration < self.budget.max_iter and not state.converged and not self.ended:
            self.step(state)
        if self.bar is not None:
            self.bar.close()
        if self.checkpoints is not None and state.saved != state.iteration:
            self.checkpoints.save(state, self.part)
        W, Ht = self.part.factors(state.S, state.D)
        device = W.device
        return Run(
            W,
            Ht,
            torch.tensor(state.errors, dtype=torch.float64, device=device).unsqueeze(1),
            torch.tensor([state.iteration], device=device),
            torch.tensor([state.converged], device=device),
        )

    def begin(self, state: State) -> None:
        """The error of the start, and how far it is from a stationary point."""
        now = self.measure(state)
        state.errors.append(self.error(state))
        if now is not None:
            self.judge(state, now)
        if self.part.problem.tall:  # in memory, too, such a method is told of its start
            self.tell(state)

    def step(self, state: State) -> None:
        """One iteration: W, then H."""
        iteration = state.iteration + 1
        save = torch.tensor([float(self.wants_to_save())], dtype=torch.float64, device=state.D.device)
        if self.part.split == "W":
            saves = self.update_rows(state, save)
            self.update_shared(state)
        else:
            self.update_shared(state)
            saves = self.update_rows(state, save)
        last = iteration == self.budget.max_iter
        checked = iteration % CHECK_EVERY == 0 or last
        state.errors.append(state.errors[-1])
        if self.budget.observer is not None:
            W, Ht = self.part.factors(state.S, state.D)
            end = torch.tensor([float(self.budget.observer(iteration, Ht.mT, W))], device=state.D.device)
            self.ended = bool(self.part.processes.largest(end) > 0)
        if self.knows_error or last or self.ended or (checked and self.budget.tol > 0):
            state.errors[-1] = self.error(state)
        if self.knows_error:
            self.tell(state)
        if self.bar is not None:
            self.bar.set_description(f"iteration {iteration}, error {state.errors[-1]:.5g}")
        if checked and not (last or self.ended):
            self.revive(state)
        if (checked or self.ended) and self.budget.tol > 0:
            now = self.measure(state)
            assert now is not None
            self.judge(state, now)
        if saves and self.checkpoints is not None:
            self.checkpoints.save(state, self.part)
            self.last_saved = time.monotonic()

    @property
    def knows_error(self) -> bool:
        return self.method.beta == 2

    def update_rows(self, state: State, save: Tensor) -> bool:
        """S, block by block, and the sums over it; returns whether some process wants a checkpoint."""
        part, method = self.part, self.method
        memory = dict(state.memory)

        def change(rows: slice, X: Tensor, own: Tensor) -> None:
            half: Any = part.half_step_of_rows(method, X, state.D)
            # What is alike for all columns is begun anew with every block, and ends as the last one leaves it.
            remembered = {name: x.clone() for name, x in state.memory.items() if name not in ("W", "H")}
            if part.split in state.memory:
                remembered[part.split] = state.memory[part.split][..., rows].contiguous()
            method.update(half, own, remembered, part.split)
            self.advance(rows)
            for name, x in remembered.items():
                if name == part.split:
                    state.memory[name][..., rows] = x
                else:
                    memory[name] = x

        A, C, saves = part.products(state.S, change, save)
        for name in memory:
            if name not in ("W", "H"):
                state.memory[name] = memory[name]
        state.products = (A, C)
        return bool(saves > 0)

    def update_shared(self, state: State) -> None:
        """D, alike in every process."""
        self.method.update(self.shared_half_step(state), state.D, state.memory, self.part.shared)

    def shared_half_step(self, state: State) -> Quadratic | SummedPulls:
        """What is reduced over D."""
        part = self.part
        penalties = part.problem.penalties(part.shared)
        if self.method.beta != 2:
            return SummedPulls(part, state.S, penalties, self.method.beta)
        assert state.products is not None
        A, C = (x.to(state.D.dtype) for x in state.products)
        return Quadratic(A, C, penalties, part.total)

    def error(self, state: State) -> float:
        """Relative, or √(2 Σ d_β) for another loss; in the scaled units."""
        part, square = self.part, self.part.problem.square
        if self.method.beta != 2:
            return float(SummedPulls(part, state.S, Penalties(), self.method.beta).error(state.D))
        half = self.shared_half_step(state)
        assert isinstance(half, Quadratic)
        error = half.error_square(square, state.D)
        if bool(error <= TRUSTED_SQUARE[state.D.dtype] * square):
            error = part.residual_square(state.S, state.D)
        return float(relative(square, error))

    def tell(self, state: State) -> None:
        """Let the method know the objective."""
        error = torch.tensor([state.errors[-1]], dtype=torch.float64, device=state.D.device)
        self.method.observe(self.part.objective(error, state.S, state.D), state.memory)

    def measure(self, state: State) -> Stationarity | None:
        """How far from a stationary point, if that is asked for; forms the products of a start."""
        part, method = self.part, self.method
        if self.budget.tol == 0:
            if state.products is None:
                self.form_products(state)
            return None
        squares = torch.zeros(2, dtype=torch.float64, device=state.D.device)

        def look(rows: slice, X: Tensor, own: Tensor) -> None:
            squares.add_(_squares(part.half_step_of_rows(method, X, state.D), own))

        A, C, over_rows = part.products(state.S, look, squares)
        state.products = (A, C)
        shared = _squares(self.shared_half_step(state), state.D)
        norm, size = (over_rows + shared).unbind()
        return stationarity_of_squares(norm, size, state.D.dtype)

    def form_products(self, state: State) -> None:
        A, C = self.part.products(state.S)
        state.products = (A, C)

    def judge(self, state: State, now: Stationarity) -> None:
        if state.iteration == 0:
            state.start_norm = float(now.of_start)
        elif state.iteration <= CHECK_EVERY:
            state.start_norm = float(now.at_most_size(now.size.new_tensor(state.start_norm)))
        wanted = torch.tensor(self.budget.tol * state.start_norm, dtype=torch.float64, device=now.norm.device)
        state.converged = bool(now.reaches(wanted))

    def revive(self, state: State) -> None:
        if self.method.revives and not self.part.problem.penalized:
            revived = revive_(self.part, state.S, state.D)
            if bool(revived.any()):
                W, Ht = self.part.factors(state.S, state.D)
                self.method.forget(state.memory, W, Ht, revived)
                if self.budget.tol == 0:  # otherwise they are formed with the check
                    self.form_products(state)

    def advance(self, rows: slice) -> None:
        if self.bar is not None:
            self.bar.update(rows.stop - rows.start)

    def wants_to_save(self) -> bool:
        """Only the first process looks at its clock; the others learn it with the sums."""
        if self.checkpoints is None or self.part.processes.rank != 0:
            return False
        return time.monotonic() - self.last_saved >= self.checkpoints.every


def _bar(part: Part, budget: Budget) -> Any:
    from tqdm import tqdm

    return tqdm(total=part.rows.count * budget.max_iter, unit="row", unit_scale=True, leave=False, disable=None)


def _squares(half: Half, X: Tensor) -> Tensor:
    """Of the ``slopes`` at X (1, k, N): (2,) float64."""
    return torch.cat([square_of(x) for x in half.slopes(X)])
