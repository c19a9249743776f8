"""Train GAN-UNET on MNIST (or another data set), and see how it compares on images that it has never seen.

python examples/train_mnist.py --w-solver unrolled
python examples/train_mnist.py --w-solver cvxpylayer --limit-groups 8 --epochs 2
"""

import argparse

from diffnmf.start import Loading

with Loading():  # torch takes seconds, in which Ctrl-C would give a trace
    from diffnmf.cli.reporting import announce, print_epoch, print_result, program, progress_bar
    from diffnmf.hardware import AUTO, DEVICE_HELP, device_option
    from diffnmf.options import options_of
    from diffnmf.runs import PRESETS, DataConfig, ModelConfig, run_experiment
    from diffnmf.training import TrainingConfig

# Of the options of a run, those that this example lets you choose; `diffnmf train` has all of them, and --resume.
CHOICES = ("w_solver", "dataset", "k", "group_size", "epochs", "limit_groups", "seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    preset = PRESETS["default"].options()
    for option in (*options_of(DataConfig), *options_of(ModelConfig), *options_of(TrainingConfig)):
        if option.name in CHOICES:
            text = f"{option.help} (default: {option.in_words(preset[option.name])})"
            flag = f"--{option.name.replace('_', '-')}"
            parser.add_argument(flag, type=option.kind, default=preset[option.name], help=text)
    parser.add_argument("--data-dir", help="Where the data sets are, or go (default: $DIFFNMF_DATA, ~/.cache/diffnmf)")
    parser.add_argument("--output", help="The run folder (default: a new one below runs/)")
    parser.add_argument("--overwrite", action="store_true", help="Replace a run that --output holds")
    parser.add_argument("--device", type=device_option, default=AUTO, help=DEVICE_HELP)
    options = parser.parse_args()

    try:
        config = PRESETS["default"].with_options(**{name: getattr(options, name) for name in CHOICES})
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    result = run_experiment(
        config,
        options.output,
        data_dir=options.data_dir,
        device=options.device,
        overwrite=options.overwrite,
        on_epoch=print_epoch,
        progress=progress_bar,
        announce=announce,
    )
    print_result(result)


if __name__ == "__main__":
    with program():
        main()
