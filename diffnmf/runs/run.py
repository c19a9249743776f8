"""A whole run: load the images, train, score on held-out groups, and leave everything in a run folder."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from diffnmf.errors import DivergenceError, RunFolderError
from diffnmf.files import check_utf8, explained_errors
from diffnmf.lock import locked
from diffnmf.models.saved_model import save_config
from diffnmf.runs.checkpoints import position
from diffnmf.runs.config import RunConfig
from diffnmf.runs.experiment import Callbacks, Experiment, ExperimentResult, Row
from diffnmf.runs.places import check_apart, check_images_are_there, moved_to, with_absolute_paths
from diffnmf.runs.recorder import Recorder
from diffnmf.runs.run_folder import RunFolder, fresh_folder
from diffnmf.training.engine import make_accelerator
from diffnmf.training.randomness import seeded


def run_experiment(
    config: RunConfig,
    output: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    overwrite: bool = False,
    brief: bool = False,
    on_epoch: Callable[[Row], None] = lambda row: None,
    progress: Callable[..., Any] = iter,
    announce: Callable[[str], None] = lambda message: None,
) -> ExperimentResult:
    """Train, evaluate, and leave a run folder. Under ``torchrun``, every process calls it.

    Arguments:
        config: data, model and training.
        output: the run folder; by default a new one below ``runs/``.
        data_dir: where the data sets are, or are downloaded to.
        device: where to compute: "cpu", "cuda" (each process its own) or "cuda:N".
        overwrite: replace a run that ``output`` holds; only after everything else has proved to be right.
        brief: score the model alone at the end, without its rivals, and draw no pictures then: for one run of many.
        on_epoch: called with the row of the curves after every epoch.
        progress: wraps the range of the steps of an epoch, as ``tqdm`` does.
        announce: told where the run lies, and after the last epoch what is about to be done.

    Raises:
        RunFolderError: ``output`` holds a run, is in use by another process, or cannot be written.
        DataUnavailableError: the data set could neither be found nor downloaded.
        DivergenceError: a loss or a gradient became NaN or infinite; the checkpoints before it are kept.
        ValueError, TypeError: an option is out of range, or a name is not UTF-8; nothing has been written.

    Returns:
        The run folder and the scores at the end.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from diffnmf.runs import DataConfig, ModelConfig, RunConfig, run_experiment
        >>> from diffnmf.training import TrainingConfig
        >>> data, model = DataConfig("digits", group_size=10, limit_groups=4), ModelConfig(k=4, width=8)
        >>> config, rows = RunConfig(data, model, TrainingConfig(epochs=2)), []
        >>> with TemporaryDirectory() as folder:
        ...     result = run_experiment(config, f"{folder}/run", brief=True, on_epoch=rows.append)
        ...     sorted(path.name for path in result.folder.glob("*.safetensors"))
        ['best.safetensors', 'ema.safetensors', 'generator.safetensors']
        >>> [row["epoch"] for row in rows], result.metrics["test"]["groups"]
        ([1, 2], 4)
    """
    check_utf8("dataset", Path(config.data.dataset).name)
    check_utf8("output", "" if output is None else output)
    config = with_absolute_paths(config)
    if output is not None and config.model.start_from is not None:
        check_apart(Path(output), Path(config.model.start_from))
    accelerator = make_accelerator(device, config.training.precision)
    if accelerator.is_main_process and output is not None and not overwrite:
        RunFolder.check_free(output)
    with seeded(config.training.seed, deterministic=config.training.deterministic):
        experiment = Experiment(config, data_dir, accelerator, brief=brief, fresh=True)
        folder = RunFolder(output or _fresh_folder(config, accelerator))
        with _sole(folder, accelerator), _the_way_on(folder):
            if accelerator.is_main_process:
                RunFolder.create(folder.path, config, overwrite=overwrite)
                with explained_errors(folder.path):
                    save_config(experiment.model.config, folder.path)
            return experiment.run(folder, [], Callbacks(on_epoch, progress, announce))


def resume_experiment(
    run: str | Path,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    checkpoint_every: int | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    brief: bool = False,
    on_epoch: Callable[[Row], None] = lambda row: None,
    progress: Callable[..., Any] = iter,
    announce: Callable[[str], None] = lambda message: None,
) -> ExperimentResult:
    """Continue a run from its last checkpoint, with its own configuration; the result is that of one run.

    Arguments:
        run: the run folder.
        epochs: train up to this epoch instead of the one the run was made for.
        batch_size: for another number of processes: batch_size · accumulate · processes must stay the same.
        accumulate: likewise.
        checkpoint_every: steps between checkpoints inside an epoch.
        dataset: where the user's own images, on which the run was trained, are now.
        data_dir: as in ``run_experiment``.
        device: as in ``run_experiment``.
        brief: as in ``run_experiment``.
        on_epoch: as in ``run_experiment``.
        progress: as in ``run_experiment``.
        announce: as in ``run_experiment``.

    Raises:
        RunFolderError: there is no run, another process works on it, it is damaged, its checkpoint belongs elsewhere,
            its images are not there or are others, or it has gone further than ``epochs``.
        ValueError: the name of the folder is not UTF-8.

    Returns:
        The run folder and the scores at the end.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from diffnmf.runs import RunConfig, describe_run, resume_experiment, run_experiment
        >>> config = RunConfig().with_options(dataset="digits", group_size=10, limit_groups=2, k=4, width=8, epochs=1)
        >>> with TemporaryDirectory() as folder:
        ...     before = run_experiment(config, f"{folder}/run", brief=True)
        ...     after = resume_experiment(f"{folder}/run", epochs=2, brief=True)
        ...     describe_run(f"{folder}/run")["checkpoint"]
        'after epoch 2 of 2'
    """
    check_utf8("run (or --resume)", run)
    folder, config = RunFolder.open(run)
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "checkpoint_every": checkpoint_every,
        "dataset": None if dataset is None else moved_to(dataset, config.data),
    }
    if dataset is None:
        check_images_are_there(config.data, folder.config_file)
    config = with_absolute_paths(
        config.with_options(**{name: value for name, value in options.items() if value is not None})
    )
    accelerator = make_accelerator(device, config.training.precision)
    with _sole(folder, accelerator), _the_way_on(folder):
        state = folder.checkpoints.load(config)
        rows = folder.rows_until(state)
        _check_not_beyond(state, config, folder)
        with seeded(config.training.seed, deterministic=config.training.deterministic):
            experiment = Experiment(config, data_dir, accelerator, brief=brief, fresh=state is None)
            if state is not None:
                experiment.restore(state, folder)
            if accelerator.is_main_process:
                folder.clean()
                if experiment.trainer.epoch <= config.training.epochs:
                    folder.remove_scores()  # else a run that is stopped on its way would look finished
                folder.save_config(config)
                if rows:  # what was lost of them is there again; those of an epoch after the checkpoint go
                    folder.save_curves(rows)
                if state is not None and state["step"] == 0:  # else the weights after the epoch are yet to be made
                    Recorder(folder, config, rows).restore_weights(experiment.trainer)
                with explained_errors(folder.path):
                    save_config(experiment.model.config, folder.path)
            return experiment.run(folder, rows, Callbacks(on_epoch, progress, announce))


def _sole(folder: RunFolder, accelerator: Any) -> AbstractContextManager[None]:
    """The lock of the run for the main process, which alone writes; several that train together are one to it."""
    return locked(folder.path) if accelerator.is_main_process else nullcontext()


@contextmanager
def _the_way_on(folder: RunFolder) -> Iterator[None]:
    """Whatever ends a run early takes with it, as a note, how the run goes on."""
    try:
        yield
    except (DivergenceError, RunFolderError):  # they say themselves what is to be done
        raise
    except BaseException as error:
        error.add_note(f"Go on with: diffnmf train --resume {shlex.quote(str(folder.path))}")
        raise


def _fresh_folder(config: RunConfig, accelerator: Any) -> Path:
    """A new folder, which the main process makes and the others are told."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([fresh_folder(config) if accelerator.is_main_process else None])[0]


def _check_not_beyond(state: dict[str, Any] | None, config: RunConfig, folder: RunFolder) -> None:
    """Raise where the last checkpoint lies behind the last epoch: the scores would be those of another epoch."""
    if state is not None and (state["epoch"], state["step"]) > (config.training.epochs, 0):
        done = position(state).removeprefix("after epoch ")
        raise RunFolderError(f"epochs: the run {folder.path} has {done} already; got {config.training.epochs}")
