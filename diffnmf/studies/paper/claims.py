"""The claims of the paper: whether each held here, and the numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import diffnmf.studies.paper.bases as bases
import diffnmf.studies.paper.table2 as table2
import diffnmf.studies.paper.transfer as transfer
from diffnmf.studies.paper.study import FC, MIXTURE, NNLS
from diffnmf.studies.paper.table1 import printed, values
from diffnmf.studies.paper.workbench import Workbench

HELD, IN_PART, FELL = "held", "held in part", "did not hold"
NOT_DECIDED, NOT_RUN = "not decided", "not run"
SMOKE_RUN = f"{NOT_DECIDED}: smoke run"
CONFIDENCE = 0.95  # of the one-sided test behind "held" and "did not hold"
AS_GOOD = 1.2  # times the error of ANLS at the most: bases that agree but reconstruct badly are no evidence


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        text: what is claimed, and where.
        verdict: "held", "held in part", "did not hold", "not decided" (too few seeds, or no test of the claim) or "not
            run"; some with a reason after a colon.
        numbers: what was measured.
    """

    text: str
    verdict: str
    numbers: str


def claims(bench: Workbench) -> list[Claim]:
    """Every claim, in the order of the paper."""
    parts = (_generalises, _reaches, _critic_helps, _transfers, _agrees, _sparser)
    found = [claim for part in parts for claim in part(bench)]
    if bench.study.smoke:
        found = [claim if claim.verdict == NOT_RUN else replace(claim, verdict=SMOKE_RUN) for claim in found]
    return found


def verdict_on(differences: Sequence[float]) -> str:
    """Whether differences, one for each seed, are below zero: Student's t-test, one-sided."""
    if not differences:
        return NOT_RUN
    if len(differences) < 2:
        return NOT_DECIDED
    from scipy.stats import t

    margin = t.ppf(CONFIDENCE, len(differences) - 1) * stdev(differences) / len(differences) ** 0.5
    if fmean(differences) < -margin:
        return HELD
    return FELL if fmean(differences) > margin else NOT_DECIDED


def _generalises(bench: Workbench) -> Iterator[Claim]:
    k = bench.study.ks[0]
    for dataset in bench.study.datasets:
        text = f"Table 1: GAN-UNET generalises better than ANLS ({dataset})"
        network = values(bench.scores(dataset, k, FC), "refit", "column_error")
        anls = bench.scores(dataset, k, "ANLS")
        if not network or not anls:
            yield Claim(text, NOT_RUN, "")
            continue
        ours = fmean(network)
        frozen, refit_w, refit = (
            fmean(values(anls, protocol, "column_error")) for protocol in ("frozen", "refit_w", "refit")
        )
        verdict = HELD if ours < refit else FELL
        if refit <= ours < frozen:
            verdict = (
                f"{IN_PART}: {'also when W is solved for' if ours < refit_w else 'by the protocol of the paper alone'}"
            )
        numbers = (
            f"column error on unseen groups {ours:.3f}; ANLS: {frozen:.3f} when HW of another group is compared with "
            f"them, as in the paper, {refit_w:.3f} when W is solved for, {refit:.3f} when it factorises them itself"
        )
        yield Claim(text, verdict, numbers)


def _reaches(bench: Workbench) -> Iterator[Claim]:
    k = bench.study.ks[0]
    for dataset in bench.study.datasets:
        in_print = printed(bench, dataset, k, FC)
        if in_print is None or in_print[1] is None:
            continue
        text = f"Table 1: GAN-UNET with fc has a test error of {in_print[1]} ({dataset})"
        found = {row: values(bench.scores(dataset, k, row), "refit", "column_error") for row in (FC, NNLS, MIXTURE)}
        numbers = ", ".join(f"{row} {fmean(errors):.3f}" for row, errors in found.items() if errors)
        yield Claim(text, verdict_on([error - in_print[1] for error in found[FC]]), numbers)


def _critic_helps(bench: Workbench) -> Iterator[Claim]:
    for row in table2.PAIRS:
        found = table2.differences(bench, row)
        listed = ", ".join(f"{difference:+.3f}" for difference in found)
        numbers = f"column error with it minus without, seed by seed: {listed}" if found else ""
        text = f"Table 2: the critic lowers the error ({row}, {bench.study.datasets[0]})"
        yield Claim(text, verdict_on(found), numbers)


def _transfers(bench: Workbench) -> Iterator[Claim]:
    k = bench.study.ks[0]
    for source, target in transfer.pairs(bench):
        text = f"Figs. 7, 8: a network trained on {source} factorises {target}"
        there = values(transfer.scores(bench, source, target, FC), "refit", "relative_error")
        home = values(bench.scores(target, k, FC), "refit", "relative_error")
        mean = values(bench.scores(target, k, "mean image"), "refit", "relative_error")
        with_nnls = values(transfer.scores(bench, source, target, NNLS), "refit", "relative_error")
        if not (there and home and mean and with_nnls):
            yield Claim(text, NOT_RUN, "")
            continue
        numbers = (
            f"relative error {fmean(there):.3f} (trained there {fmean(home):.3f}, with NNLS {fmean(with_nnls):.3f}; "
            f"the mean image of each group {fmean(mean):.3f})"
        )
        close = fmean(there) < 1.1 * fmean(home)
        yield Claim(text, HELD if close else IN_PART if fmean(there) < fmean(mean) else FELL, numbers)


def _agrees(bench: Workbench) -> Iterator[Claim]:
    m = bench.study.bases_m
    for k, order in bases.settings(bench):
        text = f"Fig. 10: bases agree between groups (k = {k}, m = {m}, {order} order)"
        found = {row: bases.scores(bench, k, order, row) for row in bases.ROWS}
        if not all(found.values()):
            yield Claim(text, NOT_RUN, "")
            continue
        cosine, error = (
            {row: fmean(record[name] for record in records.values()) for row, records in found.items()}
            for name in ("unmatched", "relative_error")
        )
        listed = ", ".join(f"{row} {cosine[row]:.2f} (relative error {error[row]:.3f})" for row in found)
        verdict = _agreement(cosine, error)
        if k == m and order == "class":
            verdict = f"{NOT_DECIDED}: copies of the images agree as well"
        yield Claim(text, verdict, f"cosine of equal slots: {listed}")


def _agreement(cosine: Mapping[str, float], error: Mapping[str, float]) -> str:
    """Whether the network is more consistent than its rivals, and reconstructs nearly as well as ANLS."""
    if cosine[bases.NETWORK] <= cosine[bases.ANLS_RANDOM]:
        return FELL
    if error[bases.NETWORK] > AS_GOOD * error[bases.ANLS_RANDOM]:
        return f"{IN_PART}: they agree, but reconstruct much worse than those of ANLS"
    return HELD if cosine[bases.NETWORK] > max(cosine[bases.ANLS_FIXED], cosine[bases.COPIES]) else IN_PART


def _sparser(bench: Workbench) -> Iterator[Claim]:
    k = bench.study.ks[0]
    for dataset in bench.study.datasets:
        text = f"Fig. 11: H is sparser with weights by NNLS than by fc ({dataset})"
        fc, nnls = (bench.scores(dataset, k, row) for row in (FC, NNLS))
        pairs = [
            (fc[seed]["refit"]["hoyer_H"], nnls[seed]["refit"]["hoyer_H"])
            for seed in fc
            if seed in nnls and all("hoyer_H" in record["refit"] for record in (fc[seed], nnls[seed]))
        ]
        numbers = ""
        if pairs:
            numbers = (
                f"Hoyer sparsity of H: NNLS {fmean(b for _, b in pairs):.3f}, fc {fmean(a for a, _ in pairs):.3f}. "
                "NNLS continues from the trained network of fc, with the column error as its loss (see below). To "
                "compare W-solvers from the same start and with the same budget, use `diffnmf compare`"
            )
        yield Claim(text, verdict_on([a - b for a, b in pairs]), numbers)
