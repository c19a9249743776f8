"""Where the factorisation of a large matrix begins: the starts of ``initialize`` that need sums over the rows only.

Each is the start that the matrix would have in memory, to rounding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffnmf.checks import check_name
from diffnmf.factorization.gram_merging import gram_steps, merge_gram
from diffnmf.factorization.hals import sweep_
from diffnmf.factorization.initialization import NNDSVD_SIDE, largest_start
from diffnmf.factorization.large.part import Part
from diffnmf.factorization.merging import (
    STEPS,
    SWEEPS,
    SWEEPS_FROM_SHARES,
    can_merge,
    even_share,
    merge_columns,
    merged_members,
    merged_side,
)
from diffnmf.factorization.nndsvd import of_triplets
from diffnmf.factorization.svd import OVERSAMPLING, POWER_STEPS, singular_triplets, unit_vectors

DRAWN = 2**16  # rows of a random matrix at a time
Start = tuple[Tensor, Tensor]  # S (1, k, count) and D (1, k, F)
Race = Callable[[Start], tuple[Start, float]]  # a few rounds from a start, and the objective there


def start_of(part: Part, init: str, seed: int, race: Race) -> Start:
    """S and D in the scaled units, in memory of their own; ``race`` decides for "auto"."""
    if check_name("init", init, ("auto", *LARGE_INITS)) != "auto":
        return LARGE_INITS[init](part, seed)
    _, n, m = part.problem.Y.shape
    if not can_merge(n, m, part.problem.k):
        return _random(part, seed)
    challenger = _filled_nndsvd if min(n, m) <= NNDSVD_SIDE else _random
    (start, objective), (other, other_objective) = (race(begin(part, seed)) for begin in (_merge, challenger))
    return other if other_objective < objective else start


def _uniform(part: Part, seed: int) -> Start:
    """U[0, 1): H (n, k), then W (k, m), of which this process keeps what is its own."""
    generator = torch.Generator().manual_seed(seed)
    _, n, m = part.problem.Y.shape
    k = part.problem.k
    own, everything = slice(part.start, part.stop), slice(None)

    def drawn(rows: int, columns: int) -> Tensor:
        return torch.rand(rows, columns, generator=generator, dtype=torch.float64, device="cpu")

    Ht = []
    for start in range(0, n, DRAWN):
        piece = drawn(min(DRAWN, n - start), k)
        if part.split == "H":
            piece = piece[max(0, own.start - start) : max(0, own.stop - start)]
        Ht.append(piece.to(part.rows.dtype))
    kept = own if part.split == "W" else everything
    W = torch.cat([drawn(1, m)[:, kept].to(part.rows.dtype) for _ in range(k)])
    S, D = part.factors(W, torch.cat(Ht).mT)
    return S.unsqueeze(0).to(part.rows.device).contiguous(), D.unsqueeze(0).to(part.rows.device).contiguous()


def _random(part: Part, seed: int) -> Start:
    scale = 2 * (part.mean / part.problem.k) ** 0.5
    S, D = _uniform(part, seed)
    return S * scale, D * scale


def _unscaled(part: Part, seed: int) -> Start:
    root = max(float(part.units.root), 1 / largest_start(part.problem))
    S, D = _uniform(part, seed)
    return S / root, D / root


def _nndsvd(part: Part, seed: int) -> Start:
    U, sigma, V = _triplets(part)

    def norms(x: Tensor) -> Tensor:
        return part.processes.sums(x.square().sum(-2, keepdim=True))[0].sqrt()

    St, Dt = of_triplets(U, sigma, V, part.problem.k, norms)
    return St.mT.to(part.rows.dtype).contiguous(), Dt.mT.to(part.rows.dtype).contiguous()


def _filled(part: Part, fill: float) -> Start:
    S, D = _nndsvd(part, 0)
    return torch.where(S > 0, S, fill), torch.where(D > 0, D, fill)


def _filled_nndsvd(part: Part, seed: int) -> Start:
    return _filled(part, (part.mean / part.problem.k) ** 0.5)


def _nndsvda(part: Part, seed: int) -> Start:
    return _filled(part, part.mean * min(float(part.units.root), largest_start(part.problem)))


def _triplets(part: Part) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest singular triplets of X in float64: U (1, count, r) of the rows that are here, σ (1, 1, r), V."""
    k, width = part.problem.k, part.rows.width
    r = min(k, width, part.total)
    if part.total <= NNDSVD_SIDE < width:
        U, sigma, V = singular_triplets(_picked(part, range(part.total)).double().unsqueeze(0), k)
        return U[:, part.start : part.stop], sigma, V
    if width <= NNDSVD_SIDE:
        G = _gram(part, torch.arange(width, device="cpu"))
        V = torch.linalg.eigh(G).eigenvectors[..., -r:].flip(-1)  # eigenvalues ascend
        US = _times(part, V[0]).double().unsqueeze(0)
        sigma = part.processes.sums(US.square().sum(-2, keepdim=True))[0].sqrt()
    else:
        V, sigma = _right_vectors(part, r)
        US = _times(part, V[0]).double().unsqueeze(0)
    return *unit_vectors(US, sigma), V


