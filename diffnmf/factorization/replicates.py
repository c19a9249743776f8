"""The same Y from several random starts, as one batch."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_seed, check_tensor
from diffnmf.factorization.factorize import Factors, factorize

ENTRIES = 2**25  # of Y and its copies that are worked on at once


class Replicates(NamedTuple):
    """Factorisations of one Y from several starts.

    Attributes:
        factors: of all of them, with the starts as the batch dimension: H (R, n, k), W (R, k, m), errors
            (iterations + 1, R), iterations (R,), converged (R,).
        best: of the start that ended with the smallest error.
        order: (R,) int64, the starts by that error, the smallest first.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import replicate
        >>> found = replicate(torch.rand(30, 20), 3, n_init=4, tol=0.0, max_iter=20)
        >>> torch.equal(found.best.H, found.factors.H[found.order[0]])
        True
    """

    factors: Factors
    best: Factors
    order: Tensor


def replicate(
    Y: Tensor, k: int, *, n_init: int = 10, init: str | None = "random", seed: int = 0, **options: Any
) -> Replicates:
    """Factorise Y from ``n_init`` starts, and tell which ended best.

    Arguments:
        Y: (n, m), as in ``factorize``; dense, or sparse.
        k: components.
        n_init: starts, ≥ 1, of seeds that are drawn from ``seed``.
        init: a start that draws: "random", "uniform", "nndsvdar".
        seed: an int ≥ 0.
        options: as in ``factorize``.

    Raises:
        TypeError, ValueError: as ``factorize``; Y is no single matrix; or the start draws nothing.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import replicate
        >>> Y = torch.rand(30, 3) @ torch.rand(3, 20)
        >>> found = replicate(Y, 3, n_init=5, tol=0.0, max_iter=50)
        >>> found.factors.H.shape, found.best.H.shape
        (torch.Size([5, 30, 3]), torch.Size([30, 3]))
    """
    n_init = check_count("n_init", n_init, at_least=1)
    if not isinstance(Y, Tensor):
        check_tensor("Y", Y)  # raises
    if Y.ndim != 2:
        raise ValueError(f"Y: expected a single matrix (n, m) to start from several times; got {tuple(Y.shape)}")
    drawing = ("random", "uniform", "nndsvdar")
    if init not in drawing:
        raise ValueError(f"init: expected one that draws, {', '.join(drawing)}, for several starts; got {init!r}")
    generator = torch.Generator().manual_seed(check_seed("seed", seed))
    seeds = torch.randint(2**31, (n_init,), generator=generator, device="cpu").tolist()
    parts = list(_in_parts(Y, k, init, seeds, options))
    factors = _joined(parts)
    order = factors.errors[-1].nan_to_num(torch.inf).argsort(stable=True)
    first = int(order[0])
    best = Factors(factors.H[first], factors.W[first], *(x[..., first] for x in factors[2:]))
    best = best._replace(errors=best.errors[: int(best.iterations) + 1])
    return Replicates(factors, best, order)


def _in_parts(Y: Tensor, k: int, init: str, seeds: list[int], options: dict[str, Any]) -> Iterator[Factors]:
    """As many at a time as the memory of a few copies of Y allows; one, where Y is sparse."""
    if Y.layout != torch.strided:
        for seed in seeds:
            one = factorize(Y, k, init=init, seed=seed, **options)
            yield Factors(one.H.unsqueeze(0), one.W.unsqueeze(0), *(x.unsqueeze(-1) for x in one[2:]))
        return
    size = max(1, ENTRIES // max(1, Y.numel()))
    for start in range(0, len(seeds), size):
        some = seeds[start : start + size]
        yield factorize(Y.expand(len(some), *Y.shape), k, init=init, seed=some, **options)


def _joined(parts: list[Factors]) -> Factors:
    """One batch; a history that ended earlier repeats its last."""
    longest = max(len(part.errors) for part in parts)
    errors = [torch.cat((part.errors, part.errors[-1:].expand(longest - len(part.errors), -1))) for part in parts]
    H, W, iterations, converged = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("H", "W", "iterations", "converged")
    )
    return Factors(H, W, torch.cat(errors, 1), iterations, converged)
