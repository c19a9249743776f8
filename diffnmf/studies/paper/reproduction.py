"""``diffnmf reproduce``: measure what is missing, then write the report."""

from collections.abc import Mapping
from pathlib import Path

import torch

import diffnmf.studies.paper.bases as bases
import diffnmf.studies.paper.table1 as table1
import diffnmf.studies.paper.table2 as table2
import diffnmf.studies.paper.transfer as transfer
from diffnmf.data import ORDERS
from diffnmf.files import write_csv
from diffnmf.runs import RunConfig
from diffnmf.studies.paper.claims import claims
from diffnmf.studies.paper.pictures import Picture, save_pictures
from diffnmf.studies.paper.saved_study import check_study, save_study
from diffnmf.studies.paper.study import Study
from diffnmf.studies.paper.workbench import Groups, Workbench
from diffnmf.studies.progress import Announce, Progress
from diffnmf.studies.report import check_folder, definition_list, explained_results, markdown_table, write_report

CITATION = (
    'The paper: Sihan Wei, "GAN-UNET: Non-negative Matrix Factorization Using Deep Neural Networks", University of '
    "Minnesota."
)
SMOKE = "Smoke run: the numbers mean nothing. It shows only that every part runs; nothing was trained to its end."
PROTOCOLS_TEXT = """\
*fit*: a training group is factorised. *frozen*: HW of a training group is compared with a test group that the method
never saw, which the paper prints as the test error of ANLS, MU and HALS. *refit_w*: H of the training group is kept,
and W is solved for on the test group. *refit*: the test group itself is factorised; for a network this is its test
error. Copying k of the m images scores well in the column error, a mean of unsquared norms (*spa*). The relative error
of the SVD is a lower bound for that of every other method. Times are wall-clock, on a machine that may have had other
work to do."""


def reproduce(
    study: Study,
    output: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Announce = lambda message: None,
    report_only: bool = False,
) -> Path:
    """Measure what is missing of a study, and write OUTPUT/report.md and report.html.

    Every measurement and every trained network is kept, so that an interrupted reproduction continues where it stopped.

    Arguments:
        study: what is measured.
        output: a folder; created if it does not exist.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done, how far the study is, and how long the rest may take.
        report_only: neither train nor measure; report what exists, and list what is missing.

    Returns:
        The HTML report.

    Raises:
        ValueError: there are more components than there is anything to merge into them.
        RunFolderError: OUTPUT contains a reproduction with other options, or cannot be written.
        DataUnavailableError: a data set could neither be found nor downloaded.
    """
    output = Path(output)
    check_folder(output)
    check_study(study, output)
    bench = Workbench(study, output, data_dir=data_dir, device=device, announce=announce, measure=not report_only)
    for dataset in study.datasets:
        groups = bench.groups(dataset)  # a data set that is unavailable is noticed before anything is written
        if not report_only:
            _check_ks(study, dataset, groups)
    for order in ORDERS:
        bases.groups(bench, order)
    save_study(study, output)
    for warning in _warnings(study):
        announce(warning)
    if not report_only:
        _measure(bench, announce)
    announce("drawing and writing the report")
    bench.allow_measuring(False)
    with explained_results(output):
        pictures = save_pictures(bench, output / "pictures")
        if rows := list(table1.csv_rows(bench)):
            write_csv(output / "table1.csv", rows)
        _, page = write_report(output, "report", _report(bench, pictures))
    if study.smoke:
        announce(SMOKE)  # again, since the first one has scrolled away
    return page


def _check_ks(study: Study, dataset: str, groups: Groups) -> None:
    """Raise where there is nothing to merge into so many components: some rows of the tables could not be measured."""
    n, m = groups.test.shape[-2:]
    if max(study.ks) > max(n, m):
        raise ValueError(
            f"k: expected at most {max(n, m)}, the larger of the pixels and the images of a group of {dataset}, {n} and"
            f" {m}; got {max(study.ks)}"
        )


def _warnings(study: Study) -> list[str]:
    """What is to be known of the numbers of a study before all else."""
    found = [SMOKE] if study.smoke else []
    m = study.config.data.group_size
    if many := ", ".join(str(k) for k in study.ks if k >= m):
        found.append(
            f"k = {many}: with as many components as a group has images, {m}, copying them is a factorisation without "
            "error, and the rows of the tables tell little. ANLS is very slow where k is in the hundreds."
        )
    return found


