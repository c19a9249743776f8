"""The options of the generator: each is declared here and nowhere else."""

from dataclasses import dataclass, field, fields

from diffnmf.checks import check_flag, check_image_shape
from diffnmf.models.basis_start import BASIS_INITS, check_basis_init
from diffnmf.models.blocks import check_depth
from diffnmf.models.w_heads import W_SOLVERS, check_w_options
from diffnmf.options import Options, at_least, declared, documented, one_of, option, within
from diffnmf.solvers.base import BACKWARDS


@documented
@dataclass(frozen=True)
class GeneratorOptions(Options):
    """What a generator may be told, whatever its images are.

    A field more here is an option more of ``GeneratorConfig``, ``GANUNMF``, ``ModelConfig``, the files of a run and
    ``diffnmf train``; what else it takes is the line that uses it.
    """

    k: int = option(30, "Components: columns of H.", at_least(1))
    w_solver: str = option("unrolled", f"Where W comes from: {', '.join(W_SOLVERS)}.", one_of(W_SOLVERS))
    width: int = option(48, "Channels of the U-Net at full resolution.", at_least(1))
    depth: int | None = option(
        None, "Halvings of the image in the U-Net.", at_least(0), none="until its shorter side would fall below 4"
    )
    unit_norm: bool = option(False, "Scale the columns of H to unit norm.", check_flag)
    mixture: bool = option(
        False,
        "Let H begin as mixtures of the images of its group, H = ReLU(U-Net(Y) + Y A) (not in the paper).",
        check_flag,
    )
    basis_init: str | None = option(
        None,
        "What the U-Net corrects, H = ReLU(H0 + U-Net(Y, H0)): merge (see docs/merging.md) or spa, components in a "
        "fixed order; training begins at its error (not in the paper).",
        one_of(BASIS_INITS),
        none="nothing, H = ReLU(U-Net(Y))",
    )
    w_steps: int | None = option(
        None,
        "Stop an iterative W-solver after so many steps, without its exact finish.",
        at_least(1),
        none="the exact solution",
    )
    w_backward: str | None = option(
        None,
        "Gradient of W: implicit, unrolled (through its steps) or detached.",
        one_of(BACKWARDS),
        none="what fits the solver",
    )
    # Without unit columns H escapes the penalty: it grows, and W shrinks.
    l1: float = option(
        0.0, "Penalty on the entries of W, 0 or more; needs columns of H at unit norm.", within("[0, inf)")
    )
    upper: float | None = option(
        None,
        "Largest entry of H and of W, as intensities of light have it (1 in Li et al. 2020), or with unit_norm of W "
        "alone; for NNLS solvers.",
        within("(0, inf)"),
        none="no bound",
    )
    normalize_maps: bool | None = option(
        None,
        "Normalise the maps of the U-Net before their ReLU, to mean 0 and variance 1, with a learned gain and bias.",
        check_flag,
        none="with fc",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.basis_init is not None and self.mixture:
            raise ValueError(
                f"basis_init: expected none with mixture, which is another start of H; got {self.basis_init!r}"
                " (leave one of them out; of the presets of diffnmf train, scratch has none)"
            )
        check_w_options(
            self.w_solver, self.w_steps, self.w_backward, self.l1, unit_norm=self.unit_norm, upper=self.upper
        )

    def for_groups(self, image_shape: tuple[int, int], m: int) -> "GeneratorConfig":
        """These options for groups of m images of that shape."""
        options = {entry.name: getattr(self, entry.name) for entry in fields(GeneratorOptions)}
        return GeneratorConfig(image_shape, m, **options)


@dataclass(frozen=True)
class GroupShape(Options):
    """What a generator has to be told of its groups."""

    image_shape: tuple[int, int] = field(
        metadata=declared("(h, w) of every image in pixels; n = h·w.", lambda name, value: check_image_shape(value))
    )
    m: int = field(metadata=declared("Images in a group.", at_least(1)))


@documented
@dataclass(frozen=True)
class GeneratorConfig(GeneratorOptions, GroupShape):  # in this order, image_shape and m are the first fields
    """All that makes a ``Generator``, in plain values.

    Raises:
        TypeError, ValueError: an option is of the wrong kind, unknown or out of range; the message names it.

    Example:
        >>> from dataclasses import replace
        >>> from diffnmf.models import GANUNMF, GeneratorConfig
        >>> config = GeneratorConfig((8, 8), m=6, k=3, width=8)
        >>> paper = replace(config, w_solver="fc")
        >>> type(GANUNMF(paper).generator.w_head).__name__
        'FullyConnectedWeights'
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth is not None:
            check_depth(self.depth, self.image_shape)
        check_basis_init(self.basis_init, self.image_shape[0] * self.image_shape[1], self.m, self.k)
