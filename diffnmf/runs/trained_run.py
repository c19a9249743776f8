"""A run that has been trained, opened again to score it."""

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffnmf.data import DataSplit
from diffnmf.errors import CheckpointWarning, RunFolderError
from diffnmf.files import check_output, write_json
from diffnmf.models import GANUNMF
from diffnmf.models.pretrained import WITH_WEIGHTS, is_pretrained, registry
from diffnmf.models.saved_model import default_weights
from diffnmf.runs.config import DataConfig, RunConfig
from diffnmf.runs.parts import load_run_data
from diffnmf.runs.places import absolute_dataset, check_images_are_there, fingerprint
from diffnmf.runs.run_folder import RunFolder
from diffnmf.runs.scores import score_run
from diffnmf.runs.weights import holds, load_trained


def evaluate_run(
    run: str | Path,
    *,
    weights: str | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Callable[[str], None] = lambda message: None,
    on_scores: Callable[[dict[str, Any]], None] = lambda scores: None,
) -> dict[str, Any]:
    """Score the weights of a run on training and test groups, beside its rivals, and write RUN/evaluation.json.

    Arguments:
        run: the run folder, or the name of a pretrained model; nothing is written then.
        weights: "best", "generator" or "ema"; by default the first of these that is there.
        dataset: other images than those of the run, of the same size: how does it carry over? Or those of the run,
            where they have been moved.
        data_dir: where the data sets are, or are downloaded to.
        device: where to compute.
        announce: told what is about to be done.
        on_scores: called with what is returned, before it is written: a full disk does not take the scores away.

    Raises:
        RunFolderError: no run, or one whose files do not fit together, whose weights are not finite, or whose images
            are no longer there, or others; or its folder cannot be written to.
        ValueError: the images are of another size than those of the run.

    Returns:
        What is in evaluation.json: ``dataset``, ``weights``, and the scores ``train`` and ``test``.

    Example:
        >>> from diffnmf.runs import evaluate_run
        >>> test = evaluate_run("digits-k16")["test"]
        >>> test["relative_error"] < test["spa"]["relative_error"]
        True
    """
    folder = None
    _check_exists(run)
    if is_pretrained(run):
        known = registry()[str(run)]
        model, trained_on, seed = open_model(run, weights, device), DataConfig(**known["data"]), known["seed"]
    else:
        folder, config = RunFolder.open(run)
        check_output(folder.path)
        if weights is None:
            weights = default_weights(folder.path)  # now: a training that goes on may write better ones
        model, trained_on, seed = load_model_of(folder, config, weights, device), config.data, config.training.seed
        if dataset is None:
            check_images_are_there(config.data, folder.config_file)
    data_config = replace(trained_on, dataset=absolute_dataset(trained_on.dataset if dataset is None else dataset))
    data = load_run_data(data_config, seed=seed, data_dir=data_dir, device=device)
    check_image_shape(model, data.split.test.image_shape, data_config.dataset)
    if folder is not None and dataset is None:
        check_trained_on(folder, config, data.split)
    evaluation: dict[str, Any] = {
        "dataset": data_config.dataset,
        "weights": weights or "pretrained",
        **score_run(model.generator, data, announce),
    }
    on_scores(evaluation)
    if folder is not None:
        _save(evaluation, folder, model)
    return evaluation


def _save(evaluation: dict[str, Any], folder: RunFolder, model: GANUNMF) -> None:
    """Write evaluation.json, unless it would be of weights that are no longer there."""
    file = folder.path / f"{evaluation['weights']}.safetensors"
    if holds(file, model.generator.state_dict()):
        again = "free space or make the folder writable, then evaluate again (the scores themselves are known)"
        write_json(folder.evaluation_file, evaluation, again)
        return
    message = (
        f"{folder.evaluation_file}: not written, because {file.name} has been replaced since it was read: the run is "
        "being trained (evaluate again when it has ended)"
    )
    warnings.warn(message, CheckpointWarning, stacklevel=3)


def open_model(run: str | Path, weights: str | None, device: torch.device | str) -> GANUNMF:
    """The model of a folder, or the pretrained one of that name, which has one set of weights."""
    _check_exists(run)
    if not is_pretrained(run):
        return load_trained(run, weights, device)
    if weights is not None:
        raise ValueError(f"weights: expected none beside the pretrained model {run}; got {weights!r} (leave it out)")
    return GANUNMF.pretrained(str(run), device=device)


def _check_exists(run: str | Path) -> None:
    """Raise where a run is neither a name of a pretrained model nor anything else: a slip in either."""
    if not is_pretrained(run) and not os.path.lexists(run):
        known = ", ".join(WITH_WEIGHTS)
        raise RunFolderError(f"run: expected a run folder, or a pretrained model, {known}; there is no {run}")


def load_model_of(folder: RunFolder, config: RunConfig, weights: str | None, device: torch.device | str) -> GANUNMF:
    """The model of a run; RunFolderError where its two configurations contradict each other."""
    model = load_trained(folder.path, weights, device)
    for name, wanted in {"k": config.model.k, "m": config.data.group_size, "w_solver": config.model.w_solver}.items():
        if getattr(model.config, name) != wanted:
            raise RunFolderError(
                f"{folder.config_file}: expected the {name} of the trained model, {getattr(model.config, name)!r} in "
                f"model.yaml; got {wanted!r} (put it back)"
            )
    return model


def check_trained_on(folder: RunFolder, config: RunConfig, split: DataSplit) -> None:
    """Raise RunFolderError where a run was trained on other images: another fifth of them is held out for the test.

    One whose checkpoint is gone, damaged, or older than fingerprints is taken on trust.
    """
    state: dict[str, Any] = {}
    with suppress(RunFolderError), warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        state = folder.checkpoints.load(config) or {}
    if state.get("images", images := fingerprint(split)) != images:
        raise RunFolderError(
            f"dataset: expected the images that the run {folder.path} was trained on; those in {config.data.dataset} "
            "are others (put them back; evaluate has --dataset for others)"
        )


def check_image_shape(model: GANUNMF, image_shape: tuple[int, int], images: str) -> None:
    """Raise ValueError where images are not of the size that the model was made for."""
    if image_shape != model.config.image_shape:
        h, w = model.config.image_shape
        raise ValueError(
            f"images: expected {h}×{w} (height×width), the size that the model was trained on; {images} has "
            f"{image_shape[0]}×{image_shape[1]} (scale or crop them; factorize does it with --resize)"
        )
