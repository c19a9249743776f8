"""Fig. 10: do the bases of different groups agree, slot by slot? Measured for the network and for its rivals.

(HB, B⁻¹W) fits as well as (H, W) for every permutation matrix B. So a method that starts anew for every group finds its
parts in an arbitrary order, while a network may keep an order. But with one image of each class, always in the same
order, and k = m, the trivial basis H = Y is consistent as well. Only k < m, or columns in random order, can decide.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from diffnmf.data import ORDERS
from diffnmf.factorization import PAPER, factorize, match_slots, merge, slot_prototypes, take_slots
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import permutation_consistency, relative_error, slot_consistency
from diffnmf.models import GANUNMF
from diffnmf.studies.measured import check_scores
from diffnmf.studies.paper.records import Record
from diffnmf.studies.paper.study import FROM_MERGE, NNLS
from diffnmf.studies.paper.workbench import BySeed, Groups, Workbench, by_seed, slug
from diffnmf.studies.report import markdown_table, mean_std

TAG = "-bases"
NETWORK, COPIES = "GAN-UNET, NNLS, trained for this", "H = images of the group"
FROM_MERGE_NETWORK, ORDERED_MERGE = f"{FROM_MERGE}, trained for this", "merge, ordered slots"
WITHOUT_CHANCE = (ORDERED_MERGE, COPIES)
ANLS_RANDOM, ANLS_FIXED = "ANLS, a random start for each group", "ANLS, one start for all groups"
Setting = tuple[int, str]  # k and the order of the columns


def settings(bench: Workbench) -> Iterator[Setting]:
    """All settings, that of the paper first."""
    return ((k, order) for k in bench.study.bases_ks for order in ORDERS)


def groups(bench: Workbench, order: str) -> Groups:
    """The groups whose bases are compared."""
    study = bench.study
    return bench.groups(study.bases_dataset, study.bases_m, order, study.bases_groups)


def model(bench: Workbench, k: int, order: str, seed: int, row: str = NNLS) -> GANUNMF | None:
    """The network of a row of Table 1 that was trained for a setting."""
    study = bench.study
    options = {"group_size": study.bases_m, "order": order, **study.bases_options}
    return bench.model(study.bases_dataset, k, row, seed, f"{TAG}-{order}", **options)


def scores(bench: Workbench, k: int, order: str, row: str) -> BySeed:
    """unmatched, matched, gap and relative error of a row, by seed."""
    seeds = bench.study.seeds[:1] if row in WITHOUT_CHANCE else bench.study.seeds
    return by_seed(seeds, lambda seed: _one(bench, k, order, row, seed))


def equivariance(bench: Workbench, dataset: str, row: str) -> BySeed:
    """What a permutation of the columns of Y does to the basis that a network finds, by seed."""
    return by_seed(bench.study.seeds, lambda seed: _equivariance(bench, dataset, row, seed))


def measure(bench: Workbench) -> None:
    """Train and score what is missing."""
    for k, order in settings(bench):
        for row in ROWS:
            scores(bench, k, order, row)
    for dataset in bench.study.datasets:
        for row in bench.study.models:
            equivariance(bench, dataset, row)


def table(bench: Workbench) -> str:
    """Consistency between groups, in Markdown."""
    rows = []
    for k, order in settings(bench):
        for row in ROWS:
            records = scores(bench, k, order, row)
            cells = [_mean_std(records, name) for name in ("unmatched", "matched", "gap", "relative_error")]
            rows.append([f"k = {k}, m = {bench.study.bases_m}, {order} order", row, len(records), *cells])
    return markdown_table(["setting", "method", "seeds", "unmatched", "matched", "gap", "relative error"], rows)


def equivariance_table(bench: Workbench) -> str:
    """What a permutation of the columns of Y does, in Markdown."""
    rows = []
    for dataset in bench.study.datasets:
        for row in bench.study.models:
            records = equivariance(bench, dataset, row)
            cells = [_mean_std(records, name) for name in ("unmatched", "matched", "reconstruction")]
            rows.append([row, dataset, len(records), *cells])
    header = ["model", "data set", "seeds", "same slot, cosine", "best slot, cosine", "change of HW"]
    return markdown_table(header, rows)


def _mean_std(records: BySeed, name: str) -> str:
    return mean_std([record[name] for record in records.values() if name in record])


def _network(row: str, bench: Workbench, k: int, order: str, seed: int, Y: Tensor) -> tuple[Tensor, Tensor] | None:
    trained = model(bench, k, order, seed, row)
    return None if trained is None else trained.factorize(Y)[:2]


def _ordered_merge(bench: Workbench, k: int, order: str, seed: int, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Components in the order of what the bases of training groups have in common: no network."""
    prototypes = slot_prototypes(merge(groups(bench, order).train, k)[0])
    H, W = merge(Y, k)
    return take_slots(H, W, match_slots(H, prototypes))


