"""What the configuration of a run stands for: its images, the groups that are scored, its models."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from diffnmf.data import DataSplit, GroupSampler, ImageSet, load_dataset
from diffnmf.errors import RunFolderError
from diffnmf.models import GANUNMF, Critic, GeneratorConfig
from diffnmf.runs.config import DataConfig, RunConfig
from diffnmf.runs.weights import load_trained

TEST_SEED = 0  # the test groups are the same whatever the seed of a run


@dataclass(frozen=True, eq=False)
class RunData:
    """The images of a run on its device, and which groups of them are trained on and scored.

    Attributes:
        split: training and test images.
        sampler: the groups to train on.
        train_groups: (G, m), of training images, as many as there are test groups and in no epoch.
        test_groups: (G, m), of test images.
    """

    split: DataSplit
    sampler: GroupSampler
    train_groups: Tensor
    test_groups: Tensor


def load_run_data(config: DataConfig, *, seed: int, data_dir: str | Path | None, device: torch.device | str) -> RunData:
    """Load the images once, onto the device, so that every group is put together there.

    Raises:
        ValueError, DataUnavailableError: as ``load_dataset`` and ``GroupSampler``.
    """
    split = load_dataset(config.dataset, data_dir=data_dir, resize=config.resize)
    train, test = (replace(part, images=part.images.to(device)) for part in (split.train, split.test))

    def sampler(images: ImageSet, seed: int) -> GroupSampler:
        return GroupSampler(images, config.group_size, order=config.order, seed=seed, limit=config.limit_groups)

    train_sampler = sampler(train, seed)
    test_groups = sampler(test, TEST_SEED).epoch(0)[: config.limit_test_groups].to(device)
    train_groups = train_sampler.epoch(0)[: len(test_groups)].to(device)
    return RunData(DataSplit(train, test), train_sampler, train_groups, test_groups)


def build_models(
    config: RunConfig, image_shape: tuple[int, int], *, fresh: bool = True
) -> tuple[GANUNMF, Critic | None]:
    """The models of a run, drawn from torch's global generator, or taken from the run that the model is to start from.

    Arguments:
        config: the run.
        image_shape: (h, w) of the images.
        fresh: False where the weights will be those of a checkpoint, whatever they are now.

    Raises:
        RunFolderError: there is no run to start from, or its U-Net is another.
    """
    m, options = config.data.group_size, config.model
    model = GANUNMF(options.for_groups(image_shape, m))
    if options.start_from is not None and fresh:
        _start_from(model, options.start_from)
    return model, Critic(image_shape, m, options.critic_width) if config.training.adversarial else None


def _differences(own: GeneratorConfig, its: GeneratorConfig) -> str:
    """The options on which the shape of a U-Net depends, where two have not the same."""
    names = ("image_shape", "m", "k", "width", "depth", "basis_init", "normalize_maps")
    pairs = {name: (getattr(its, name), getattr(own, name)) for name in names}
    return ", ".join(f"{name} is {old} there and {new} here" for name, (old, new) in pairs.items() if old != new)


def _start_from(model: GANUNMF, run: str) -> None:
    """Take weights and slots of the generator of a run; the W-head, which may be another, where it is the same."""
    source = load_trained(run, "generator")
    own, its = model.generator, source.generator
    try:
        own.unet.load_state_dict(its.unet.state_dict())
    except RuntimeError as error:
        what = _differences(model.config, source.config) or error
        raise RunFolderError(
            f"start_from: the U-Net of {run} is not that of this run: {what} "
            "(give the same options, or leave start_from out)"
        ) from error
    for name in ("w_head", "mixtures", "start", "slot_head"):
        mine, other = getattr(own, name), getattr(its, name)
        if mine is not None and other is not None and _shapes(mine) == _shapes(other):
            mine.load_state_dict(other.state_dict())


def _shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: x.shape for name, x in module.state_dict().items()}