def _measure(bench: Workbench, announce: Announce) -> None:
    """Train and measure what is missing; a first pass, which measures nothing, counts it."""
    parts = (table1, table2, transfer, bases)
    bench.allow_measuring(False)
    for part in parts:
        part.measure(bench)
    bench.records.begin = Progress(len(bench.records.missing), announce).begin
    bench.records.missing.clear()
    bench.allow_measuring(True)
    for part in parts:
        part.measure(bench)


def _report(bench: Workbench, pictures: list[Picture]) -> str:
    study, config = bench.study, bench.study.config
    table_1 = "\n\n".join(table1.tables(bench))
    table_2, transfers = table2.table(bench), transfer.table(bench)
    consistency, equivariance = bases.table(bench), bases.equivariance_table(bench)
    verdicts = [[claim.text, claim.verdict, claim.numbers] for claim in claims(bench)]
    training = config.training
    lines = [
        "# The GAN-UNET paper, reproduced",
        "",
        CITATION,
        "",
        *(line for warning in _warnings(study) for line in (f"> **{warning}**", "")),
        f"Measured: {'; '.join(sorted(bench.records.made)) or 'nothing yet'}. Data sets: "
        f"{', '.join(study.datasets)}; m = {config.data.group_size}, columns in {config.data.order} order; means over "
        f"{_groups(study)}, ± standard deviation over {len(study.seeds)} seeds. Networks: width "
        f"{config.model.width}, {training.epochs} epochs, batches of {training.batch_size}, unless stated "
        "otherwise. All options of a network are in the `config.yaml` of its run.",
        "",
        "## Scores",
        "",
        definition_list(("column_error", "relative_error", *table1.OTHERS)),
        "",
        "## What the paper claims, and what held",
        "",
        markdown_table(["claim", "here", "numbers"], verdicts),
        "",
        "## Table 1: reconstruction",
        "",
        PROTOCOLS_TEXT,
        "",
        table_1,
        "",
        f"## Table 2: with and without the critic ({study.datasets[0]}, k = {study.ks[0]})",
        "",
        table_2,
        "",
        "## Figs. 7, 8: on images of another data set",
        "",
        transfers,
        "",
        f"## Fig. 10: bases of different groups ({study.bases_dataset})",
        "",
        "Mean cosine of equal slots of H in two groups (*unmatched*), after the best matching of slots (*matched*), "
        "and their gap. With k = m and columns sorted by class, the images themselves agree best. Only k < m, or "
        "random order, shows whether the slots of a method have a meaning.",
        "",
        consistency,
        "",
        "The columns of Y are permuted. Does H keep its slots, does it find the same parts in other slots, and how "
        "much does the reconstruction change (relative to its norm)?",
        "",
        equivariance,
        "",
        "## How the networks were trained",
        "",
        "The options of the first line replace the defaults of `diffnmf train` in all networks. The options of a "
        "network replace both.",
        "",
        markdown_table(["network", "options"], _options(study)),
        "",
        "## Figures",
        "",
        *(f"![{caption}]({file.relative_to(bench.output)})\n\n{caption}\n" for caption, file in pictures),
    ]
    if undrawn := [f"Fig. {n}" for n in range(4, 12) if not any(f"fig{n:02d}" in file.name for _, file in pictures)]:
        lines += [f"Not drawn, because what they show was not run: {', '.join(undrawn)}.", ""]
    if bench.records.missing:
        lines += ["## Not run", "", *(f"- {name}" for name in sorted(bench.records.missing)), ""]
    return "\n".join(lines)


def _options(study: Study) -> list[list[str]]:
    """The options of each network, in general and for single data sets."""
    defaults = RunConfig().options()
    common = {name: value for name, value in study.config.options().items() if value != defaults[name]}
    rows = [["all", _plain(common)], *([row, _plain(options)] for row, options in study.models.items())]
    for dataset, changes in study.by_dataset.items():
        if dataset in study.datasets:
            rows += [[f"{row}, on {dataset}", _plain(options)] for row, options in changes.items()]
    return [*rows, ["Fig. 10", _plain({"group_size": study.bases_m, **study.bases_options})]]


def _plain(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in options.items())


def _groups(study: Study) -> str:
    fewer = [f"{count} of {name}" for name, count in study.fewer_groups.items() if name in study.datasets]
    return f"{study.groups} groups" + (f" ({', '.join(fewer)})" if fewer else "")
