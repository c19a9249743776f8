"""Where the weights W come from, given the basis H: an NNLS solver, or a fully connected head."""

import torch
from torch import Tensor, nn

from diffnmf.checks import check_count, check_name
from diffnmf.layers import NNLSLayer
from diffnmf.models.blocks import bottleneck_mlp
from diffnmf.solvers import (
    SOLVERS,
    ConeProgram,
    NNLSSolver,
    get_solver,
)

FULLY_CONNECTED = "fc"
LOOSE_CONE_PROGRAM = "cvxpylayer_loose"  # as accurate as cvxpylayers is unless told otherwise
W_SOLVERS = (*SOLVERS, LOOSE_CONE_PROGRAM, FULLY_CONNECTED)


class NNLSWeights(nn.Module):
    """W = argmin ‖Y − HW‖, W ≥ 0: the weights that fit this H best.

    Arguments:
        layer: what solves for W.

    Example:
        >>> import torch
        >>> from diffnmf.layers import NNLSLayer
        >>> from diffnmf.models import NNLSWeights
        >>> H, Y, bottleneck = torch.rand(2, 64, 3), torch.rand(2, 64, 6), torch.rand(2, 16, 4, 4)
        >>> head = NNLSWeights(NNLSLayer(total=1.0))  # every image is a mixture
        >>> head(H, Y, bottleneck).sum(-2).allclose(torch.ones(2, 6))
        True
    """

    def __init__(self, layer: NNLSLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, H: Tensor, Y: Tensor, bottleneck: Tensor, W0: Tensor | None = None) -> Tensor:
        """H (B, n, k), Y (B, n, m), the bottleneck (B, C, h', w') is not used; returns W (B, k, m).

        A solver that iterates begins at W0 (B, k, m).
        """
        return self.layer(H, Y, W0=W0)


class FullyConnectedWeights(nn.Module):
    """The paper's head: bottleneck features through fully connected layers and a ReLU, without looking at H.

    At the start, image i is explained by component i alone, for i < k. From random weights all components compete for
    all images: after 10 epochs on MNIST a third of them had not found theirs.

    The k·m values of a group are normalised together before the ReLU, with a learned gain and bias per component:
    without it the L1 loss drives all of them below zero, where no gradient brings them back.

    With ``corrects`` there are weights W₀ to begin with, and the layers, zero at the start, are added to them: none of
    the above is needed then.

    Arguments:
        channels: C of the bottleneck.
        k: components.
        m: columns of a group.
        hidden: width of the hidden layer.
        corrects: whether W₀ will be given.

    Example:
        >>> import torch
        >>> from diffnmf.models import FullyConnectedWeights
        >>> H, Y, bottleneck = torch.rand(2, 64, 3), torch.rand(2, 64, 6), torch.rand(2, 16, 4, 4)
        >>> head = FullyConnectedWeights(channels=16, k=3, m=6)
        >>> W = head(H, Y, bottleneck)
        >>> W.shape, torch.equal(W, head(2 * H, Y, bottleneck))  # H is not looked at
        (torch.Size([2, 3, 6]), True)
    """

    LEAN = 12.0  # the bias of a component's own image at the start; what the layer adds to it is about 0.3

    def __init__(self, channels: int, k: int, m: int, hidden: int = 512, *, corrects: bool = False) -> None:
        super().__init__()
        self.k = k
        self.m = m
        self.layers = bottleneck_mlp(channels, k * m, hidden)
        self.norm = nn.GroupNorm(1, k) if k * m > 1 and not corrects else nn.Identity()
        last = self.layers[-1]
        if corrects:
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        else:
            with torch.no_grad():
                last.bias.copy_(self.LEAN * torch.eye(k, m).flatten())  # type: ignore[operator]

    def forward(self, H: Tensor, Y: Tensor, bottleneck: Tensor, W0: Tensor | None = None) -> Tensor:
        """The bottleneck (B, C, h', w') alone decides, or corrects W0 (B, k, m); returns W (B, k, m)."""
        if W0 is not None:
            return torch.relu(W0 + self.layers(bottleneck).unflatten(1, (self.k, self.m)))
        weights = self.norm(self.layers(bottleneck).unflatten(1, (self.k, self.m)))  # (B, k, m)
        # After the normalisation the weight of an image's own component is about √m at the start: this makes it 0.6,
        # and with it HW as bright as pixels.
        return torch.relu(weights) * (0.4 / self.m) ** 0.5