def _anls_random(bench: Workbench, k: int, order: str, seed: int, Y: Tensor) -> tuple[Tensor, Tensor]:
    return _anls(Y, k, lambda: torch.rand(len(Y), Y.shape[1], k, device=Y.device), seed)


def _anls_fixed(bench: Workbench, k: int, order: str, seed: int, Y: Tensor) -> tuple[Tensor, Tensor]:
    return _anls(Y, k, lambda: torch.rand(Y.shape[1], k, device=Y.device).expand(len(Y), -1, -1), seed)


def _copies(bench: Workbench, k: int, order: str, seed: int, Y: Tensor) -> tuple[Tensor, Tensor]:
    H = Y[..., :k]
    return H, NNLSLayer(backward="detached")(H, Y)


ROWS: dict[str, Callable[[Workbench, int, str, int, Tensor], tuple[Tensor, Tensor] | None]] = {
    NETWORK: partial(_network, NNLS),
    FROM_MERGE_NETWORK: partial(_network, FROM_MERGE),
    ORDERED_MERGE: _ordered_merge,
    ANLS_RANDOM: _anls_random,
    ANLS_FIXED: _anls_fixed,
    COPIES: _copies,
}


def _anls(Y: Tensor, k: int, start: Callable[[], Tensor], seed: int) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng(devices=[Y.device] if Y.is_cuda else []):
        torch.manual_seed(seed)
        H0 = start().to(Y)
    factors = factorize(Y, k, H0=H0, **PAPER["anls"])  # H0 replaces its start
    return factors.H, factors.W


def _one(bench: Workbench, k: int, order: str, row: str, seed: int) -> Record | None:
    def compute() -> Record | None:
        Y = groups(bench, order).test
        factors = ROWS[row](bench, k, order, seed, Y)
        if factors is None:
            return None
        H, W = factors
        found = slot_consistency(H)
        error = relative_error(Y, H @ W).double().mean().item()
        return {"unmatched": found.unmatched, "matched": found.matched, "gap": found.gap, "relative_error": error}

    name = slug(f"bases-{order}-k{k}-{row}-seed{seed}")
    return bench.records.get(name, compute, partial(check_scores, needed=("unmatched", "matched", "relative_error")))


def _equivariance(bench: Workbench, dataset: str, row: str, seed: int) -> Record | None:
    k = bench.study.ks[0]

    def compute() -> Record | None:
        trained = bench.model(dataset, k, row, seed)
        if trained is None:
            return None
        Y = bench.groups(dataset).test
        order = torch.randperm(Y.shape[-1], generator=torch.Generator().manual_seed(seed)).to(Y.device)
        before, after = trained.factorize(Y), trained.factorize(Y[..., order])
        found = permutation_consistency(before.H, after.H)
        change = relative_error(before.Y_hat[..., order], after.Y_hat).double().mean().item()
        return {"unmatched": found.unmatched, "matched": found.matched, "reconstruction": change}

    name = slug(f"equivariance-{dataset}-k{k}-{row}-seed{seed}")
    return bench.records.get(name, compute, partial(check_scores, needed=("unmatched", "matched", "reconstruction")))
