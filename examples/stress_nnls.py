"""Random hard problems for every exact solver, against scipy.optimize.nnls.

    python examples/stress_nnls.py                             # 10,000 problems, a table per kind and solver
    python examples/stress_nnls.py --problems 900 --seed 1 --solvers bpp

A problem is one matrix H and one vector y. Residual norms are taken in extended precision and in units of ‖y‖. scipy
may fail or stop at a wrong point: the better of its answer and of W = 0 is what a solver is measured by.

It is a violation, and the exit status is 1, where an answer is not finite or not feasible or worse than W = 0, where
one that says `converged` has a residual norm above scipy's by more than 1e-9, and where more than 0.5 % of the problems
have not converged.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from scipy.optimize import nnls as scipy_nnls

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning

SOLVERS = ("unrolled", "bpp", "hals")
ALLOWED_EXCESS = 1e-9
ALLOWED_UNCONVERGED = 0.005
SHAPES = 24  # a kind: the problems of one shape are solved as one batch


@dataclass(frozen=True)
class Batch:
    """H (P, n, k) and y (P, n): P problems of one kind."""

    H: np.ndarray
    y: np.ndarray


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solvers", nargs="+", default=SOLVERS, choices=SOLVERS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    options = parser.parse_args()
    if options.problems < 1:
        parser.error(f"argument --problems: expected at least 1; got {options.problems}")
    print(f"{options.problems} problems, seed {options.seed}, torch {torch.__version__}, scipy {scipy.__version__}\n")
    rows = stress(options.problems, options.seed, options.solvers, options.kinds)
    print("| kind | solver | problems | not converged | bad | worst excess | where converged | false | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(row.line(), flush=True)
    found = violations(rows)
    print("\n" + "\n".join(found or ["no violation"]))
    return 1 if found else 0


@dataclass
class Row:
    """What one solver did with the problems of one kind."""

    kind: str
    solver: str
    problems: int = 0
    unconverged: int = 0
    bad: int = 0  # not finite, not feasible, or worse than W = 0
    worst: float = -np.inf  # excess of the residual norm over scipy's, in units of ‖y‖
    worst_converged: float = -np.inf
    false: int = 0  # `converged`, and above scipy by more than is allowed
    seconds: float = 0.0

    def add(self, batch: Batch, theirs: np.ndarray) -> None:
        """Solve the problems of a batch, and count."""
        H, Y = torch.from_numpy(batch.H), torch.from_numpy(batch.y).unsqueeze(-1)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            solution = nnls(H, Y, solver=self.solver)
        self.seconds += time.perf_counter() - start
        W, converged = solution.W.squeeze(-1).numpy(), solution.converged.numpy()
        ours = residual_norms(batch, W)
        excess = ours - theirs
        # An answer that is W = 0 in disguise may be above ‖y‖ by the rounding of the norm.
        bad = ~np.isfinite(W).all(1) | (W < 0).any(1) | ~(ours <= 1 + 1e-12)
        self.problems += len(W)
        self.unconverged += int((~converged).sum())
        self.bad += int(bad.sum())
        self.worst = max(self.worst, excess.max())
        self.worst_converged = max(self.worst_converged, excess[converged].max(initial=-np.inf))
        self.false += int((converged & ~(excess <= ALLOWED_EXCESS)).sum())

    def line(self) -> str:
        return (
            f"| {self.kind} | {self.solver} | {self.problems} | {self.unconverged} | {self.bad} | {self.worst:.1e}"
            f" | {self.worst_converged:.1e} | {self.false} | {self.seconds:.1f} |"
        )


def stress(problems: int, seed: int, solvers: tuple[str, ...], kinds: list[str]) -> list[Row]:
    """A row per kind and solver, and one per solver over all kinds."""
    rows = []
    for number, kind in enumerate(kinds):
        count = problems // len(kinds) + (number < problems % len(kinds))
        random = np.random.default_rng((seed, list(KINDS).index(kind)))
        mine = [Row(kind, solver) for solver in solvers]
        for batch in batches(kind, count, random):
            theirs = np.minimum(residual_norms(batch, scipy_solutions(batch)), 1.0)
            for row in mine:
                row.add(batch, theirs)
        rows += mine
    for solver in solvers:
        parts = [row for row in rows if row.solver == solver]
        total = Row("all", solver)
        for name in ("problems", "unconverged", "bad", "false", "seconds"):
            setattr(total, name, sum(getattr(part, name) for part in parts))
        for name in ("worst", "worst_converged"):
            setattr(total, name, max(getattr(part, name) for part in parts))
        rows.append(total)
    return rows


def violations(rows: list[Row]) -> list[str]:
    """What must not be, in words."""
    found = []
    for row in rows:
        if row.bad:
            found.append(f"{row.kind}, {row.solver}: {row.bad} answers not finite, not feasible or worse than W = 0")
        if row.false:
            found.append(f"{row.kind}, {row.solver}: {row.false} say `converged` and are worse than scipy")
        if row.kind == "all" and row.unconverged > ALLOWED_UNCONVERGED * row.problems:
            found.append(f"{row.solver}: {row.unconverged} of {row.problems} have not converged")
    return found


def residual_norms(batch: Batch, W: np.ndarray) -> np.ndarray:
    """‖y − Hw‖ / ‖y‖, (P,), in extended precision: rounding here grows with ‖w‖ and would pass for an excess."""
    H, y, w = (x.astype(np.longdouble) for x in (batch.H, batch.y, W))
    residual = y - (H * w[:, None, :]).sum(-1)
    return (np.sqrt((residual**2).sum(-1)) / np.sqrt((y**2).sum(-1))).astype(float)


def scipy_solutions(batch: Batch) -> np.ndarray:
    """W (P, k) by scipy; zero where it gives up."""
    W = np.zeros((len(batch.H), batch.H.shape[2]))
    for number, (H, y) in enumerate(zip(batch.H, batch.y, strict=True)):
        try:
            W[number] = scipy_nnls(H, y, maxiter=30 * H.shape[1])[0]
        except RuntimeError:
            continue
    return np.where(np.isfinite(W).all(1, keepdims=True), W, 0.0)


def batches(kind: str, count: int, random: np.random.Generator) -> Iterator[Batch]:
    """``count`` problems of a kind in batches of one shape each."""
    for part in range(SHAPES):
        size = count // SHAPES + (part < count % SHAPES)
        if size:
            n, k = SHAPE_OF[kind](random)
            H, y = (np.stack(x) for x in zip(*(_problem(kind, random, n, k) for _ in range(size)), strict=True))
            yield Batch(H, y)


Problem = tuple[np.ndarray, np.ndarray]


def _problem(kind: str, random: np.random.Generator, n: int, k: int) -> Problem:
    """One with a y that is not zero: W = 0 would be no answer to measure."""
    while True:
        H, y = KINDS[kind](random, n, k)
        if y.any():
            return H, y


def integer(random: np.random.Generator, n: int, k: int) -> Problem:
    """Small integers: ties, equal columns and low ranks without any rounding."""
    low = random.choice([-3, 0])
    return random.integers(low, 4, (n, k)).astype(float), random.integers(low, 5, n).astype(float)


def tied(random: np.random.Generator, n: int, k: int) -> Problem:
    """Entries of W that are zero with zero gradient: the residual is orthogonal to columns that are not free."""
    H = random.standard_normal((n, k))
    free, tied = random.integers(1, k // 2 + 1), random.integers(1, k // 2 + 1)
    Q = np.linalg.qr(H[:, : min(free + tied, n - 1)])[0]
    residual = random.standard_normal(n)
    residual -= Q @ (Q.T @ residual)
    H[:, free + tied :] *= -np.sign(residual @ H[:, free + tied :])
    order = random.permutation(k)
    return H[:, order], H[:, :free] @ random.random(free) + residual * random.choice([1.0, 1e-3])


def hilbert(random: np.random.Generator, n: int, k: int) -> Problem:
    """1/(i + j + 1), condition 1e1 to beyond 1e17."""
    H = 1.0 / (np.arange(n)[:, None] + np.arange(k) + 1.0)
    return H, target(random, H)


def kahan(random: np.random.Generator, n: int, k: int) -> Problem:
    """Upper triangular with a smallest singular value far below every pivot, condition up to 1e13.

    The angle is 1.2 as a rule. At smaller ones W reaches 1e15 ‖y‖, and no residual norm has a right digit.
    """
    angle = random.uniform(1.1, 1.5)
    R = np.sin(angle) ** np.arange(k)[:, None] * (np.eye(k) - np.cos(angle) * np.triu(np.ones((k, k)), 1))
    H = np.zeros((n, k))
    H[:k] = R
    return H, target(random, H)


def vandermonde(random: np.random.Generator, n: int, k: int) -> Problem:
    """Powers 0 to k − 1 of n nodes in [0, 1] or [−1, 1]."""
    nodes = np.sort(random.uniform(random.choice([-1.0, 0.0]), 1.0, n))
    H = nodes[:, None] ** np.arange(k)
    return H, np.exp(nodes) if random.random() < 0.2 else target(random, H)


def collinear(random: np.random.Generator, n: int, k: int) -> Problem:
    """Columns that are others but for 1e-6 to 1e-14."""
    H = random.standard_normal((n, k)) if random.random() < 0.5 else random.random((n, k))
    for twin in range(1, random.integers(2, k // 2 + 2)):
        H[:, -twin] = H[:, twin - 1] + 10.0 ** random.uniform(-14, -6) * random.standard_normal(n)
    return H, target(random, H)


def wide(random: np.random.Generator, n: int, k: int) -> Problem:
    """More columns than rows."""
    H = random.standard_normal((n, k)) if random.random() < 0.5 else random.random((n, k))
    return H, target(random, H)


def graded(random: np.random.Generator, n: int, k: int) -> Problem:
    """Rows, columns or singular values from 1 down to 1e-12."""
    H = random.standard_normal((n, k))
    grades = np.logspace(0, -random.uniform(2, 12), max(n, k))
    what = random.integers(3)
    if what == 0:
        H = grades[:n, None] * H
    elif what == 1:
        H = H * grades[:k]
    else:
        U, _, V = np.linalg.svd(H, full_matrices=False)
        H = U * grades[: len(V)] @ V
    return H, target(random, H)


def scales(random: np.random.Generator, n: int, k: int) -> Problem:
    """Units from 1e-30 to 1e30, of the whole and of single columns."""
    H = random.standard_normal((n, k)) if random.random() < 0.5 else random.random((n, k))
    y = target(random, H)
    columns = 10.0 ** random.uniform(-15, 15, k) if random.random() < 0.5 else 1.0
    return H * columns * 10.0 ** random.uniform(-30, 30), y * 10.0 ** random.uniform(-30, 30)


def target(random: np.random.Generator, H: np.ndarray) -> np.ndarray:
    """A random vector, one in the cone of H, or one near it."""
    n, k = H.shape
    what = random.integers(4)
    y = random.random(n) if what == 0 else random.standard_normal(n)
    if what > 1:
        planted = H @ np.maximum(random.standard_normal(k), 0)
        noise = 10.0 ** random.uniform(-12, -1) * np.linalg.norm(planted) / np.linalg.norm(y) if what == 3 else 0.0
        y = planted + noise * y
    return np.asarray(y)


def shapes(n_over_k: tuple[float, float], k: tuple[int, int]) -> Callable[[np.random.Generator], tuple[int, int]]:
    """Draws (n, k)."""

    def draw(random: np.random.Generator) -> tuple[int, int]:
        columns = int(random.integers(k[0], k[1] + 1))
        return max(2, int(columns * random.uniform(*n_over_k))), columns

    return draw


KINDS: dict[str, Callable[[np.random.Generator, int, int], Problem]] = {
    "integer": integer,
    "tied": tied,
    "hilbert": hilbert,
    "kahan": kahan,
    "vandermonde": vandermonde,
    "collinear": collinear,
    "wide": wide,
    "graded": graded,
    "scales": scales,
}
SHAPE_OF = {
    "integer": shapes((0.7, 3), (3, 20)),
    "tied": shapes((1.5, 3), (4, 20)),
    "hilbert": shapes((1, 3), (3, 20)),
    "kahan": shapes((1, 1.5), (5, 60)),
    "vandermonde": shapes((1, 3), (3, 25)),
    "collinear": shapes((1, 3), (3, 20)),
    "wide": shapes((0.2, 0.8), (5, 40)),
    "graded": shapes((1, 3), (3, 25)),
    "scales": shapes((0.7, 3), (3, 20)),
}


if __name__ == "__main__":
    sys.exit(main())
