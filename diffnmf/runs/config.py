"""What a run is made of: its options, read from and written to plain text, and enough to repeat it."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from diffnmf.checks import check_image_shape, check_text
from diffnmf.data import DATASETS, ORDERS
from diffnmf.errors import RunFolderError, unknown_name
from diffnmf.models.generator_config import GeneratorOptions
from diffnmf.options import Options, at_least, differences, documented, one_of, option
from diffnmf.training import TrainingConfig
from diffnmf.training.losses import current_loss

# Options that a run may be continued with; the groups of a step must stay as many (see ``Trainer.load_state_dict``).
MAY_CHANGE = ("epochs", "batch_size", "accumulate", "checkpoint_every", "picture_every", "start_from")
# What YAML 1.1 takes for numbers: 010 for eight, in octal digits, and 1:30 for ninety, of base 60.
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
NOT_DECIMAL = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


@documented
@dataclass(frozen=True)
class DataConfig(Options):
    """Which images, and how they become groups.

    Raises:
        TypeError, ValueError: an option is of the wrong kind, unknown or out of range; the message names it.

    Example:
        >>> from diffnmf.runs import DataConfig, RunConfig
        >>> RunConfig(data=DataConfig("digits", group_size=20)).differences(RunConfig().to_dict())
        ["dataset is 'digits' here and was 'mnist'", 'group_size is 20 here and was 40']
    """

    dataset: str = option(
        "mnist",
        "digits, mnist, fashion, faces, or a path: a folder of images, an .npy or an .npz file.",
        partial(check_text, expected="a name or a path"),
    )
    group_size: int = option(40, "Images in a group, m.", at_least(1))
    order: str = option("random", "Columns of a group: random or class.", one_of(ORDERS))
    limit_groups: int | None = option(None, "Groups per epoch, and in the test, at the most.", at_least(1), none="all")
    limit_test_groups: int | None = option(
        None, "Groups that are scored, at the most, after every epoch and at the end.", at_least(1), none="all"
    )
    resize: tuple[int, int] | None = option(
        None,
        "Scale every image to this height and width.",
        lambda name, value: check_image_shape(value, name),
        none="their own size",
    )


@documented
@dataclass(frozen=True)
class ModelConfig(GeneratorOptions):
    """The generator and the critic.

    Raises:
        TypeError, ValueError: an option is of the wrong kind, unknown or out of range; the message names it.

    Example:
        >>> from diffnmf.runs import ModelConfig, RunConfig
        >>> RunConfig(model=ModelConfig(k=16, w_solver="bpp")).differences(RunConfig().to_dict())
        ['k is 16 here and was 30', "w_solver is 'bpp' here and was 'unrolled'"]
    """

    critic_width: int = option(32, "Channels of the first layer of the critic.", at_least(1))
    start_from: str | None = option(
        None,
        "A run folder: begin from its last weights, where they fit; its W-solver may be another.",
        partial(check_text, expected="the folder of a run"),
        none="random",
    )


@dataclass(frozen=True)
class RunConfig:
    """A whole run: data, model, training.

    Attributes:
        data: which images; ``DataConfig()`` unless given.
        model: the generator and the critic; ``ModelConfig()`` unless given.
        training: how they are trained; ``TrainingConfig()`` unless given.

    Example:
        >>> from diffnmf.runs import RunConfig
        >>> config = RunConfig().with_options(dataset="digits", k=16, epochs=3)
        >>> config.data.dataset, config.model.k, config.training.epochs
        ('digits', 16, 3)
        >>> config.to_yaml().splitlines()[:2]  # what ``diffnmf train --config`` reads
        ['data:', '  dataset: digits']
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_yaml(self) -> str:
        """Plain text that ``from_yaml`` reads back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The sections as plain values."""
        return _plain(asdict(self))

    def options(self) -> dict[str, Any]:
        """Every option under its own name, whatever its section, as a plain value."""
        return {option: value for section in self.to_dict().values() for option, value in section.items()}

    @classmethod
    def from_yaml(cls, path: Path, base: "RunConfig | None" = None) -> "RunConfig":
        """Read a configuration.

        Arguments:
            path: a YAML file with the sections data, model and training, or some of them.
            base: where the entries come from that the file leaves out; the defaults unless given.

        Raises:
            RunFolderError: the file is not one; the message names the file and the entry.
        """
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Careful)
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # a date that is none is a ValueError
            raise RunFolderError(f"{path}: expected a configuration in YAML; {error}") from error
        base = base or cls()
        try:
            sections = _section(cls, content)
            return cls(**{name: _merged(getattr(base, name), sections.get(name, {})) for name in _names(cls)})
        except (TypeError, ValueError) as error:
            raise RunFolderError(f"{path}: {error}") from error

    def with_options(self, **options: Any) -> "RunConfig":
        """The same run with other options, each under its own name, whatever its section.

        Raises:
            ValueError: no section has an option of that name, or the value is out of range.
        """
        sections = {name: getattr(self, name) for name in _names(type(self))}
        known = {entry: name for name, section in sections.items() for entry in _names(type(section))}
        for entry in options:
            if entry not in known:
                raise unknown_name("option", entry, known)
        for name, section in sections.items():  # all of a section at once: some options are right only together
            sections[name] = replace(section, **{entry: options[entry] for entry in options if known[entry] == name})
        return replace(self, **sections)

    def differences(self, saved: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The options that make another run than the one whose ``to_dict`` was saved, as "k is 5 here and was 6".

        What may change while a run goes on is passed over, and so is what one of the two does not know.
        """
        before = {option: value for section in saved.values() for option, value in section.items()}
        common = {name: value for name, value in self.options().items() if name in before and name not in MAY_CHANGE}
        return differences(common, {name: before[name] for name in common}, _same)


class _Careful(yaml.SafeLoader):
    """Plain YAML without what would be another thing than it looks like.

    Of two entries of one name the last would count, and a section be lost in silence; 010 would be 8, and 1:30 be 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        names = [key.value for key, _ in entries]
        for place, (key, value) in enumerate(entries):
            line = key.start_mark.line + 1
            if key.value in names[:place]:
                raise yaml.YAMLError(f"line {line}: {key.value} is there twice (leave one out)")
            for number in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if number.tag in NUMBERS and NOT_DECIMAL.fullmatch(number.value):
                    raise yaml.YAMLError(
                        f"line {line}: {key.value}: expected numbers as they are usually written; got {number.value},"
                        f" which YAML reads as {self.construct_object(number)} (leave out zeros in front and colons; a"
                        " name goes into quotes)"
                    )
        return super().construct_mapping(node, deep)


def _same(option: str, value: object, saved: object) -> bool:
    """Whether an option says the same; one's own images may have been moved, and a checkpoint knows them otherwise."""
    if option == "reconstruction":
        saved = current_loss(saved)
    own_images = option == "dataset" and saved not in DATASETS and value not in DATASETS
    return own_images or saved == value


def _names(config: type) -> list[str]:
    return [entry.name for entry in fields(config)]


def _merged(base: Any, entries: object) -> Any:
    """A section with the entries of a file in the place of its own."""
    return replace(base, **_section(type(base), entries))


def _section(config: type, content: object) -> dict[str, Any]:
    """The entries of one section; an entry that no field takes is an error, not a default."""
    known = _names(config)
    if not isinstance(content, Mapping):
        raise TypeError(f"expected the entries {', '.join(known)}; got {content!r}")
    for name in content:
        if name not in known:
            raise unknown_name("entry", name, known)
    return dict(content)


def _plain(value: Any) -> Any:
    """Tuples as lists: YAML has no tuples."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value
