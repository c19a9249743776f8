"""A whole run: load the images, train, score on held-out groups, and leave everything in a run folder."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffnmf.errors import DivergenceError, RunFolderError
from diffnmf.evaluation import score_generator, score_rivals
from diffnmf.files import explained_errors
from diffnmf.models.saved_model import save_config
from diffnmf.runs.checkpoints import position
from diffnmf.runs.config import RunConfig
from diffnmf.runs.parts import RIVAL_GROUPS, build_models, load_run_data
from diffnmf.runs.pictures import save_epoch_picture, save_final_pictures
from diffnmf.runs.recorder import Recorder, best_of
from diffnmf.runs.run_folder import RunFolder, fresh_folder
from diffnmf.training import Trainer
from diffnmf.training.engine import make_accelerator
from diffnmf.training.randomness import seeded

Row = dict[str, float]


@dataclass(frozen=True)
class ExperimentResult:
    """Where a run lies, and what is in its metrics.json (empty in all but the main process)."""

    folder: Path
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Callbacks:
    """What a run calls as it goes on, in the main process.

    Attributes:
        on_epoch: called with the row of the curves after every epoch.
        progress: wraps the range of the steps of an epoch, as ``tqdm`` does.
    """

    on_epoch: Callable[[Row], None] = lambda row: None
    progress: Callable[..., Any] = iter


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

    Raises:
        RunFolderError: ``output`` holds a run, or cannot be written.
        DataUnavailableError: the data set could neither be found nor downloaded.
        DivergenceError: a loss or a gradient became NaN or infinite; the checkpoints before it are kept.
        ValueError, TypeError: an option is out of range; nothing has been written.
    """
    accelerator = make_accelerator(device, config.training.precision)
    folder = RunFolder(output or fresh_folder(config))
    if accelerator.is_main_process and not overwrite:
        RunFolder.check_free(folder.path)
    with seeded(config.training.seed, deterministic=config.training.deterministic):
        experiment = _Experiment(config, data_dir, accelerator, brief=brief, fresh=True)
        if accelerator.is_main_process:
            RunFolder.create(folder.path, config, overwrite=overwrite)
            with explained_errors(folder.path):
                save_config(experiment.model.config, folder.path)
        return experiment.run(folder, [], Callbacks(on_epoch, progress))


def resume_experiment(
    run: str | Path,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    checkpoint_every: int | None = None,
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    brief: bool = False,
    on_epoch: Callable[[Row], None] = lambda row: None,
    progress: Callable[..., Any] = iter,
) -> ExperimentResult:
    """Continue a run from its last checkpoint, with its own configuration; the result is that of one run.

    Arguments:
        run: the run folder.
        epochs: train up to this epoch instead of the one the run was made for.
        batch_size: for another number of processes: batch_size · accumulate · processes must stay the same.
        accumulate: likewise.
        checkpoint_every: steps between checkpoints inside an epoch.
        data_dir: as in ``run_experiment``.
        device: as in ``run_experiment``.
        brief: as in ``run_experiment``.
        on_epoch: as in ``run_experiment``.
        progress: as in ``run_experiment``.

    Raises:
        RunFolderError: there is no run, it is damaged, its checkpoint belongs elsewhere, or it has gone further than
            ``epochs``.
    """
    folder, config = RunFolder.open(run)
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "checkpoint_every": checkpoint_every,
    }
    config = config.with_options(**{name: value for name, value in options.items() if value is not None})
    state = folder.checkpoints.load(config)
    done = 0 if state is None else state["epoch"]
    rows = folder.load_curves(done)
    if done > config.training.epochs:
        raise RunFolderError(f"epochs: the run {folder.path} has {done} already; got {config.training.epochs}")
    accelerator = make_accelerator(device, config.training.precision)
    with seeded(config.training.seed, deterministic=config.training.deterministic):
        experiment = _Experiment(config, data_dir, accelerator, brief=brief, fresh=state is None)
        if state is not None:
            experiment.restore(state, folder)
        if accelerator.is_main_process:
            folder.clean()
            folder.save_config(config)
            with explained_errors(folder.path):
                save_config(experiment.model.config, folder.path)
        return experiment.run(folder, rows, Callbacks(on_epoch, progress))


