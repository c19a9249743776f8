"""``NNLSCoder``: a learned non-negative dictionary whose codes are exact, as a layer for rows of samples."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from diffnmf.checks import check_count, check_floating, check_name, check_same_device, check_seed
from diffnmf.factorization import factorize
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import NNLSSolver, get_solver
from diffnmf.solvers.norms import with_unit_columns

INITS = ("nmf", "spa", "kmeans")


class _WayBack(torch.autograd.Function):
    """Zero, with the gradient that brings back what max(0, v) has lost: at and below zero only what would raise v."""

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor) -> Tensor:
        return torch.zeros_like(v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)  # for vmap, which stumbles over a jvp for which nothing is saved

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return torch.where(v > 0, 0.0, grad.clamp(max=0))


class _WayBackInForwardMode(_WayBack):
    """The same with its derivative in forward mode, which is zero; torch.compile takes no function that has one."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return torch.zeros_like(tangent)


def _positive_part(v: Tensor) -> Tensor:
    """max(0, v), with the projected gradient in reverse mode; in forward mode with its derivative, 0 at v ≤ 0."""
    positive = torch.where(v <= 0, 0.0, v)  # NaN stays
    if torch.jit.is_tracing():  # a function of Python's own cannot be written into a file
        return positive
    way_back = _WayBack if torch.compiler.is_compiling() else _WayBackInForwardMode
    return positive + way_back.apply(v)


