"""Figures 4 to 11 of the paper. A figure whose network was not trained is left out, and the report says so."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

import diffnmf.studies.paper.bases as bases
import diffnmf.studies.paper.table1 as table1
import diffnmf.studies.paper.table2 as table2
import diffnmf.studies.paper.transfer as transfer
from diffnmf.evaluation.rivals import classical
from diffnmf.figures.comparisons import save_lines
from diffnmf.figures.montages import save_decomposition, save_image_grid, save_panels, unit_peak
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import column_error, hoyer_H
from diffnmf.studies.paper.study import FC, NNLS
from diffnmf.studies.paper.workbench import Groups, Workbench

A_ROW = 20  # images, where many groups stand one below the other
Picture = tuple[str, Path]  # what it shows, and the file


def save_pictures(bench: Workbench, folder: Path) -> list[Picture]:
    """Draw every figure that can be drawn; returns their captions and files."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = (_groups, _networks, _hals, _transfers, _ablation, _consistency, _cone_program, _over_k)
    return [picture for part in parts for picture in part(bench, folder)]


def _groups(bench: Workbench, folder: Path) -> Iterator[Picture]:
    for dataset in bench.study.datasets:
        groups, file = bench.groups(dataset), folder / f"fig04-groups-{dataset}.png"
        title = f"A group of {dataset}: {groups.test.shape[-1]} test images"
        save_image_grid(file, groups.test[0].cpu(), groups.image_shape, title=title)
        yield f"Fig. 4: {title[0].lower()}{title[1:]}", file


def _networks(bench: Workbench, folder: Path) -> Iterator[Picture]:
    for dataset in bench.study.datasets:
        for row, name in ((FC, "fc"), (NNLS, "nnls")):
            caption = f"{row}, on an unseen group of {dataset}"
            file = folder / f"fig05-gan-unet-{name}-{dataset}.png"
            if _network_picture(bench, dataset, dataset, row, file, caption):
                yield f"Fig. 5: {caption}", file


def _hals(bench: Workbench, folder: Path) -> Iterator[Picture]:
    for dataset in bench.study.datasets:
        for method, name, what in (
            ("HALS", "published", "HALS as published"),
            ("HALS, accelerated", "accelerated", "HALS, accelerated"),
        ):
            groups, file = bench.groups(dataset), folder / f"fig06-hals-{name}-{dataset}.png"
            Y = groups.test[:1]
            H, W = classical(method, bench.study.ks[0], bench.study.seeds[0]).factorize(Y)
            caption = f"{what}, on the same group of {dataset}"
            _draw(file, (Y[0], H[0], W[0]), groups, caption)
            yield f"Fig. 6: {caption}", file


def _transfers(bench: Workbench, folder: Path) -> Iterator[Picture]:
    for number, (source, target) in enumerate(transfer.pairs(bench)):
        caption = f"{NNLS}, trained on {source}, on a group of {target}"
        file = folder / f"fig{7 + number:02d}-transfer-{source}-to-{target}.png"
        if _network_picture(bench, source, target, NNLS, file, caption):
            yield f"Fig. {7 + number}: {caption}", file


def _ablation(bench: Workbench, folder: Path) -> Iterator[Picture]:
    dataset, k, seed = bench.study.datasets[0], bench.study.ks[0], bench.study.seeds[0]
    groups = bench.groups(dataset)
    Y = groups.test[:1]
    panels = {"Group Y": Y[0].cpu()}
    for row, without in table2.PAIRS.items():
        for name, options in ((without, {"adversarial": False}), (row, {})):
            model = bench.model(dataset, k, row, seed, table2.TAG if options else "", **options)
            if model is not None:
                Y_hat = model.factorize(Y).Y_hat
                panels[f"{name}: column error {column_error(Y, Y_hat).item():.3f}"] = Y_hat[0].cpu()
    if len(panels) > 1:
        file = folder / f"fig09-ablation-{dataset}.png"
        title = "With and without the critic"
        save_panels(file, panels, groups.image_shape, title=title, columns_per_row=min(A_ROW, Y.shape[-1]))
        yield f"Fig. 9: reconstructions with and without the critic, {dataset}", file


