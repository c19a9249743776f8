"""Train GAN-UNET on MNIST (or another data set), and see how it compares on images that it has never seen.

python examples/train_mnist.py --w-solver unrolled
python examples/train_mnist.py --w-solver cvxpylayer --limit-groups 8 --epochs 2
"""

import argparse

from diffnmf.cli import announce, print_epoch, print_result, progress_bar
from diffnmf.interrupts import interruptible
from diffnmf.models import W_SOLVERS
from diffnmf.runs import DataConfig, ModelConfig, RunConfig, run_experiment
from diffnmf.training import TrainingConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--w-solver", choices=W_SOLVERS, default="unrolled", help="where the weights W come from")
    parser.add_argument("--dataset", default="mnist", help="digits, mnist, fashion, faces, or a path to your images")
    parser.add_argument("--k", type=int, default=30, help="components: columns of H")
    parser.add_argument("--group-size", type=int, default=40, help="images in a group, m")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit-groups", type=int, help="groups per epoch, and in the test, at the most")
    parser.add_argument("--data-dir", help="where the data sets are, or go (default: $DIFFNMF_DATA, ~/.cache/diffnmf)")
    parser.add_argument("--output", help="run folder (default: a new one below runs/)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    options = parser.parse_args()

    config = RunConfig(
        data=DataConfig(options.dataset, options.group_size, limit_groups=options.limit_groups),
        model=ModelConfig(options.k, options.w_solver),
        training=TrainingConfig(epochs=options.epochs, seed=options.seed),
    )
    result = run_experiment(
        config,
        options.output,
        data_dir=options.data_dir,
        device=options.device,
        on_epoch=print_epoch,
        progress=progress_bar,
        announce=announce,
    )
    print_result(result)


if __name__ == "__main__":
    with interruptible():
        main()
