"""Does the W-solver make the basis H sparser? Train the same generator with each, and compare.

python examples/compare_w_solvers.py                                      # the embedded digits, some minutes
python examples/compare_w_solvers.py --dataset mnist --k 30 --epochs 4    # hours on two CPU cores
"""

import argparse
from pathlib import Path

from diffnmf.start import Loading

with Loading():  # torch takes seconds, in which Ctrl-C would give a trace
    from diffnmf.cli.reporting import announce, program
    from diffnmf.hardware import AUTO, DEVICE_HELP, device_option
    from diffnmf.runs import PRESETS
    from diffnmf.studies.w_solvers import compare_w_solvers
    from diffnmf.studies.w_solvers.rows import DEFAULT_ROWS, W_SOLVER_ROWS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", help="digits, mnist, fashion, faces, or a path to your images")
    parser.add_argument("--rows", nargs="+", choices=W_SOLVER_ROWS, default=list(DEFAULT_ROWS), help="W-solvers")
    parser.add_argument("--k", type=int, default=10, help="components: columns of H")
    parser.add_argument("--epochs", type=int, default=20, help="of every training")
    parser.add_argument("--width", type=int, default=32, help="channels of the U-Net at full resolution")
    parser.add_argument("--limit-groups", type=int, help="groups in an epoch")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every W-solver")
    parser.add_argument("--data-dir", help="where the data sets are, or go (default: $DIFFNMF_DATA, ~/.cache/diffnmf)")
    parser.add_argument("--device", type=device_option, default=AUTO, help=DEVICE_HELP)
    parser.add_argument("--output", type=Path, default=Path("runs/w-solvers"))
    options = parser.parse_args()

    config = PRESETS["scratch"].with_options(
        dataset=options.dataset,
        k=options.k,
        epochs=options.epochs,
        width=options.width,
        limit_groups=options.limit_groups,
        limit_test_groups=64,
        picture_every=None,
    )
    compare_w_solvers(
        config,
        options.output,
        rows=options.rows,
        seeds=range(options.seeds),
        data_dir=options.data_dir,
        device=options.device,
        announce=announce,
    )
    print((options.output / "comparison.md").read_text(encoding="utf-8"))
    print(options.output)


if __name__ == "__main__":
    with program("The same command goes on from here."):
        main()