def _consistency(bench: Workbench, folder: Path) -> Iterator[Picture]:
    seed = bench.study.seeds[0]
    for k, order in bases.settings(bench):
        groups = bases.groups(bench, order)
        panels: dict[str, Tensor] = {}
        for row in bases.ROWS:
            record = bases.scores(bench, k, order, row).get(seed)
            factors = record and bases.ROWS[row](bench, k, order, seed, groups.test[:3])
            if record is None or not factors:
                continue
            numbers = f"unmatched {record['unmatched']:.2f}, matched {record['matched']:.2f}"
            stacked = torch.cat(list(factors[0]), dim=-1)  # (n, 3k): three groups, one after the other
            panels[f"{row}: {numbers}"] = unit_peak(stacked.cpu())
        if panels:
            file = folder / f"fig10-bases-{order}-k{k}.png"
            title = (
                f"H of three groups of {bench.study.bases_dataset}, k = {k}, m = {bench.study.bases_m}, {order} order"
            )
            save_panels(file, panels, groups.image_shape, title=title, columns_per_row=k, across=2)
            yield f"Fig. 10: {title}; a row is a group", file


def _cone_program(bench: Workbench, folder: Path) -> Iterator[Picture]:
    """The network with W from cvxpylayers. Exact solvers give the same W, so that the trained network serves here."""
    for dataset in bench.study.datasets:
        model = bench.model(dataset, bench.study.ks[0], NNLS, bench.study.seeds[0])
        if model is None:
            continue
        groups = bench.groups(dataset)
        Y = groups.test[:1]
        H = model.factorize(Y).H
        W = NNLSLayer("cvxpylayer", backward="detached")(H, Y)
        file = folder / f"fig11-cvxpylayer-{dataset}.png"
        caption = f"{NNLS}, W by cvxpylayers, Hoyer H {hoyer_H(H).item():.3f}, {dataset}"
        _draw(file, (Y[0], H[0], W[0]), groups, caption)
        yield f"Fig. 11: {caption}", file


def _over_k(bench: Workbench, folder: Path) -> Iterator[Picture]:
    """Not in the paper: how the errors depend on k. The mean image does not depend on it and is left out."""
    rows = [row for row in table1.rows_of(bench) if row != "mean image"]
    for dataset in bench.study.datasets:
        curves = {row: points for row in rows if (points := _points(bench, dataset, row))}
        if len({k for points in curves.values() for k, _, _ in points}) < 2:
            continue
        file, title = folder / f"errors-over-k-{dataset}.png", f"Unseen groups of {dataset}, refit"
        save_lines(file, curves, title=title, x="components k", y="column error, eq. (4)")
        yield f"{title}: column error, eq. (4), over k, mean ± standard deviation over seeds", file


def _points(bench: Workbench, dataset: str, row: str) -> list[tuple[float, float, float]]:
    """(k, mean, standard deviation) of the column error on unseen groups."""
    points = []
    for k in sorted(bench.study.ks):
        errors = table1.values(bench.scores(dataset, k, row), "refit", "column_error")
        if errors:
            points.append((float(k), fmean(errors), stdev(errors) if len(errors) > 1 else 0.0))
    return points


def _network_picture(bench: Workbench, source: str, target: str, row: str, file: Path, caption: str) -> bool:
    """Draw a network, if it has been trained; returns whether it has."""
    model = bench.model(source, bench.study.ks[0], row, bench.study.seeds[0])
    if model is None:
        return False
    groups = bench.groups(target)
    Y = groups.test[0]
    H, W, _ = model.factorize(Y)
    _draw(file, (Y, H, W), groups, caption)
    return True


def _draw(file: Path, factors: tuple[Tensor, Tensor, Tensor], groups: Groups, title: str) -> None:
    Y, H, W = (matrix.cpu() for matrix in factors)
    save_decomposition(file, Y, H, W, groups.image_shape, title=title)