class NNLSCoder(nn.Module):
    """Codes in a dictionary H ≥ 0 that is learned by gradient descent: code(y) = argmin ½‖y − Hw‖² + l1 Σw, w ≥ 0.

    Rows in, rows out, as ``torch.nn.Linear`` has it, so that it stands in ``torch.nn.Sequential``; two in a row are a
    deep NMF. Codes are the exact solution, and the gradient passes through it to the dictionary and to the input. H is
    the positive part of the parameter, its columns scaled to unit norm: without that a model escapes an l1 by scaling H
    up. A zero of H is left again as soon as the loss would fall, so that no entry dies: below zero the gradient of the
    parameter is not its derivative, which is zero there and what forward mode gives. A whole column at or below zero,
    as too large a step may leave one, has no direction and gets no gradient: give it positive numbers,
    ``coder.weight.data[:, j].uniform_()``.

    Arguments:
        in_features: n, the length of a sample.
        k: components.
        solver: as in ``diffnmf.nnls``.
        ridge, l1: numbers ≥ 0 or tensors that broadcast to the codes, (k,) for one a component. See
            ``diffnmf.solvers.largest_useful_l1`` for the l1 from which on every code is zero.
        allowed, total, total_kind, upper, signed: constraints of the codes, as in ``diffnmf.nnls``, against rows:
            total=1.0 gives mixtures on the simplex.
        seed: of the random dictionary that it begins with, uniform in [0, 1) before its columns are scaled.

    Shapes:
        (*batch, in_features) to (*batch, k), any batch dimensions.

    Raises:
        TypeError, ValueError: as ``diffnmf.nnls``; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf import NNLSCoder
        >>> X = torch.rand(100, 64)
        >>> coder = NNLSCoder(64, 10, l1=0.1).initialize(X, "spa")
        >>> codes = coder(X)
        >>> codes.shape, coder.decode(codes).shape
        (torch.Size([100, 10]), torch.Size([100, 64]))
        >>> loss = (X - coder.reconstruct(X)).square().mean()
        >>> loss.backward()  # the gradient reaches coder.weight
        >>> deep = torch.nn.Sequential(NNLSCoder(64, 20), NNLSCoder(20, 5))
        >>> deep(X).shape
        torch.Size([100, 5])
    """

    def __init__(
        self,
        in_features: int,
        k: int,
        *,
        solver: str | NNLSSolver = "unrolled",
        ridge: float | Tensor = 0.0,
        l1: float | Tensor = 0.0,
        allowed: Tensor | None = None,
        total: float | Tensor | None = None,
        total_kind: str = "equal",
        upper: float | Tensor | None = None,
        signed: Tensor | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_count("in_features", in_features, at_least=1)
        self.k = check_count("k", k, at_least=1)
        asked: dict[str, Any] = {"allowed": allowed, "total": total, "upper": upper, "signed": signed}
        solver = get_solver(solver)
        asked["backward"] = "implicit" if solver.exact else solver.backwards[0]
        self.nnls = NNLSLayer(solver, rows=True, ridge=ridge, l1=l1, total_kind=total_kind, **asked)
        self.weight = nn.Parameter(torch.empty(self.in_features, self.k))
        with torch.no_grad():
            if seed is None:
                self.weight.uniform_()
            else:  # drawn on the CPU, wherever the weight is
                generator = torch.Generator().manual_seed(check_seed("seed", seed))
                self.weight.copy_(torch.rand(self.weight.shape, generator=generator, device="cpu"))

    @property
    def dictionary(self) -> Tensor:
        """H, (in_features, k) ≥ 0, with columns of unit norm; differentiable."""
        return with_unit_columns(_positive_part(self.weight))

    def forward(self, X: Tensor) -> Tensor:
        """The codes (*batch, k) of samples (*batch, in_features)."""
        check_floating("X", X)
        if X.ndim == 0 or X.shape[-1] != self.in_features:
            raise ValueError(f"X: expected samples as rows, (*batch, {self.in_features}); got {tuple(X.shape)}")
        codes = self.nnls(self.dictionary, X.reshape(-1, self.in_features))
        return codes.reshape(*X.shape[:-1], self.k)

    def decode(self, codes: Tensor) -> Tensor:
        """Samples (*batch, in_features) from codes (*batch, k)."""
        check_floating("codes", codes)
        if codes.ndim == 0 or codes.shape[-1] != self.k:
            raise ValueError(f"codes: expected codes as rows, (*batch, {self.k}); got {tuple(codes.shape)}")
        H = self.dictionary
        check_same_device("codes", codes, "weight", H.device)
        dtype = torch.promote_types(codes.dtype, H.dtype)  # as the codes of samples in another precision have it
        return codes.to(dtype) @ H.mT.to(dtype)

    def reconstruct(self, X: Tensor) -> Tensor:
        """The samples (*batch, in_features) as the dictionary can say them."""
        return self.decode(self(X))

    @torch.no_grad()
    def initialize(self, X: Tensor, method: str = "nmf", *, seed: int = 0) -> Self:
        """Begin with a dictionary from data.

        Arguments:
            X: (N, in_features) ≥ 0, samples as rows, at least k of them.
            method: "nmf" (HALS, 100 iterations), "spa" (k of the samples, which the others are nearly mixtures of) or
                "kmeans" (centres of scikit-learn's k-means).
            seed: of what is random in it.

        Returns:
            The coder itself.

        Raises:
            TypeError, ValueError: X is no such matrix, the method is unknown, or the weight is parametrized or pruned.
        """
        check_name("method", method, INITS)
        if not isinstance(self.weight, nn.Parameter):  # what is written to it would be lost
            raise ValueError(
                "weight: expected a parameter of its own; got one that is computed from others (call initialize before"
                " it is parametrized or pruned)"
            )
        check_floating("X", X)
        if X.ndim != 2 or X.shape[1] != self.in_features or len(X) < self.k:
            raise ValueError(
                f"X: expected at least {self.k} samples as rows, (N, {self.in_features}); got {tuple(X.shape)}"
            )
        if method == "kmeans":
            from sklearn.cluster import KMeans

            data = X.detach().float().cpu().numpy()
            H = torch.from_numpy(KMeans(self.k, n_init=1, random_state=seed).fit(data).cluster_centers_.T)
        else:
            options: dict[str, Any] = {"max_iter": 100, "tol": 0.0} if method == "nmf" else {"method": "spa"}
            H = factorize(X.detach().mT, self.k, seed=seed, **options).H
        H = with_unit_columns(H.to(self.weight))
        # What the data left no component for may find its own: a zero column has no direction to start in.
        self.weight.copy_(torch.where(H.any(dim=0), H, self.weight))
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, k={self.k}"
