"""The NNLS layer."""

from torch import Tensor, nn

from diffnmf.checks import check_name
from diffnmf.solvers import NNLSSolver, get_solver
from diffnmf.solvers.base import BACKWARDS
from diffnmf.solvers.nnls import solve_nnls
from diffnmf.solvers.problem import check_penalty


class NNLSLayer(nn.Module):
    """Non-negative least squares as a layer: W = argmin ½‖Y − HW‖²_F + l1 ΣW + ½ ridge ‖W‖²_F, W ≥ 0.

    Batched, exact and differentiable. It has no parameters of its own and never warns: ``diffnmf.nnls`` has the
    diagnostics.

    Arguments:
        solver: a name of ``diffnmf.solvers.SOLVERS`` or an instance of a solver, your own too (docs/nnls.md).
        ridge: ≥ 0, a number or a tensor that broadcasts to the batch shape; not scaled with n.
        l1: as ridge. A model that learns H under ridge or l1 must keep the columns of H at unit norm, or it escapes
            the penalty by scaling. With l1 at or above ``diffnmf.solvers.largest_useful_l1(H, Y)``, the largest entry
            of HᵀY, every code and every gradient is zero: the layer is switched off, and stays so.
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
        ridge: float | Tensor = 0.0,
        l1: float | Tensor = 0.0,
        backward: str = "implicit",
    ) -> None:
        super().__init__()
        self.solver = get_solver(solver)
        self._keep("ridge", check_penalty("ridge", ridge))
        self._keep("l1", check_penalty("l1", l1))
        self.backward_mode = check_name("backward", backward, BACKWARDS)

    def _keep(self, name: str, penalty: float | Tensor) -> None:
        """A tensor as a buffer, so that it moves with the module; a number, or the parameter of a user, as it is."""
        if isinstance(penalty, Tensor) and not isinstance(penalty, nn.Parameter):
            self.register_buffer(name, penalty)
        else:
            setattr(self, name, penalty)

    def forward(
        self,
        H: Tensor,
        Y: Tensor,
        *,
        W0: Tensor | None = None,
        ridge: float | Tensor | None = None,
        l1: float | Tensor | None = None,
    ) -> Tensor:
        """W (*batch, k, m) for H (*batch, n, k) and Y (*batch, n, m).

        Arguments:
            H: the bases.
            Y: the columns to be explained.
            W0: (*batch, k, m), a warm start.
            ridge: replaces the layer's own for this call.
            l1: likewise.
        """
        return solve_nnls(
            H,
            Y,
            self.solver,
            ridge=self.ridge if ridge is None else ridge,
            l1=self.l1 if l1 is None else l1,
            W0=W0,
            backward=self.backward_mode,
        )

    def extra_repr(self) -> str:
        return f"{self.solver}, ridge={self.ridge}, l1={self.l1}, backward={self.backward_mode!r}"
