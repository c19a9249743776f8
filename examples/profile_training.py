"""Where the time of training goes: data, U-Net, W-solver, critic; a table in Markdown.

python examples/profile_training.py --dataset mnist --k 30 --w-solvers unrolled fc --steps 20
python examples/profile_training.py --dataset mnist --k 30 --w-solvers cvxpylayer --steps 2
"""

import argparse
import time
from itertools import islice

import torch

from diffnmf.data import GroupSampler
from diffnmf.hardware import AUTO, DEVICE_HELP, device_option
from diffnmf.interrupts import interruptible
from diffnmf.models import W_SOLVERS
from diffnmf.runs import DataConfig, ModelConfig, RunConfig
from diffnmf.runs.parts import build_models, load_run_data
from diffnmf.training import Trainer, TrainingConfig
from diffnmf.training.engine import PRECISIONS, make_accelerator
from diffnmf.training.randomness import seeded

PARTS = ("data", "U-Net and optimisers", "W-solver", "critic")


def profile(config: RunConfig, data_dir: str | None, device: torch.device, steps: int) -> dict[str, float]:
    """Seconds a step by part, after a few steps that warm up.

    The critic's part is its own step and its judgement in the step of the generator; that of the W-solver both its
    passes; what is left is the U-Net, with the losses, the optimisers and the moving average.
    """
    accelerator = make_accelerator(device, config.training.precision)
    with seeded(config.training.seed):
        data = load_run_data(config.data, seed=0, data_dir=data_dir, device=accelerator.device)
        model, critic = build_models(config, data.split.train.image_shape)
        trainer = Trainer(model.generator, critic, data.sampler, config.training, accelerator)
        trainer.train_epoch(1, lambda planned: islice(planned, max(1, steps // 4)))
        trainer.clock.seconds()
        start = time.perf_counter()
        trainer.train_epoch(2, lambda planned: islice(planned, steps))
        seconds = time.perf_counter() - start
    measured = trainer.clock.seconds()
    data_, w_solver, critic_ = (measured.get(name, 0.0) for name in ("data", "w_solver", "critic"))
    parts = (data_, seconds - data_ - w_solver - critic_, w_solver, critic_)
    done = min(steps, steps_an_epoch(len(data.sampler), config.training))
    return {name: part / done for name, part in zip(PARTS, parts, strict=True)}


def steps_an_epoch(groups: int, config: TrainingConfig) -> int:
    return -(-groups // config.batch_size)


def table(profiles: dict[str, dict[str, float]], steps: int) -> str:
    """A row for each W-solver: seconds an epoch and, in brackets, the share of the step."""
    lines = [f"| W-solver | {' | '.join(PARTS)} | s an epoch | ms a step |", "| --- " * (len(PARTS) + 3) + "|"]
    for w_solver, parts in profiles.items():
        total = sum(parts.values())
        cells = [f"{part * steps:.1f} ({100 * part / total:.0f} %)" for part in parts.values()]
        lines.append(f"| `{w_solver}` | {' | '.join(cells)} | {total * steps:.1f} | {1000 * total:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist", help="digits, mnist, fashion, faces, or a path to your images")
    parser.add_argument("--w-solvers", nargs="+", choices=W_SOLVERS, default=["unrolled", "fc"])
    parser.add_argument("--k", type=int, default=30, help="components: columns of H")
    parser.add_argument("--group-size", type=int, default=40, help="images in a group, m")
    parser.add_argument("--width", type=int, default=ModelConfig().width, help="channels at full resolution")
    parser.add_argument("--critic-width", type=int, default=ModelConfig().critic_width, help="of its first layer")
    parser.add_argument("--batch-size", type=int, default=TrainingConfig().batch_size, help="groups in a step")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--data-dir", help="where the data sets are, or go (default: $DIFFNMF_DATA, ~/.cache/diffnmf)")
    parser.add_argument("--device", type=device_option, default=AUTO, help=DEVICE_HELP)
    options = parser.parse_args()

    data = DataConfig(options.dataset, options.group_size)
    training = TrainingConfig(batch_size=options.batch_size, precision=options.precision)
    profiles = {}
    for w_solver in options.w_solvers:
        model = ModelConfig(options.k, w_solver, width=options.width, critic_width=options.critic_width)
        config = RunConfig(data, model, training)
        profiles[w_solver] = profile(config, options.data_dir, options.device, options.steps)
    images = load_run_data(data, seed=0, data_dir=options.data_dir, device="cpu").split.train
    groups = len(GroupSampler(images, options.group_size))
    print(f"{options.dataset}, k = {options.k}, {groups} groups an epoch, {options.batch_size} in a step\n")
    print(table(profiles, steps_an_epoch(groups, training)))


if __name__ == "__main__":
    with interruptible():
        main()