def make_w_head(
    w_solver: str | NNLSSolver | NNLSLayer, *, channels: int, k: int, m: int, corrects: bool = False
) -> nn.Module:
    """The W-head of that name, or around that solver or layer; called on (H, Y, bottleneck) it returns W (B, k, m).

    With ``corrects`` it is called on (H, Y, bottleneck, W0).

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: neither a name nor a solver nor a layer.

    Arguments:
        w_solver: a name of ``W_SOLVERS``, a solver, or an ``NNLSLayer`` with options.
        channels: C of the bottleneck, for "fc".
        k: components, for "fc".
        m: columns of a group, for "fc".
        corrects: whether W₀ will be given, for "fc".

    Example:
        >>> import torch
        >>> from diffnmf.models import make_w_head
        >>> H, Y, bottleneck = torch.rand(2, 64, 3), torch.rand(2, 64, 6), torch.rand(2, 16, 4, 4)
        >>> for name in ("bpp", "fc"):
        ...     make_w_head(name, channels=16, k=3, m=6)(H, Y, bottleneck).shape
        torch.Size([2, 3, 6])
        torch.Size([2, 3, 6])
    """
    if w_solver == FULLY_CONNECTED:
        return FullyConnectedWeights(channels, k, m, corrects=corrects)
    return NNLSWeights(w_solver if isinstance(w_solver, NNLSLayer) else nnls_layer(w_solver))


def nnls_layer(
    w_solver: str | NNLSSolver,
    *,
    steps: int | None = None,
    backward: str | None = None,
    l1: float = 0.0,
    upper: float | None = None,
) -> NNLSLayer:
    """The layer of an NNLS solver by name, with what the comparison of W-solvers varies.

    Arguments:
        w_solver: a name of ``W_SOLVERS`` but "fc", or a solver.
        steps: stop the solver after so many steps or sweeps, without the exact finish (see ``NNLSSolver.truncated``).
        backward: of ``NNLSLayer``; by default "implicit" for an exact solver, and the first that it has, "unrolled",
            for one that stops before the solution and so has no implicit gradient.
        l1, upper: of ``NNLSLayer``.

    Raises:
        ValueError, TypeError: a name is unknown, or the solver has no such option; the message names the argument.
    """
    if isinstance(w_solver, str):
        check_name("w_solver", w_solver, W_SOLVERS)
    elif not isinstance(w_solver, NNLSSolver):
        raise TypeError(f"w_solver: expected a name, a solver or an NNLSLayer; got {type(w_solver).__name__}")
    solver = ConeProgram.loose() if w_solver == LOOSE_CONE_PROGRAM else get_solver(w_solver)
    if steps is not None:
        solver = _stopped_after(solver, steps, w_solver)
    if backward == "implicit" and not solver.exact:
        raise ValueError(
            'w_backward: expected "unrolled" or "detached" for a solver that is not exact; '
            'got "implicit" (leave it out)'
        )
    if backward == "unrolled" and backward not in solver.backwards:
        raise ValueError(
            f"w_backward: expected none for the steps of w_solver {w_solver!r}, which cannot be differentiated; got"
            ' "unrolled" (use "implicit" or "detached")'
        )
    if upper is not None and (not solver.takes_bounds or (backward == "unrolled" and solver.takes_constraints)):
        raise ValueError(
            f"upper: expected none for the steps of w_solver {w_solver!r}, which know no bound; got {upper}"
            ' (leave w_steps and w_backward out, or use "ls_hals")'
        )
    return NNLSLayer(
        solver, l1=l1, upper=upper, backward=backward or ("implicit" if solver.exact else solver.backwards[0])
    )


def check_w_options(
    w_solver: str,
    steps: int | None,
    backward: str | None,
    l1: float,
    *,
    unit_norm: bool,
    upper: float | None = None,
) -> None:
    """Raise unless the options of a model's W-solver, in plain values, fit together."""
    if w_solver != FULLY_CONNECTED:
        nnls_layer(w_solver, steps=steps, backward=backward, l1=l1, upper=upper)
    elif (steps, backward, l1) != (None, None, 0.0):
        raise ValueError(
            f"w_steps, w_backward, l1: expected none for w_solver 'fc', which solves nothing; "
            f"got {steps}, {backward}, {l1} (leave them out)"
        )
    elif upper is not None:
        raise ValueError(f"upper: expected none for w_solver 'fc', which knows no bound; got {upper} (leave it out)")
    if l1 and not unit_norm:
        raise ValueError(
            "l1: expected unit_norm with it, or H grows until the penalty is nothing; "
            f"got l1 = {l1} alone (set unit_norm)"
        )


def _stopped_after(solver: NNLSSolver, steps: int, name: object) -> NNLSSolver:
    steps = check_count("w_steps", steps, at_least=1)
    try:
        return solver.truncated(steps)
    except ValueError:
        raise ValueError(
            f"w_steps: expected none for w_solver {name!r}, which only ends at the solution; got {steps} (leave it out)"
        ) from None
