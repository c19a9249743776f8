"""A whole run: load the images, train, score on held-out groups, and leave everything in a run folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from diffnmf.data import DataSplit, GroupSampler, group_matrix, load_dataset
from diffnmf.errors import RunFolderError
from diffnmf.evaluation.held_out import score_generator, score_rivals
from diffnmf.metrics.figures import save_curves, save_decomposition, save_image_grid
from diffnmf.models import Critic, Generator
from diffnmf.training import RunConfig, RunFolder, Trainer

Row = dict[str, float]

TEST_SEED = 0  # the test groups are the same whatever the seed of a run
RIVAL_GROUPS = 32  # ANLS on all 223 test groups of MNIST would take minutes


@dataclass(frozen=True)
class ExperimentResult:
    """Where a run lies, and what is in its metrics.json."""

    folder: Path
    metrics: dict[str, Any]


def run_experiment(
    config: RunConfig,
    output: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    overwrite: bool = False,
    on_epoch: Callable[[Row], None] = lambda row: None,
    progress: Callable[..., Any] = iter,
) -> ExperimentResult:
    """Train, evaluate, and leave a run folder.

    Arguments:
        config: data, model and training.
        output: the run folder; by default a new one below ``runs/``.
        data_dir: where the data sets are, or are downloaded to.
        device: where to compute.
        overwrite: replace a run that ``output`` holds; only after everything else has proved to be right.
        on_epoch: called with the row of the curves after every epoch.
        progress: wraps the steps of an epoch, as ``tqdm`` does.

    Raises:
        RunFolderError: ``output`` holds a run, or cannot be written.
        DataUnavailableError: the data set could neither be found nor downloaded.
        ValueError, TypeError: an option is out of range; nothing has been written.
    """
    if output is not None and not overwrite:
        RunFolder.check_free(output)
    experiment = _Experiment(config, data_dir, device)
    folder = RunFolder.create(output or _fresh_folder(config), config, overwrite=overwrite)
    return experiment.run(folder, [], 1, on_epoch, progress)


def resume_experiment(
    run: str | Path,
    *,
    epochs: int | None = None,
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[Row], None] = lambda row: None,
    progress: Callable[..., Any] = iter,
) -> ExperimentResult:
    """Continue a run after its last finished epoch, with its own configuration; the result is that of one run.

    Arguments:
        run: the run folder.
        epochs: train up to this epoch instead of the one the run was made for.
        data_dir: as in ``run_experiment``.
        device: as in ``run_experiment``.
        on_epoch: as in ``run_experiment``.
        progress: as in ``run_experiment``.

    Raises:
        RunFolderError: there is no run, it is damaged, or it has gone further than ``epochs``.
    """
    folder, config = RunFolder.open(run)
    if epochs is not None:
        config = replace(config, training=replace(config.training, epochs=epochs))
    state = folder.load_checkpoint()
    done = 0 if state is None else state["epoch"]
    rows = folder.load_curves(done)
    if done > config.training.epochs:
        raise RunFolderError(f"epochs: the run {folder.path} has {done} already; got {config.training.epochs}")
    experiment = _Experiment(config, data_dir, device)
    if state is not None:
        experiment.restore(state, folder)
    folder.save_config(config)
    return experiment.run(folder, rows, done + 1, on_epoch, progress)


class _Experiment:
    """The parts of a run, made and checked before anything is written."""

    def __init__(self, config: RunConfig, data_dir: str | Path | None, device: str | torch.device) -> None:
        self.config = config
        self.device = torch.device(device)
        data = config.data
        self.split = _to_device(load_dataset(data.dataset, data_dir=data_dir), self.device)
        options = {"group_size": data.group_size, "order": data.order, "limit": data.limit_groups}
        train = GroupSampler(self.split.train, seed=config.training.seed, **options)  # type: ignore[arg-type]
        test = GroupSampler(self.split.test, seed=TEST_SEED, **options)  # type: ignore[arg-type]
        self.test_groups = test.epoch(0).to(self.device)
        # Groups of training images that no epoch draws, as many as there are test groups.
        self.train_groups = train.epoch(0)[: len(self.test_groups)].to(self.device)
        generator, critic = _build_models(config, self.split)
        self.trainer = Trainer(generator, critic, train, config.training, self.device)

    def restore(self, state: dict[str, Any], folder: RunFolder) -> None:
        try:
            self.trainer.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{folder.checkpoint_file}: does not fit the configuration of its run: {error}"
            ) from error

    def run(
        self,
        folder: RunFolder,
        rows: list[Row],
        first_epoch: int,
        on_epoch: Callable[[Row], None],
        progress: Callable[..., Any],
    ) -> ExperimentResult:
        generator = self.trainer.generator
        for epoch in range(first_epoch, self.config.training.epochs + 1):
            start = time.perf_counter()
            losses = self.trainer.train_epoch(epoch, progress)
            seconds = time.perf_counter() - start
            test = score_generator(generator, self.split.test, self.test_groups)
            row = {"epoch": epoch, **losses, **_prefixed("test", test), "train_seconds": round(seconds, 3)}
            rows.append(row)
            folder.save_checkpoint({"epoch": epoch, **self.trainer.state_dict()}, generator, rows)
            on_epoch(row)
        if not folder.checkpoint_file.exists():  # no epochs: the untrained model is what there is to keep
            folder.save_checkpoint({"epoch": 0, **self.trainer.state_dict()}, generator, rows)
        metrics = self._metrics()
        folder.save_metrics(metrics)
        self._save_pictures(folder, rows)
        return ExperimentResult(folder.path, metrics)

    def _metrics(self) -> dict[str, Any]:
        generator = self.trainer.generator
        test = score_generator(generator, self.split.test, self.test_groups)
        rivals = score_rivals(self.split.test, self.test_groups[:RIVAL_GROUPS], generator.k)
        return {
            "train": score_generator(generator, self.split.train, self.train_groups),
            "test": {**test, **rivals},
        }

    @torch.no_grad()
    def _save_pictures(self, folder: RunFolder, rows: list[Row]) -> None:
        generator, shape = self.trainer.generator.eval(), self.split.test.image_shape
        Y = group_matrix(self.split.test, self.test_groups[:1])  # (1, n, m)
        H, W, Y_hat = (part.squeeze(0).cpu() for part in generator(Y))
        source = Y.squeeze(0).cpu()
        peak = H.amax(dim=0)
        parts = H / torch.where(peak > 0, peak, 1.0)
        save_image_grid(folder.pictures / "group.png", source, shape, title="An unseen group Y")
        save_image_grid(folder.pictures / "basis.png", parts, shape, title="Its basis H, each column to its maximum")
        save_image_grid(folder.pictures / "reconstruction.png", Y_hat, shape, title="Its reconstruction HW")
        save_decomposition(folder.pictures / "decomposition.png", source, H, W, shape)
        if rows:
            save_curves(folder.pictures / "curves.png", rows, _panels(rows))


def _build_models(config: RunConfig, split: DataSplit) -> tuple[Generator, Critic | None]:
    """The models with weights that depend on the seed alone; the global random state is left as it was."""
    model, shape, m = config.model, split.train.image_shape, config.data.group_size
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(config.training.seed)
        generator = Generator(shape, m, model.k, model.w_solver, width=model.width, unit_norm=model.unit_norm)
        critic = Critic(shape, m, model.critic_width) if config.training.adversarial else None
    return generator, critic


def _to_device(split: DataSplit, device: torch.device) -> DataSplit:
    """Images on the device once, so that groups are put together there."""
    train, test = (replace(part, images=part.images.to(device)) for part in (split.train, split.test))
    return DataSplit(train, test)


def _prefixed(prefix: str, scores: dict[str, float]) -> Row:
    return {f"{prefix}_{name}": value for name, value in scores.items() if name != "groups"}


def _panels(rows: list[Row]) -> dict[str, list[str]]:
    """The curves that were recorded, by what they have in common."""
    panels = {
        "Reconstruction loss (train)": ["reconstruction_loss"],
        "Relative error (test)": ["test_relative_error"],
        "Eq. (4) (test)": ["test_eps"],
        "Adversarial losses": ["critic_loss", "adversarial_loss"],
        "Critic accuracy": ["critic_accuracy_real", "critic_accuracy_fake"],
        "Basis H (test)": ["test_hoyer_H", "test_copying"],
    }
    return {title: names for title, names in panels.items() if any(name in row for row in rows for name in names)}


def _fresh_folder(config: RunConfig) -> Path:
    """A folder below runs/ that does not exist yet."""
    name = Path(config.data.dataset).stem or "images"
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / f"{name}-{config.model.w_solver}-{stamp}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder
