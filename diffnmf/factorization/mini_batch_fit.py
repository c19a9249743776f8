"""Passes of mini-batch NMF over a matrix or a stream: where they start, what they remember, when they stop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from diffnmf.factorization.divergence import zeros_refused
from diffnmf.factorization.estimator_start import check_starts
from diffnmf.factorization.initialization import initialize
from diffnmf.factorization.mini_batch_data import Rows, checked_rows, rows_of_batch
from diffnmf.factorization.mini_batch_learner import BatchOptions, Learner, root_of, weights_after
from diffnmf.factorization.mini_batch_rules import Visit, moved
from diffnmf.factorization.reconstruction import Loss, weights_of
from diffnmf.factorization.sample_arrays import Samples

START_ROWS = 2048  # of a larger X the start is that of so many rows
LARGEST_START = 2.0**8  # times the root of Y


@dataclass
class Watch:
    """When to stop, after the first pass: H hardly moves, or the costs do not improve any more.

    Attributes:
        options: of the model.
        unit: of the costs, in those of the data; only what is printed needs it.
        costs: of a sample, in every batch when it was seen last, by number: their mean is free of what differs between
            batches.
        moves: of H, by every batch when it was seen last: a batch of zeros, say, moves nothing.
        best: the smallest mean.
        waited: how many batches that cost something have not brought a mean that is better by ``tol``.
        steps: how many batches there were.
    """

    options: BatchOptions
    unit: float = 1.0
    costs: dict[int, float] = field(default_factory=dict)
    moves: dict[int, float] = field(default_factory=dict)
    best: float = np.inf
    waited: int = 0
    steps: int = 0

    def done(self, number: int, cost: float, move: float, *, first_pass: bool) -> bool:
        """Whether batch ``number``, which has moved H by ``move``, relative to its norm, was the last one."""
        options = self.options
        self.steps += 1
        self.costs[number], self.moves[number] = cost, move
        mean = float(np.mean(list(self.costs.values())))
        self._say(f"cost {cost * self.unit:.6g}, mean {mean * self.unit:.6g}")
        if first_pass:
            return False
        if options.tol > 0 and max(self.moves.values()) <= options.tol:
            self._say("H hardly moves any more")
            return True
        better = mean < (1 - options.tol) * self.best
        nothing = cost == 0  # a batch of zeros, which says nothing of the others
        self.best, self.waited = (mean, 0) if better else (self.best, self.waited + (not nothing))
        if options.max_no_improvement is None or self.waited < options.max_no_improvement:
            return False
        self._say("the cost does not improve any more")
        return True

    def _say(self, text: str) -> None:
        if self.options.verbose:
            print(f"Minibatch step {self.steps}: {text}")


@dataclass(frozen=True)
class Passes:
    """What the passes over the data have come to."""

    learner: Learner
    iterations: int
    steps: int
    converged: bool


def fit_rows(model: Any, options: BatchOptions, rows: Rows, W: Any, H: Any) -> Passes:
    """Passes over a matrix. The weights of every batch are kept, to go on from in the next pass."""
    size = min(options.batch_size, len(rows))
    learner, given = started(model, options, rows, W, H)
    count = -(-len(rows) // size)
    visits: list[Visit | None] = [None] * count
    if given is not None:
        visits = [Visit(part.contiguous(), 0.0) for part in (given / learner.root).unsqueeze(0).split(size, 2)]

    def step(number: int, samples: Samples, first_pass: bool) -> float:
        # Sums of squares soon leave behind a time when H was poor. What multiplicative updates lose does not come back.
        fresh = first_pass and options.beta == 2
        rho = fresh_rho(options, samples) if fresh else options.forget_factor ** (samples.Y.shape[1] / len(rows))
        last = visits[number]
        for visit in visits:
            if visit is not None:
                visit.share *= rho
        weights, cost = learner.step(samples, options, rho, last, solve=options.fresh_restarts)
        visits[number] = Visit(weights, 1.0)
        return cost

    return _passes(options, learner, lambda: rows.batches(size), step, once=False)


def fit_stream(model: Any, options: BatchOptions, X: Any, W: Any, H: Any) -> tuple[Passes, Rows]:
    """Passes over batches of which nothing is kept, a single one where X is an iterator; and the first batch."""
    batches = _read(model, X)
    leading: list[Rows] = []  # up to the first one that is not all zeros, from which the start is made
    while not leading or not leading[-1].has_entries():
        following = next(batches, None)
        if following is None:
            break
        leading.append(following)
    if not leading:
        raise ValueError("X: expected at least one batch of rows; got none (an iterator serves one pass only)")
    if W is not None:
        raise ValueError(
            "W: expected None where X is a stream of batches, whose weights are solved for; got some (leave them out)"
        )
    learner, _ = started(model, options, leading[-1], None, H)
    begun: Iterator[Rows] | None = chain(leading, batches)

    def read() -> Iterator[Samples]:
        nonlocal begun
        passing, begun = begun, None
        for rows in _read(model, X, reset=False) if passing is None else passing:
            check_zeros(options, rows)
            yield rows.take(slice(None)).to(learner.Ht)

    def step(number: int, samples: Samples, first_pass: bool) -> float:
        return learner.step(samples, options, fresh_rho(options, samples))[1]

    return _passes(options, learner, read, step, once=iter(X) is X), leading[0]


def learn_batch(model: Any, options: BatchOptions, learner: Learner | None, rows: Rows, W: Any, H: Any) -> Learner:
    """A single step: what ``partial_fit`` does."""
    if learner is not None:
        _check_same(model, options, learner)
    if learner is None or learner.blank:
        learner, _ = started(model, options, rows, W, H)
    check_zeros(options, rows)
    samples = rows.take(slice(None)).to(learner.Ht)
    learner.step(samples, options, fresh_rho(options, samples))
    return learner


def _check_same(model: Any, options: BatchOptions, learner: Learner) -> None:
    """Raise ValueError where a parameter that the sums depend on is another than in the batches before."""
    k = learner.Ht.shape[1]
    before = {"beta_loss": learner.beta, "missing": learner.missing, "n_components": k}
    by_name = isinstance(model.n_components, str | None)  # 'auto': as many as there are
    now = {"beta_loss": options.beta, "missing": options.missing, "n_components": k if by_name else model.n_components}
    for name, expected in before.items():
        if now[name] != expected:
            told = f"{expected:g}" if isinstance(expected, float) else repr(expected)
            raise ValueError(
                f"{name}: expected {told}, as in the batches before; got {getattr(model, name)!r} (fit begins anew)"
            )


def started(model: Any, options: BatchOptions, rows: Rows, W: Any, H: Any) -> tuple[Learner, Tensor | None]:
    """A learner at the start that ``init`` names, and the weights (k, N) of all rows where that has them."""
    check_zeros(options, rows)
    # The names are those of NMF, of which this is what the start depends on.
    solver = "hals" if options.beta == 2 else "mu"
    same = {name: getattr(model, name) for name in ("init", "n_components", "dtype")}
    asked = SimpleNamespace(**same, solver=solver, fixed=None, n_init=1, missing=options.missing)
    shape = (rows.features, len(rows))
    everything = torch.zeros((), dtype=rows.dtype, device=rows.device).expand(shape)
    start = check_starts(asked, everything, W, H, update_H=True)
    random = check_random_state(model.random_state)
    seed = int(random.randint(np.iinfo(np.int32).max))
    if start.init is None and (start.H is not None or start.W is not None):
        if start.H is None:
            raise ValueError("H: expected components (n_components, n_features) with init='custom'; got None")
        Y, H, W = rows.take(slice(0, START_ROWS)).Y, start.H, start.W
    else:
        most = max(START_ROWS, options.batch_size, 2 * start.k)
        few = len(rows) <= most
        # Not every so-manieth row: data may have a period.
        some = slice(None) if few else np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
        samples = rows.take(some)
        Y = samples.Y
        H, W = _balanced(*_living_start(samples, start.k, start.init, seed), options)
        W = W if few else None
    H, W = _not_too_large(H, W, options, root_of(Y))
    return Learner.start(H.mT, Y, options), W


def _not_too_large(H: Tensor, W: Tensor | None, options: BatchOptions, root: float) -> tuple[Tensor, Tensor | None]:
    """The same HW, each component of H (n, k) at most some hundred times ``root``, the size of √Y, where that is free.

    Multiplicative updates remember the start, which outweighs the batches where H is larger: where it has the size of
    a large Y itself, as samples given as H have, or what fills "nndsvda". Penalties of both factors set the scale.
    """
    if options.beta == 2 or (options.alphas.W and options.alphas.H):
        return H, W
    excess = H.amax(0).double() / (LARGEST_START * root)  # (k,)
    c = torch.exp2(excess.log2().ceil()).clamp(min=1)
    return (H / c).to(H), None if W is None else (W * c[:, None]).to(W)


def _living_start(samples: Samples, k: int, init: str | None, seed: int) -> tuple[Tensor, Tensor]:
    """H (n, k) and W (k, N), drawn at random where ``init`` has nothing for a component, as of few samples.

    A component of zeros would be learnt from what the others leave of a batch: rounding, where they fit it exactly.
    """
    mask = "stored" if samples.observed else None if samples.weights is None else samples.weights > 0
    H, W = initialize(samples.Y, k, init, seed, mask=mask)
    dead = bool((H.amax(0) == 0).any())
    return initialize(samples.Y, k, "random", seed, mask=mask) if dead else (H, W)


def _balanced(H: Tensor, W: Tensor, options: BatchOptions) -> tuple[Tensor, Tensor]:
    """The same HW, each component of H (n, k) and W (k, N) at the scale, a power of two, where its penalties are least.

    Otherwise the penalty of one factor may bring it to zero before the other has grown, and zero is not left again.
    """
    (l1_W, ridge_W), (l1_H, ridge_H) = options.alphas.of_W(len(H)), options.alphas.of_H(1)  # for each sample
    c = torch.exp2(torch.arange(-20, 21, dtype=torch.float64, device=H.device))[:, None]
    of_W = l1_W * c * W.double().mean(1) + 0.5 * ridge_W * (c * c) * W.double().square().mean(1)  # (41, k)
    of_H = l1_H / c * H.double().sum(0) + 0.5 * ridge_H / (c * c) * H.double().square().sum(0)
    live = (of_W > 0).all(0) & (of_H > 0).all(0)  # a penalty of one factor alone has no minimum
    best = torch.where(live, c.squeeze(1)[(of_W + of_H).argmin(0)], 1.0).to(H)
    return H / best, W * best[:, None]


def check_zeros(options: BatchOptions, rows: Rows) -> None:
    if options.beta <= 0 and rows.has_zeros():
        raise zeros_refused("X")


@torch.no_grad()
def solved_weights(options: BatchOptions, rows: Rows, Ht: Tensor) -> Iterator[tuple[Samples, Tensor]]:
    """Batches with their weights (k, b) for Hᵀ (k, n): exact ones, or after ``transform_max_iter``."""
    check_zeros(options, rows)
    loss = Loss(options.beta, *options.alphas.of_W(rows.features))
    Ht = Ht.to(rows.device, rows.dtype)
    for samples in rows.batches(max(options.batch_size, 1024)):
        if options.transform_max_iter is None:
            yield samples, weights_of(Ht.mT, samples.Y, samples.weights, loss, observed=samples.observed)
        else:
            yield samples, weights_after(options.transform_max_iter, Ht, samples, options)


def _passes(
    options: BatchOptions,
    learner: Learner,
    read: Callable[[], Iterator[Samples]],
    step: Callable[[int, Samples, bool], float],
    *,
    once: bool,
) -> Passes:
    watch, iteration = Watch(options, learner.cost_unit), 0
    while iteration < (1 if once else options.max_iter):
        iteration += 1
        for number, samples in enumerate(read()):
            before = learner.Ht
            cost = step(number, samples, iteration == 1)
            if watch.done(number, cost, moved(before, learner.Ht), first_pass=iteration == 1):
                return Passes(learner, iteration, watch.steps, True)
    return Passes(learner, iteration, watch.steps, once)


def fresh_rho(options: BatchOptions, samples: Samples) -> float:
    """What a batch leaves of those before where they are new: forget_factor, or more where the batch is small."""
    return options.forget_factor ** min(1.0, samples.Y.shape[1] / options.batch_size)


def _read(model: Any, X: Any, *, reset: bool = True) -> Iterator[Rows]:
    """The batches of a stream, checked."""
    for batch in X:
        yield checked_rows(model, rows_of_batch(batch), reset=reset)
        reset = False
