"""One declaration of each option: what is declared once is an option of the model, the run and the command line."""

import inspect
from dataclasses import dataclass, fields
from typing import get_args

import pytest

from diffnmf.cli.run_options import with_run_options
from diffnmf.cli.train_command import train
from diffnmf.models import GANUNMF, GeneratorConfig
from diffnmf.models.generator_config import GeneratorOptions
from diffnmf.options import documented, option, options_of, within
from diffnmf.runs import PRESETS, DataConfig, ModelConfig, RunConfig
from diffnmf.training import TrainingConfig

OF_THE_IMAGES = ("image_shape", "m")  # a run has them from its images and from group_size
SECTIONS = (DataConfig, ModelConfig, TrainingConfig)
OF_A_RUN = [pytest.param(known, id=known.name) for section in SECTIONS for known in options_of(section)]


def on_the_command_line(command=train):
    """Name -> type and what typer knows, of the options of a command."""
    return {
        name: get_args(entry.annotation)
        for name, entry in inspect.signature(command).parameters.items()
        if get_args(entry.annotation)
    }


def test_an_option_of_the_generator_is_one_of_the_run():
    declared = {known.name: known for known in options_of(GeneratorConfig) if known.name not in OF_THE_IMAGES}
    of_the_run = {known.name: known for known in options_of(ModelConfig)}
    assert len(declared) > 5
    assert {name: of_the_run.get(name) for name in declared} == declared
    assert not any(entry.name in ModelConfig.__annotations__ for entry in fields(GeneratorConfig))


@pytest.mark.parametrize("known", OF_A_RUN)
def test_an_option_of_the_run_is_one_of_the_command(known):
    options = on_the_command_line()
    if known.name == "betas":
        assert known.name not in options
        return
    kind, shown = options[known.name]
    assert kind == known.kind | None
    default = PRESETS["default"].options()
    assert shown.help == f"{known.help} (default: {known.in_words(default[known.name])})"
    assert inspect.signature(train).parameters[known.name].default is None  # the preset decides


@pytest.mark.parametrize("known", OF_A_RUN)
def test_every_option_has_a_help_and_a_default_that_passes_its_check(known):
    assert known.help.endswith(".")
    assert known.in_words(known.default)
    assert known.checked(known.default) == known.default


def test_options_of_a_run_reach_the_model():
    values = {"k": 3, "width": 4, "depth": 1, "unit_norm": True, "mixture": True, "w_steps": 2, "l1": 0.5}
    assert RunConfig().with_options(**values).model.for_groups((8, 6), 5) == GeneratorConfig((8, 6), 5, **values)


def test_what_a_new_option_takes():
    """Its field: the configuration, its docstring, the model's file and the command have it, and the check is made."""

    @documented
    @dataclass(frozen=True)
    class Wider(GeneratorOptions):
        dropout: float = option(0.0, "Share of the channels that are left out.", within("[0, 1)"))

    @dataclass(frozen=True)
    class Run(RunConfig):
        model: Wider = Wider()

    def command(first: int, **options):
        return first, options

    made = with_run_options(command, Run())
    kind, shown = on_the_command_line(made)["dropout"]
    assert (kind, shown.help) == (float | None, "Share of the channels that are left out. (default: 0.0)")
    assert made(first=1, dropout=0.5) == (1, {"dropout": 0.5})
    assert Run().with_options(dropout=0.5).to_dict()["model"]["dropout"] == 0.5
    assert "dropout: Share of the channels that are left out." in Wider.__doc__
    with pytest.raises(ValueError, match=r"^dropout: expected a number in \[0, 1\); got 1"):
        Wider(dropout=1.0)


def test_the_model_takes_them_as_they_are_declared():
    made = GANUNMF((8, 8), 6, k=3, width=8, unit_norm=True)
    assert made.config == GeneratorConfig((8, 8), 6, 3, width=8, unit_norm=True)
    assert GANUNMF(made.config).config is made.config


@pytest.mark.parametrize(
    "program",
    [
        "import diffnmf",
        "import diffnmf.cli",
        "from typer.testing import CliRunner; from diffnmf.cli import app;"
        "result = CliRunner().invoke(app, ['train', '--help']); assert '--w-solver' in result.stdout",
    ],
    ids=["import diffnmf", "import diffnmf.cli", "diffnmf train"],
)
def test_studies_are_not_imported_for_it(program, fresh_processes):
    program += "; import sys; print([name for name in sys.modules if name.startswith('diffnmf.studies')])"
    result = fresh_processes.run(program)
    assert result.stdout.strip() == "[]", result.stderr
