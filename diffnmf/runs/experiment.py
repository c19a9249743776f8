"""A run as it goes on: its parts, made and checked before anything is written, then training, scores and pictures."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffnmf.data import group_matrix
from diffnmf.errors import DivergenceError, RunFolderError
from diffnmf.evaluation import score_generator
from diffnmf.hardware import hardware
from diffnmf.kernels import kernel
from diffnmf.runs.checkpoints import position
from diffnmf.runs.config import RunConfig
from diffnmf.runs.curves import Row
from diffnmf.runs.parts import build_models, load_run_data
from diffnmf.runs.pictures import save_epoch_picture, save_final_pictures
from diffnmf.runs.places import fingerprint
from diffnmf.runs.recorder import Recorder, best_of
from diffnmf.runs.run_folder import RunFolder
from diffnmf.runs.scores import score_run
from diffnmf.training import Trainer
from diffnmf.training.randomness import unnoticed


@dataclass(frozen=True)
class ExperimentResult:
    """Where a run lies, and what is in its metrics.json (empty in all but the main process).

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from diffnmf.runs import RunConfig, run_experiment
        >>> config = RunConfig().with_options(dataset="digits", limit_test_groups=1, k=4, width=8, epochs=0)
        >>> with TemporaryDirectory() as folder:
        ...     result = run_experiment(config, f"{folder}/run", brief=True)
        >>> result.folder.name, result.metrics["test"]["groups"]
        ('run', 1)
    """

    folder: Path
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Callbacks:
    """What a run calls as it goes on, in the main process.

    Attributes:
        on_epoch: called with the row of the curves after every epoch.
        progress: wraps the range of the steps of an epoch, as ``tqdm`` does.
        announce: told where the run lies, and after the last epoch what is about to be done.
    """

    on_epoch: Callable[[Row], None] = lambda row: None
    progress: Callable[..., Any] = iter
    announce: Callable[[str], None] = lambda message: None


class Experiment:
    """The parts of a run, made and checked before anything is written.

    Arguments:
        config: the run.
        data_dir: where the data sets are.
        accelerator: what runs it, see ``make_accelerator``.
        brief: leave the rivals and the pictures at the end out.
        fresh: False where the weights will be those of a checkpoint.
    """

    def __init__(
        self, config: RunConfig, data_dir: str | Path | None, accelerator: Any, *, brief: bool, fresh: bool
    ) -> None:
        self.config, self.accelerator, self.brief = config, accelerator, brief
        self.other_kernel: str | None = None  # that computed the checkpoint this one goes on from, where it was another
        seed, device = config.training.seed, accelerator.device
        # The others find the data unpacked. A run in a process that has loaded data before leaves the same checkpoint.
        with accelerator.local_main_process_first(), unnoticed():
            self.data = load_run_data(config.data, seed=seed, data_dir=data_dir, device=device)
        self.images = fingerprint(self.data.split)
        self.model, critic = build_models(config, self.data.split.train.image_shape, fresh=fresh)
        if fresh and config.model.start_from is None:
            self.model.generator.set_slots(group_matrix(self.data.split.train, self.data.train_groups).cpu())
        self.trainer = Trainer(self.model.generator, critic, self.data.sampler, config.training, accelerator)

    def restore(self, state: dict[str, Any], folder: RunFolder) -> None:
        """Go on from a checkpoint.

        Raises:
            RunFolderError: it belongs to other models, or to other images. One that was written before checkpoints
                knew their images is taken on trust.
        """
        if state.get("images", self.images) != self.images:
            raise RunFolderError(
                f"dataset: expected the images that the run {folder.path} was trained on until now; those in "
                f"{self.config.data.dataset} are others (put them back, or say with --dataset where they are now)"
            )
        before = state.get("kernel", "torch")  # of a checkpoint from before there was another
        self.other_kernel = before if before != kernel().name else None
        try:
            self.trainer.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{folder.checkpoints.last}: does not fit the configuration of its run: {error}"
            ) from error

    def run(self, folder: RunFolder, rows: list[Row], callbacks: Callbacks) -> ExperimentResult:
        """Train from where the trainer is, and score; only the main process scores, writes and calls back."""
        if not self.accelerator.is_main_process:
            for epoch in self._epochs():
                self._train_epoch(epoch, None, iter)
                self._state()
            self._state()
            return ExperimentResult(folder.path, {})
        callbacks.announce(f"run folder: {folder.path}")
        callbacks.announce(f"computing on {self.accelerator.device} ({hardware(self.accelerator.device)})")
        if self.data.sampler.remark is not None:
            callbacks.announce(self.data.sampler.remark)
        if self.other_kernel is not None:
            callbacks.announce(
                f"until now this run was computed with the kernel {self.other_kernel!r}, from here with"
                f" {kernel().name!r}: the same to rounding, but the last bits differ (see DIFFNMF_KERNEL)"
            )
        with Recorder(folder, self.config, rows) as recorder:
            self._train(recorder, callbacks)
        metrics = self._metrics(rows, callbacks.announce)
        folder.save_metrics(metrics)
        if not self.brief:
            callbacks.announce("drawing the pictures")
            save_final_pictures(folder, self.model, self.data, rows)
        return ExperimentResult(folder.path, metrics)

    def _epochs(self) -> range:
        return range(self.trainer.epoch, self.config.training.epochs + 1)

    def _train(self, recorder: Recorder, callbacks: Callbacks) -> None:
        """All epochs that are left. The checkpoint says that all of an epoch is written, but for what is made of it."""
        for epoch in self._epochs():
            row = self._train_epoch(epoch, recorder, callbacks.progress)
            state = self._state()
            row |= self._scores()
            recorder.epoch(row, self.trainer)
            self._picture(recorder, epoch)
            recorder.checkpoint(state)
            recorder.best(self.trainer)
            callbacks.on_epoch(row)
        state = self._state()
        if not recorder.rows:  # no epochs: the untrained model is what there is to keep
            recorder.weights(self.trainer)
            recorder.checkpoint(state)

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds; every process has to call it."""
        return {**self.trainer.state_dict(), "images": self.images, "kernel": kernel().name}

    def _train_epoch(self, epoch: int, recorder: Recorder | None, progress: Callable[..., Any]) -> Row:
        """The part of the row of an epoch that training knows; checkpoints inside of the epoch on the way."""
        start, first, trainer = time.perf_counter(), self.trainer.steps_done, self.trainer

        def after_step() -> None:
            every = self.config.training.checkpoint_every
            if every is not None and trainer.steps_done % every == 0:
                state = self._state()  # in every process
                if recorder is not None:
                    recorder.checkpoint(state)

        try:
            means = trainer.train_epoch(epoch, progress, after_step)
        except DivergenceError as error:
            raise DivergenceError(f"{error}; {self._kept(recorder)}") from error
        groups = len(self.data.sampler) - first * trainer.groups_per_step
        row = {
            "epoch": epoch,
            **means,
            "learning_rate": trainer.generator_optimizer.param_groups[0]["lr"],
        }
        return row | self._times(time.perf_counter() - start, groups)

    def _times(self, seconds: float, groups: int) -> Row:
        """How fast the steps of an epoch were; nothing where a checkpoint after its last step left none to be made."""
        parts = self.trainer.clock.seconds()
        if groups <= 0:
            return {}
        return {
            "train_seconds": round(seconds, 3),
            "groups_per_second": round(groups / seconds, 3),
            "w_solver_share": round(parts["w_solver"] / seconds, 4),
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

    def _metrics(self, rows: list[Row], announce: Callable[[str], None]) -> dict[str, Any]:
        scores = score_run(self.trainer.generator, self.data, announce, rivals=not self.brief)
        metrics: dict[str, Any] = {"kernel": kernel().name, **scores}
        if self.trainer.averaged is not None:
            metrics["test_ema"] = score_generator(self.trainer.averaged, self.data.split.test, self.data.test_groups)
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
