"""The commands for classical NMF of a file: ``nmf``, ``rank``, ``consensus``."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from diffnmf.cli.reporting import announce_for, explained
from diffnmf.hardware import DEVICE_HELP, device_named
from diffnmf.runs.large_files import ENDINGS, factorize_large_file, is_large, process_count
from diffnmf.runs.nmf_files import factorize_table, score_consensus, score_ranks

Data = Annotated[
    Path,
    typer.Argument(
        help="A folder of images, or a file: .npy, .npz, .csv, .tsv, .mtx or .parquet, with a sample in each row.",
        show_default=False,
    ),
]
Output = Annotated[Path, typer.Option(help="The folder for what is written.", show_default=False)]
OwnOutput = Annotated[Path, typer.Option("--output", help="The folder for what is written.")]  # with a default
Resize = Annotated[
    tuple[int, int] | None,
    typer.Option(
        "--resize", help="Height and width that the images of a folder are scaled to.", show_default="as they are"
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the files that --output holds.")]
Seed = Annotated[int, typer.Option(min=0, help="Of random starts.")]
MaxIter = Annotated[int, typer.Option(min=0, help="Iterations at the most.")]
Missing = Annotated[
    str,
    typer.Option(
        help="ignore: what is empty or NaN does not count. unstored: nor does what a sparse file does not store, as in"
        " a table of ratings. error: refuse what is missing."
    ),
]
AlphaW = Annotated[float, typer.Option(min=0, help="Penalty of the weights, as in scikit-learn.")]
AlphaH = Annotated[
    float | None, typer.Option(min=0, help="Penalty of the components.", show_default="that of the weights")
]
L1Ratio = Annotated[float, typer.Option(min=0, max=1, help="Share of the sum in the penalties.")]
Ks = Annotated[
    str,
    typer.Option("--k", help="Numbers of components: 2:20 for 2 to 20, 5:50:5 in steps, or 3,5,8.", show_default=False),
]

MOST_NUMBERS = 1000  # of components that are tried: each takes a fit at least


def nmf(
    data: Data,
    output: Output,
    k: Annotated[int, typer.Option(min=1, help="Components.", show_default=False)],
    solver: Annotated[str, typer.Option(help="hals, anls or mu.")] = "hals",
    beta_loss: Annotated[
        str, typer.Option(help="frobenius; with --solver mu kullback-leibler, itakura-saito, or a number.")
    ] = "frobenius",
    init: Annotated[
        str | None,
        typer.Option(
            help="Where to start: auto, merge, random, nndsvd, nndsvda, nndsvdar, spa or uniform.",
            show_default="that of the solver",
        ),
    ] = None,
    n_init: Annotated[int, typer.Option(min=1, help="Starts, of which the best is kept; several are random.")] = 1,
    missing: Missing = "ignore",
    alpha_w: AlphaW = 0.0,
    alpha_h: AlphaH = None,
    l1_ratio: L1Ratio = 0.0,
    tol: Annotated[float, typer.Option(min=0, help="Of the projected gradient; 0 runs all iterations.")] = 1e-4,
    max_iter: MaxIter = 1000,
    seed: Seed = 0,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP, show_default="cpu")] = None,
    max_memory: Annotated[
        float,
        typer.Option(help="Megabytes: a larger .npy file is read in blocks, pass after pass.", min=1),
    ] = 1000.0,
    resize: Resize = None,
    overwrite: Overwrite = False,
) -> None:
    """Factorise a table, or a folder of images: components and weights with their names, and pictures of images.

    What is missing (an empty cell, a NaN) does not count; with --missing unstored what a sparse file does not store.

    What is larger than --max-memory, a folder of .npy shards, .zarr and .h5 are read in blocks. Such a run goes on when
    the same command is given again, and `torchrun --nproc-per-node 4 -m diffnmf nmf ...` shares it among processes.
    """
    with explained():
        if resize is None and is_large(data, 1e6 * max_memory):
            way = partial(factorize_large_file, max_memory=1e6 * max_memory)
        elif process_count() > 1:
            raise ValueError(
                f"data: expected what several processes can share, {', '.join(ENDINGS)} or a folder of .npy shards; got"
                f" {data} (save it as .npy, or leave torchrun out)"
            )
        else:  # who scales has images, or is told so
            way = partial(factorize_table, resize=resize)
        found = way(
            data,
            output,
            k,
            overwrite=overwrite,
            announce=announce_for(output),
            solver=solver,
            beta_loss=_number_or_name(beta_loss),
            init=init,
            n_init=n_init,
            missing=missing,
            **_alphas(alpha_w, alpha_h, l1_ratio),
            tol=tol,
            max_iter=max_iter,
            random_state=seed,
            device=None if device is None else str(device_named(device)),
        )
    if int(os.environ.get("RANK", "0")) > 0:
        return  # the first process speaks for all
    if not found.converged:
        typer.echo(f"Warning: not converged to --tol {tol} in --max-iter {max_iter} iterations", err=True)
    relative = found.relative_error
    typer.echo(f"relative error {relative:.4f}" if relative == relative else f"divergence, √(2 Σ d): {found.loss:.6g}")
    for file in found.files:
        typer.echo(file)


def rank(
    data: Data,
    ks: Ks,
    output: OwnOutput = Path("rank"),
    folds: Annotated[int, typer.Option(min=2, help="Parts of the entries, each of which is hidden once.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Iterations of each fit.")] = 50,
    missing: Missing = "ignore",
    alpha_w: AlphaW = 0.0,
    alpha_h: AlphaH = None,
    l1_ratio: L1Ratio = 0.0,
    seed: Seed = 0,
    resize: Resize = None,
    overwrite: Overwrite = False,
) -> None:
    """How many components predict hidden entries best: a table and a picture.

    The penalties are those that nmf is to be called with.
    """
    with explained():
        numbers = numbers_of(ks)
        options: dict[str, Any] = {"folds": folds, "rounds": rounds, "seed": seed, "missing": missing}
        options |= _alphas(alpha_w, alpha_h, l1_ratio)
        options |= {"resize": resize, "overwrite": overwrite, "announce": announce_for(output)}
        scores = score_ranks(data, output, numbers, **options)
    for i, k in enumerate(scores.ks):
        typer.echo(f"{k:4d}  {float(scores.mean[i]):.4f} ± {float(scores.std[i]):.4f}")
    if int(scores.best) == 0:
        typer.echo("Warning: no best k: all that a fold hides is zero (take fewer --folds, or more data)", err=True)
    else:
        typer.echo(f"smallest error on hidden entries: k = {int(scores.best)}")
    typer.echo(output / "rank.png")


def consensus(
    data: Data,
    ks: Ks,
    output: OwnOutput = Path("consensus"),
    n_init: Annotated[int, typer.Option(min=2, help="Random starts for every k.")] = 20,
    keep: Annotated[float, typer.Option(help="The share of them that counts, the best ones.")] = 0.8,
    tol: Annotated[float, typer.Option(min=0, help="As for nmf.")] = 1e-3,
    max_iter: MaxIter = 500,
    missing: Missing = "ignore",
    alpha_w: AlphaW = 0.0,
    alpha_h: AlphaH = None,
    l1_ratio: L1Ratio = 0.0,
    seed: Seed = 0,
    resize: Resize = None,
    overwrite: Overwrite = False,
) -> None:
    """How stable the components of many random starts are, for several k: tables, a picture, the common components.

    The penalties are those that nmf is to be called with.
    """
    with explained():
        numbers = numbers_of(ks)
        options: dict[str, Any] = {"n_init": n_init, "keep": keep, "tol": tol, "max_iter": max_iter, "seed": seed}
        options |= {"missing": missing, **_alphas(alpha_w, alpha_h, l1_ratio)}
        options |= {"resize": resize, "overwrite": overwrite, "announce": announce_for(output)}
        scores = score_consensus(data, output, numbers, **options)
    typer.echo("   k  silhouette: mean, least  relative error")
    for i, k in enumerate(scores.ks):
        mean, least, error = (float(x[i]) for x in (scores.stability, scores.least, scores.error))
        typer.echo(f"{k:4d}  {mean:16.3f}  {least:5.3f}  {error:14.4f}")
    typer.echo(output / "consensus.png")


def numbers_of(text: str) -> list[int]:
    """The numbers of "2:20", "5:50:5" or "3,5,8".

    Raises:
        ValueError: it is none of these, or more than 1,000 numbers.
    """
    try:
        found: list[int] = []
        for part in text.split(","):
            ends = [int(x) for x in part.split(":")]
            first, last, step = ends[0], ends[min(1, len(ends) - 1)], ends[2] if len(ends) > 2 else 1
            if len(ends) > 3 or first < 1 or last < first or step < 1:
                raise ValueError
            numbers = range(first, last + 1, step)
            if len(found) + len(numbers) > MOST_NUMBERS:
                raise ValueError
            found += numbers
    except ValueError:
        expected = f"expected numbers ≥ 1 such as 2:20, 5:50:5 or 3,5,8, at most {MOST_NUMBERS} of them"
        raise ValueError(f"k: {expected}; got {text!r}") from None
    return found


def _alphas(alpha_w: float, alpha_h: float | None, l1_ratio: float) -> dict[str, Any]:
    """As the parameters of ``NMF``."""
    return {"alpha_W": alpha_w, "alpha_H": "same" if alpha_h is None else alpha_h, "l1_ratio": l1_ratio}


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