class _Experiment:
    """The parts of a run, made and checked before anything is written."""

    def __init__(
        self, config: RunConfig, data_dir: str | Path | None, accelerator: Any, *, brief: bool, fresh: bool
    ) -> None:
        self.config, self.accelerator, self.brief = config, accelerator, brief
        seed, device = config.training.seed, accelerator.device
        with accelerator.local_main_process_first():  # the others find the data unpacked
            self.data = load_run_data(config.data, seed=seed, data_dir=data_dir, device=device)
        self.model, critic = build_models(config, self.data.split.train.image_shape, fresh=fresh)
        self.trainer = Trainer(self.model.generator, critic, self.data.sampler, config.training, accelerator)

    def restore(self, state: dict[str, Any], folder: RunFolder) -> None:
        try:
            self.trainer.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{folder.checkpoints.last}: does not fit the configuration of its run: {error}"
            ) from error

    def run(self, folder: RunFolder, rows: list[Row], callbacks: Callbacks) -> ExperimentResult:
        """Train from where the trainer is, and score; only the main process scores, writes and calls back."""
        main = self.accelerator.is_main_process
        with Recorder(folder, self.config, rows) if main else nullcontext() as recorder:
            for epoch in range(self.trainer.epoch, self.config.training.epochs + 1):
                row = self._train_epoch(epoch, recorder, callbacks.progress if main else iter)
                state = self.trainer.state_dict()
                if recorder is not None:
                    row |= self._scores()
                    recorder.epoch(row, self.trainer, state)
                    self._picture(recorder, epoch)
                    callbacks.on_epoch(row)
            state = self.trainer.state_dict()
            if recorder is None:
                return ExperimentResult(folder.path, {})
            if not rows:  # no epochs: the untrained model is what there is to keep
                recorder.weights(self.trainer)
                recorder.checkpoint(state)
        metrics = self._metrics(rows)
        folder.save_metrics(metrics)
        if not self.brief:
            save_final_pictures(folder, self.model, self.data, rows)
        return ExperimentResult(folder.path, metrics)

    def _train_epoch(self, epoch: int, recorder: Recorder | None, progress: Callable[..., Any]) -> Row:
        """The part of the row of an epoch that training knows; checkpoints inside of the epoch on the way."""
        start, first, trainer = time.perf_counter(), self.trainer.steps_done, self.trainer

        def after_step() -> None:
            every = self.config.training.checkpoint_every
            if every is not None and trainer.steps_done % every == 0:
                state = trainer.state_dict()  # in every process
                if recorder is not None:
                    recorder.checkpoint(state)

        try:
            means = trainer.train_epoch(epoch, progress, after_step)
        except DivergenceError as error:
            raise DivergenceError(f"{error}; {self._kept(recorder)}") from error
        seconds = time.perf_counter() - start
        groups = len(self.data.sampler) - first * trainer.groups_per_step
        return {
            "epoch": epoch,
            **means,
            "learning_rate": trainer.generator_optimizer.param_groups[0]["lr"],
            "train_seconds": round(seconds, 3),
            "groups_per_second": round(groups / seconds, 3),
            "w_solver_share": round(trainer.clock.seconds()["w_solver"] / seconds, 4),
        }

    def _picture(self, recorder: Recorder, epoch: int) -> None:
        every = self.config.training.picture_every
        if every is not None and epoch % every == 0:
            recorder.picture(save_epoch_picture(recorder.folder, self.model, self.data, epoch), epoch)

    def _scores(self) -> Row:
        """Those of the generator and of its average on the test groups, as they are called in a row."""
        row: Row = {}
        for model, prefix in ((self.trainer.generator, "test_"), (self.trainer.averaged, "ema_test_")):
            if model is not None:
                scores = score_generator(model, self.data.split.test, self.data.test_groups)
                row |= {prefix + name: value for name, value in scores.items() if name != "groups"}
        return row

    def _metrics(self, rows: list[Row]) -> dict[str, Any]:
        split, trainer = self.data.split, self.trainer
        test = score_generator(trainer.generator, split.test, self.data.test_groups)
        rivals = {}
        if not self.brief:
            rivals = score_rivals(split.test, self.data.test_groups[:RIVAL_GROUPS], trainer.generator.k)
        metrics: dict[str, Any] = {
            "train": score_generator(trainer.generator, split.train, self.data.train_groups),
            "test": {**test, **rivals},
        }
        if trainer.averaged is not None:
            metrics["test_ema"] = score_generator(trainer.averaged, split.test, self.data.test_groups)
        if rows:
            error, weights, epoch = best_of(rows)
            metrics["best"] = {"weights": weights, "epoch": epoch, "relative_error": error}
        return metrics

    def _kept(self, recorder: Recorder | None) -> str:
        """What a user has after training went wrong, and what can be done."""
        advice = "start again with a lower --learning-rate, or with --precision float32"
        state = None if recorder is None else recorder.folder.checkpoints.load(self.config)
        if recorder is None or state is None:
            return f"no checkpoint had been written; {advice}"
        return f"kept is {recorder.folder.checkpoints.last}, {position(state)}; {advice}"