def _right_vectors(part: Part, r: int) -> tuple[Tensor, Tensor]:
    """V (1, F, r) and σ (1, 1, r), approximately: products of XᵀX with a random subspace, a pass each.

    Source: Halko, Martinsson and Tropp (2011), Finding structure with randomness, SIAM Review 53(2), algorithm 4.4.
    """
    width, like = part.rows.width, part.rows
    generator = torch.Generator().manual_seed(0)
    size = width, min(r + OVERSAMPLING, width)
    Q = torch.randn(size, generator=generator, dtype=torch.float64, device="cpu").to(like.device)
    for _ in range(POWER_STEPS):
        Z = torch.zeros_like(Q)
        for _, X in part.rows.blocks():
            Z += X.mT @ (X @ Q.to(X.dtype))
        Q, _ = torch.linalg.qr(part.processes.sums(Z)[0])
    inner = torch.zeros(Q.shape[1], Q.shape[1], dtype=torch.float64, device=Q.device)
    for _, X in part.rows.blocks():
        P = (X @ Q.to(X.dtype)).double()
        inner += P.mT @ P
    values, vectors = torch.linalg.eigh(part.processes.sums(inner)[0])
    values, vectors = values.flip(-1)[:r].clamp(min=0), vectors.flip(-1)[:, :r]
    V = Q @ vectors
    V = torch.where(V.abs() > 1e-9, V, 0.0)
    return V.unsqueeze(0), values.sqrt()[None, None]


def _merge(part: Part, seed: int) -> Start:
    """``merge``: of the columns of X, by their Gram matrix, or of rows, by a sample that everybody gets."""
    _, n, m = part.problem.Y.shape
    k = part.problem.k
    if not can_merge(n, m, k):
        raise ValueError(f'init: expected k ≤ max(n, m) = {max(n, m)} for "merge"; got k = {k} (use init="random")')
    side = {"rows": "H", "columns": "W"}[merged_side(n, m, k)]
    return _merge_rows(part) if side == part.split else _merge_columns(part)


def _merge_columns(part: Part) -> Start:
    k, width = part.problem.k, part.rows.width
    members = merged_members(width, k).to(part.rows.device)
    G = _gram(part, members).to(part.rows.dtype)
    A, D = gram_steps(G, merge_gram(G, k), STEPS)
    S = A.new_empty(1, k, part.rows.count)

    def change(rows: slice, X: Tensor, own: Tensor) -> None:
        own.copy_(torch.relu(A @ X[:, members].mT))

    SS, C = (x.to(G.dtype) for x in part.products(S, change))
    sweeps = SWEEPS
    if len(members) < width:
        D = even_share(C, SS.diagonal(dim1=1, dim2=2))
        sweeps += SWEEPS_FROM_SHARES
    D = D.contiguous()
    sweep_(SS, C, D, sweeps)
    return S, D


def _merge_rows(part: Part) -> Start:
    k = part.problem.k
    members = merged_members(part.total, k)
    sample = _picked(part, members.tolist()).unsqueeze(0)  # (1, s, F)
    H, W = merge_columns(sample.mT, k, STEPS, SWEEPS)
    D = H.mT.contiguous()
    if len(members) == part.total:
        return W[..., part.start : part.stop].contiguous(), D
    S, A = D.new_empty(1, k, part.rows.count), D @ D.mT
    for rows, X in part.rows.blocks():
        C = (D @ X.mT).contiguous()
        own = even_share(C, D.square().sum(-1))
        sweep_(A, C, own, SWEEPS + SWEEPS_FROM_SHARES)
        S[..., rows] = own
    return S, D


def _gram(part: Part, members: Tensor) -> Tensor:
    """The Gram matrix of some columns of X, (1, s, s) float64."""
    G = torch.zeros(len(members), len(members), dtype=torch.float64, device=part.rows.device)
    members = members.to(G.device)
    for _, X in part.rows.blocks():
        some = X if len(members) == X.shape[1] else X[:, members]
        G += some.mT @ some
    return part.processes.sums(G)[0].unsqueeze(0)


def _times(part: Part, V: Tensor) -> Tensor:
    """XV (count, r)."""
    found = torch.empty(part.rows.count, V.shape[1], dtype=part.rows.dtype, device=part.rows.device)
    V = V.to(found.dtype)
    for rows, X in part.rows.blocks():
        found[rows] = X @ V
    return found


def _picked(part: Part, numbers: range | list[int]) -> Tensor:
    """Some rows of X, which everybody gets: (len(numbers), F)."""
    own = [number - part.start for number in numbers if part.start <= number < part.stop]
    return part.processes.gather(part.rows.pick(own))


LARGE_INITS: dict[str, Callable[[Part, int], Start]] = {
    "merge": _merge,
    "random": _random,
    "uniform": _unscaled,
    "nndsvd": _nndsvd,
    "nndsvda": _nndsvda,
}
