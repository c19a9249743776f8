"""Classical NMF of a file: what the commands ``nmf``, ``rank`` and ``consensus`` do and write."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from diffnmf.checks import check_count
from diffnmf.data.tables import Table, read_table
from diffnmf.factorization import (
    ConsensusScores,
    RankScores,
    consensus_curve,
    cross_validate_rank,
    svd_curve,
)
from diffnmf.factorization.alphas import Alphas
from diffnmf.figures.curves import save_consensus, save_rank_selection
from diffnmf.figures.montages import save_image_grid, unit_peak
from diffnmf.files import (
    check_output,
    explained_errors,
    explained_replacing,
    replacing_together,
    write_json,
)
from diffnmf.lock import free_folder
from diffnmf.solvers.norms import safe_norm

Announce = Callable[[str], None]
# What nmf writes, some of it for a table in memory and some for one in blocks.
FILES = ("components.csv", "weights.csv", "weights.npy", "factors.npz", "summary.json", "components.png")


class TableFactors(NamedTuple):
    """What ``factorize_table`` found: weights (N, k), components (k, F), ‖X − WH‖ / ‖X‖ (nan for other losses)."""

    weights: np.ndarray
    components: np.ndarray
    relative_error: float
    loss: float
    converged: bool
    files: list[Path]


def factorize_table(
    data: str | Path,
    output: str | Path,
    k: int,
    *,
    resize: tuple[int, int] | None = None,
    overwrite: bool = False,
    announce: Announce | None = None,
    **options: Any,
) -> TableFactors:
    """Factorise the table in a file with ``diffnmf.NMF``, and write factors and pictures into a folder.

    Arguments:
        data: as ``read_table`` takes it.
        output: the folder: components.csv, weights.csv, with the names of rows and columns, factors.npz, summary.json,
            and components.png where the rows are images.
        k: components.
        resize: as ``read_table`` takes it.
        overwrite: whether what ``nmf`` wrote there earlier may be replaced.
        announce: told what is about to be done.
        options: parameters of ``NMF``. ``missing`` is "ignore" unless given.

    Raises:
        ValueError: names what is wrong with the data or an option.
        RunFolderError: the folder holds such files already, or another process writes into it.
    """
    import warnings

    from diffnmf.factorization.estimator import NMF
    from diffnmf.factorization.estimator_fit import NMFConvergenceWarning

    k = check_count("k", k, at_least=1)
    output = Path(output)
    with free_folder(output, FILES, overwrite):
        table = _announced(data, resize, announce)
        model = NMF(k, **{"missing": "ignore", **options})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NMFConvergenceWarning)
            weights = model.fit_transform(table.X)
        for entry in caught:
            if not issubclass(entry.category, NMFConvergenceWarning):
                warnings.warn(entry.message, stacklevel=2)
        converged = not any(issubclass(entry.category, NMFConvergenceWarning) for entry in caught)
        error = model.reconstruction_err_
        relative = error / _norm(table) if options.get("beta_loss", "frobenius") == "frobenius" else float("nan")
        summary = {"data": str(data), "shape": list(table.X.shape), "k": k, "iterations": model.n_iter_}
        summary |= {"converged": converged, "loss": error, "relative_error": relative}
        files = _save_factors(output, table, weights, model.components_, summary)
    return TableFactors(weights, model.components_, relative, error, converged, files)


def _save_factors(
    output: Path, table: Table, weights: np.ndarray, components: np.ndarray, summary: dict[str, Any]
) -> list[Path]:
    """All files, or none: those of two factorisations must not stand beside each other."""
    names = [f"component_{i + 1}" for i in range(len(components))]
    with explained_errors(output), replacing_together(output) as unfinished:
        save_named(unfinished / "components.csv", components, names, table.columns)
        save_named(unfinished / "weights.csv", weights, table.rows, names)
        with explained_replacing(unfinished / "factors.npz") as file, file.open("wb") as stream:
            np.savez_compressed(stream, W=weights, H=components)
        write_json(unfinished / "summary.json", summary)
        if table.image_shape is not None:
            H, title = unit_peak(torch.from_numpy(components).T), "components, each at its own brightest"
            save_image_grid(unfinished / "components.png", H, table.image_shape, title=f"{len(components)} {title}")
    files = [output / name for name in ("components.csv", "weights.csv", "factors.npz", "summary.json")]
    files += [output / "components.png"] * (table.image_shape is not None)
    remove_others(files)
    return files


def score_ranks(
    data: str | Path,
    output: str | Path,
    ks: Sequence[int],
    *,
    resize: tuple[int, int] | None = None,
    missing: str = "ignore",
    alpha_W: float = 0.0,
    alpha_H: float | str = "same",
    l1_ratio: float = 0.0,
    overwrite: bool = False,
    announce: Announce | None = None,
    **options: Any,
) -> RankScores:
    """``cross_validate_rank`` of the table in a file; writes rank.csv and rank.png into a folder.

    The penalties are those of ``NMF``.
    """
    output = Path(output)
    alphas = Alphas.checked(alpha_W, alpha_H, l1_ratio)
    with free_folder(output, ["rank.csv", "rank.png"], overwrite):
        table = _announced(data, resize, announce)
        whole = missing != "unstored"
        X = table.X.toarray() if whole and not isinstance(table.X, np.ndarray) else table.X
        options |= alphas.penalties(*X.shape)
        scores = cross_validate_rank(X, ks, missing=missing, **options)
        svd = svd_curve(X, max(ks)) if whole and not np.isnan(X).any() else None
        header = ["k", "held_out_error", "std", "svd"]
        rows = [
            [k, float(scores.mean[i]), float(scores.std[i]), "" if svd is None else float(svd[k])]
            for i, k in enumerate(scores.ks)
        ]
        with explained_errors(output), replacing_together(output) as unfinished:
            _save_rows(unfinished / "rank.csv", [header, *rows])
            save_rank_selection(unfinished / "rank.png", scores, svd, title=str(Path(data).name))
    return scores


def score_consensus(
    data: str | Path,
    output: str | Path,
    ks: Sequence[int],
    *,
    resize: tuple[int, int] | None = None,
    missing: str = "ignore",
    alpha_W: float = 0.0,
    alpha_H: float | str = "same",
    l1_ratio: float = 0.0,
    overwrite: bool = False,
    announce: Announce | None = None,
    **options: Any,
) -> ConsensusScores:
    """``consensus_curve`` of the table in a file; writes consensus.csv, consensus.png and the components of each k.

    The penalties are those of ``NMF``.
    """
    output = Path(output)
    alphas = Alphas.checked(alpha_W, alpha_H, l1_ratio)
    files = ["consensus.csv", "consensus.png", *(f"components_{k}.csv" for k in ks)]
    check_output(output)
    numbered = [file.name for file in output.glob("components_*.csv") if file.stem[len("components_") :].isdecimal()]
    others = sorted(set(numbered) - set(files))  # of an earlier call, for other k: they go with the rest of it
    with free_folder(output, [*files, *others], overwrite):
        table = _announced(data, resize, announce)
        options |= alphas.penalties(*table.X.shape)
        scores = consensus_curve(table.X, ks, missing=missing, **options)
        columns = (scores.stability, scores.least, scores.error, scores.best_error)
        rows = [[k, *(float(x[i]) for x in columns)] for i, k in enumerate(scores.ks)]
        header = ["k", "mean_silhouette", "least_silhouette", "relative_error", "relative_error_of_the_best"]
        with explained_errors(output), replacing_together(output) as unfinished:
            _save_rows(unfinished / "consensus.csv", [header, *rows])
            save_consensus(unfinished / "consensus.png", scores, title=str(Path(data).name))
            for k, found in zip(scores.ks, scores.found, strict=True):
                names = [f"component_{i + 1}" for i in range(k)]
                save_named(unfinished / f"components_{k}.csv", found.H.T.numpy(), names, table.columns)
        for name in others:
            (output / name).unlink(missing_ok=True)
    return scores


def _norm(table: Table) -> float:
    entries = _entries(table)
    entries = entries.astype(np.promote_types(entries.dtype, np.float32), copy=False)
    return float(safe_norm(torch.from_numpy(np.nan_to_num(entries).ravel()), dim=0)) or 1.0


def _entries(table: Table) -> np.ndarray:
    """Those of an array, or those that a sparse matrix stores."""
    return table.X if isinstance(table.X, np.ndarray) else table.X.data


def _announced(data: str | Path, resize: tuple[int, int] | None, announce: Announce | None) -> Table:
    """The table, and what it is."""
    table = read_table(data, resize=resize)
    samples, features = table.X.shape
    if isinstance(table.X, np.ndarray):
        unknown = np.isnan(table.X).mean()
        more = f", {unknown:.1%} missing" if unknown else ""
        more += _without_any("samples", table.X, table.rows)
        more += _without_any("features", table.X.T, table.columns)
    else:
        more = f", {table.X.nnz / max(1, samples * features):.2%} stored"
    if announce is not None:
        # What has been taken for names may have been meant as numbers.
        named = table.rows if table.rows and table.image_shape is None else []
        names = f", named {' to '.join(map(repr, dict.fromkeys((named[0], named[-1]))))}," if named else ""
        announce(f"{data}: {samples} samples{names} of {features} features{more}")
    return table


def _without_any(what: str, X: np.ndarray, names: Sequence[str] | None) -> str:
    """A remark on the rows of X, samples or features, of which every value is missing: nothing is known of them."""
    empty = np.asarray(np.isnan(X).all(axis=1))
    if not empty.any():
        return ""
    first = int(empty.argmax())
    name = repr(names[first]) if names else f"number {first + 1}"
    return f"; {int(empty.sum())} {what} without any value, such as {name}, of which nothing can be said"


def remove_others(files: Sequence[Path]) -> None:
    """Remove what an earlier ``nmf`` has written into the folder of these and these do not replace."""
    for name in FILES:
        if files[0].with_name(name) not in files:
            files[0].with_name(name).unlink(missing_ok=True)


def save_named(path: Path, matrix: np.ndarray, rows: list[str] | None, columns: list[str] | None) -> None:
    """A matrix with the names of its rows and columns; numbers where there are none."""
    rows = [str(i) for i in range(len(matrix))] if rows is None else rows
    columns = [str(i) for i in range(matrix.shape[1])] if columns is None else columns
    lines = ([name, *(f"{x:.9g}" for x in values)] for name, values in zip(rows, matrix, strict=True))
    _save_rows(path, [["", *columns], *lines])


def _save_rows(path: Path, rows: list[list[Any]]) -> None:
    with explained_replacing(path) as file, file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
