"""What a run is made of: its options, read from and written to plain text, and enough to repeat it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from diffnmf.data import ORDERS
from diffnmf.errors import RunFolderError, unknown_name
from diffnmf.models.blocks import check_positive
from diffnmf.models.w_heads import check_w_options
from diffnmf.training import TrainingConfig
from diffnmf.training.losses import current_loss

# Options that a run may be continued with; the groups of a step must stay as many (see ``Trainer.load_state_dict``).
MAY_CHANGE = ("epochs", "batch_size", "accumulate", "checkpoint_every", "picture_every", "start_from")


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they become groups.

    Attributes:
        dataset: "digits", "mnist", "fashion", "faces", or a path to a user's own images.
        group_size: m, images in a group.
        order: "random" or "class", the order of the columns of a group.
        limit_groups: groups per epoch and in the test at the most; None for all.
        limit_test_groups: groups that are scored at the most, after every epoch and at the end; None for all.
    """

    dataset: str = "mnist"
    group_size: int = 40
    order: str = "random"
    limit_groups: int | None = None
    limit_test_groups: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, str) or not self.dataset:
            raise TypeError(f"dataset: expected a name or a path; got {self.dataset!r}")
        check_positive("group_size", self.group_size)
        if self.order not in ORDERS:
            raise unknown_name("order", self.order, ORDERS)
        for name in ("limit_groups", "limit_test_groups"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))


@dataclass(frozen=True)
class ModelConfig:
    """The generator (see ``Generator``) and the critic.

    Attributes:
        k: components.
        w_solver: "fc" or the name of an NNLS solver.
        width: channels of the U-Net at full resolution.
        critic_width: channels of the first layer of the critic.
        unit_norm: whether the columns of H are scaled to unit norm.
        depth: halvings in the U-Net; None for as many as the images allow.
        mixture: whether H begins as mixtures of the images of its group (not in the paper; see ``Generator``).
        w_steps: stop an iterative W-solver after so many steps, without its exact finish; None for the exact solution.
        w_backward: "implicit", "unrolled" or "detached"; None for what fits the solver.
        l1: penalty on the entries of W, ≥ 0; needs ``unit_norm``.
        normalize_maps: whether the maps of the U-Net are normalised before their ReLU; None where "fc" needs it.
        start_from: the folder of a run, from whose last weights this one begins, as far as they fit: another W-solver,
            other images of the same size. None for random weights.
    """

    k: int = 30
    w_solver: str = "unrolled"
    width: int = 48
    critic_width: int = 32
    unit_norm: bool = False
    depth: int | None = None
    mixture: bool = False
    w_steps: int | None = None
    w_backward: str | None = None
    l1: float = 0.0
    normalize_maps: bool | None = None
    start_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("k", "width", "critic_width"):
            check_positive(name, getattr(self, name))
        check_w_options(self.w_solver, self.w_steps, self.w_backward, self.l1, unit_norm=self.unit_norm)


@dataclass(frozen=True)
class RunConfig:
    """A whole run: data, model, training."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_yaml(self) -> str:
        """Plain text that ``from_yaml`` reads back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The sections as plain values."""
        return _plain(asdict(self))

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
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
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
        known = {option: name for name, section in sections.items() for option in _names(type(section))}
        for option in options:
            if option not in known:
                raise unknown_name("option", option, known)
        for name, section in sections.items():  # all of a section at once: some options are right only together
            sections[name] = replace(
                section, **{option: options[option] for option in options if known[option] == name}
            )
        return replace(self, **sections)

    def differences(self, saved: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The options that make another run than the one whose ``to_dict`` was saved, as "k is 5 here and was 6".

        What may change while a run goes on is passed over, and so is what one of the two does not know.
        """
        return [
            f"{option} is {value!r} here and was {saved[name][option]!r}"
            for name, section in self.to_dict().items()
            for option, value in section.items()
            if option not in MAY_CHANGE and option in saved.get(name, {}) and _old(option, saved[name]) != value
        ]


def _old(option: str, section: Mapping[str, Any]) -> object:
    """The value of an option in a saved section, under its current name."""
    return current_loss(section[option]) if option == "reconstruction" else section[option]


def _names(config: type) -> list[str]:
    return [entry.name for entry in fields(config)]


def _merged(base: Any, entries: object) -> Any:
    """A section with the entries of a file in the place of its own."""
    section = _section(type(base), entries)
    if isinstance(section.get("betas"), list):  # YAML has no tuples
        section["betas"] = tuple(section["betas"])
    return replace(base, **section)


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
