"""The NNLS layer."""

from typing import Any

from torch import Tensor, nn

from diffnmf.checks import check_flag, check_floating, check_matrix, check_name
from diffnmf.solvers import NNLSSolver, get_solver
from diffnmf.solvers.base import BACKWARDS
from diffnmf.solvers.constraints import TOTAL_KINDS, Asked, check_bound, check_flags, check_total
from diffnmf.solvers.entry import with_options
from diffnmf.solvers.nnls import solve_nnls, solve_nnls_gram
from diffnmf.solvers.problem import check_penalty


class NNLSLayer(nn.Module):
    """Non-negative least squares as a layer: W = argmin ½‖Y − HW‖²_F + Σ l1 W + ½ Σ ridge W², W ≥ 0.

    Batched, exact and differentiable, with the constraints of ``diffnmf.nnls``, which explains them. What is given here
    holds for every call; what is given to a call replaces it there. The layer has no parameters of its own and never
    warns: ``diffnmf.nnls`` has the diagnostics.

    Arguments:
        solver: a name of ``diffnmf.solvers.SOLVERS`` or an instance of a solver, your own too (docs/nnls.md).
        rows: samples are rows: Y (*batch, m, n) and W (*batch, m, k), and so are W0, allowed, weights, upper, signed,
            ridge and l1 against them, and total against (*batch, m, 1). H stays (*batch, n, k).
        ridge: ≥ 0, a number or a tensor that broadcasts to W; not scaled with n.
        l1: as ridge. A model that learns H under ridge or l1 must keep the columns of H at unit norm, or it escapes
            the penalty by scaling. With l1 at or above ``diffnmf.solvers.largest_useful_l1(H, Y)``, the largest entry
            of HᵀY, every code and every gradient is zero: the layer is switched off, and stays so.
        allowed, signed: bool tensors that broadcast to W.
        weights: ≥ 0, a tensor that broadcasts to Y.
        total, total_kind: a number or a tensor that broadcasts to (*batch, 1, m); "equal" or "at_most".
        upper: ≥ 0, a number or a tensor that broadcasts to W.
        backward: "implicit" (exact, at the solution), "unrolled" (through the iterations) or "detached".

    Shapes:
        H (*batch, n, k) and Y (*batch, n, m), any sign, any floating dtype, give W (*batch, k, m).

    Raises:
        ValueError, TypeError: as ``diffnmf.nnls``.

    Example:
        >>> import torch
        >>> from diffnmf.layers import NNLSLayer
        >>> H, Y = torch.rand(8, 784, 30, requires_grad=True), torch.rand(8, 784, 40)
        >>> W = NNLSLayer()(H, Y)
        >>> W.shape
        torch.Size([8, 30, 40])
        >>> (Y - H @ W).abs().mean().backward()  # the gradient reaches H through W, too
    """

    ridge: float | Tensor
    l1: float | Tensor

    def __init__(
        self,
        solver: str | NNLSSolver = "unrolled",
        *,
        rows: bool = False,
        ridge: float | Tensor = 0.0,
        l1: float | Tensor = 0.0,
        allowed: Tensor | None = None,
        weights: Tensor | None = None,
        total: float | Tensor | None = None,
        total_kind: str = "equal",
        upper: float | Tensor | None = None,
        signed: Tensor | None = None,
        backward: str = "implicit",
    ) -> None:
        super().__init__()
        self.solver = get_solver(solver)
        self.rows = check_flag("rows", rows)
        self.total_kind = check_name("total_kind", total_kind, TOTAL_KINDS)
        self.backward_mode = check_name("backward", backward, BACKWARDS)
        self._keep("ridge", check_penalty("ridge", ridge))
        self._keep("l1", check_penalty("l1", l1))
        self._keep("allowed", None if allowed is None else check_flags("allowed", allowed))
        self._keep("weights", None if weights is None else check_floating("weights", weights))
        self._keep("total", None if total is None else check_total(total, signed=signed is not None))
        self._keep("upper", None if upper is None else check_bound("upper", upper))
        self._keep("signed", None if signed is None else check_flags("signed", signed))

    def _keep(self, name: str, value: float | Tensor | None) -> None:
        """A tensor as a buffer, so that it moves with the module; a number, or the parameter of a user, as it is."""
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            self.register_buffer(name, value)
        else:
            setattr(self, name, value)

    def forward(
        self,
        H: Tensor,
        Y: Tensor,
        *,
        W0: Tensor | None = None,
        ridge: float | Tensor | None = None,
        l1: float | Tensor | None = None,
        allowed: Tensor | None = None,
        weights: Tensor | None = None,
        total: float | Tensor | None = None,
        total_kind: str | None = None,
        upper: float | Tensor | None = None,
        signed: Tensor | None = None,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> Tensor:
        """W (*batch, k, m) for H (*batch, n, k) and Y (*batch, n, m); with ``rows`` (*batch, m, k) for (*batch, m, n).

        Arguments:
            H: the bases.
            Y: the columns to be explained.
            W0: as W, a warm start.
            ridge, l1, allowed, weights, total, total_kind, upper, signed: replace the layer's own for this call.
            tol, max_iter: replace those of the solver for this call.
        """
        given = {"ridge": ridge, "l1": l1, "allowed": allowed, "weights": weights, "total": total, "upper": upper}
        if self.plain and tol is max_iter is total_kind is signed is None and all(x is None for x in given.values()):
            # As most calls are: for one small problem the rest would take a noticeable part of the time.
            return solve_nnls(H, Y, self.solver, self.ridge, self.l1, W0, self.backward_mode)
        ridge, l1, asked = self._asked({**given, "signed": signed}, total_kind)
        solver = with_options(self.solver, tol, max_iter)
        if self.rows:
            Y, W0 = check_matrix("Y", Y).mT, _transposed(W0)
        W = solve_nnls(H, Y, solver, ridge, l1, W0, self.backward_mode, asked if asked else None)
        return W.mT if self.rows else W

    @property
    def plain(self) -> bool:
        """Whether the layer asks for columns and for W ≥ 0 alone."""
        return not self.rows and self.allowed is self.weights is self.total is self.upper is self.signed is None

    def solve_gram(
        self,
        G: Tensor,
        C: Tensor,
        *,
        W0: Tensor | None = None,
        ridge: float | Tensor | None = None,
        l1: float | Tensor | None = None,
        allowed: Tensor | None = None,
        total: float | Tensor | None = None,
        total_kind: str | None = None,
        upper: float | Tensor | None = None,
        signed: Tensor | None = None,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> Tensor:
        """W (*batch, k, m) from G = HᵀH (*batch, k, k) and C = HᵀY (*batch, k, m), see ``diffnmf.nnls_gram``.

        With ``rows`` C and W are (*batch, m, k). Row weights belong into G and C. The other arguments are those of
        ``forward``.

        Raises:
            ValueError: the layer has weights.
        """
        given = {"ridge": ridge, "l1": l1, "allowed": allowed, "total": total, "upper": upper, "signed": signed}
        ridge, l1, asked = self._asked({**given, "weights": None}, total_kind)
        if asked.weights is not None:
            raise ValueError(
                "weights: expected None with a Gram matrix, which they belong into; got a tensor (weigh H and Y before)"
            )
        if self.rows:
            C, W0 = check_matrix("C", C).mT, _transposed(W0)
        solver = with_options(self.solver, tol, max_iter)
        W = solve_nnls_gram(G, C, solver, ridge, l1, W0, self.backward_mode, asked)
        return W.mT if self.rows else W

    def _asked(self, given: dict[str, Any], total_kind: str | None) -> tuple[float | Tensor, float | Tensor, Asked]:
        """ridge, l1 and the constraints of a call, with the layer's own in the place of None, for columns."""
        values = {name: getattr(self, name) if x is None else x for name, x in given.items()}
        if self.rows:
            values = {name: _transposed(value) for name, value in values.items()}
        ridge, l1 = values.pop("ridge"), values.pop("l1")
        kind = self.total_kind if total_kind is None else check_name("total_kind", total_kind, TOTAL_KINDS)
        return ridge, l1, Asked(total_kind=kind, **values)

    def extra_repr(self) -> str:
        given = {name: getattr(self, name) for name in ("allowed", "weights", "total", "upper", "signed")}
        asked = "".join(f", {name}={_shown(value)}" for name, value in given.items() if value is not None)
        asked += f", total_kind={self.total_kind!r}" if self.total is not None else ""
        asked += ", rows=True" if self.rows else ""
        return (
            f"{self.solver}, ridge={_shown(self.ridge)}, l1={_shown(self.l1)}{asked}, backward={self.backward_mode!r}"
        )


def _transposed(x: Any) -> Any:
    """What goes with rows, for columns; numbers and None as they are."""
    if not isinstance(x, Tensor) or x.ndim == 0:
        return x
    return x.unsqueeze(-1) if x.ndim == 1 else x.mT


def _shown(value: object) -> str:
    if not isinstance(value, Tensor):
        return str(value)
    return f"tensor{tuple(value.shape)}" if value.ndim else str(value.detach())  # a parameter would say so in two lines
