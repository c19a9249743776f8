"""Blocks that factorise their features, and ways to factorise: what ``attention_factorization.py`` compares.

Written from the descriptions of Geng et al. (2021) and Ashtari et al. (2023), who are quoted there.
"""

import torch
from torch import Tensor, nn

from diffnmf import NNLSLayer


class Multiplicative(nn.Module):
    """Six multiplicative updates of both factors, the gradient through the last one only."""

    def __init__(self, updates: int = 6) -> None:
        super().__init__()
        self.updates = updates

    def update(self, X: Tensor, H: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        W = W * (H.mT @ X) / (H.mT @ H @ W + 1e-6)
        H = H * (X @ W.mT) / (H @ (W @ W.mT) + 1e-6)
        return H, W

    def forward(self, X: Tensor, H: Tensor) -> Tensor:
        """HW (*batch, n, m) from X (*batch, n, m) ≥ 0 and a start H (*batch, n, k)."""
        with torch.no_grad():
            W = torch.softmax(H.mT @ X, dim=-2)
            for _ in range(self.updates - 1):
                H, W = self.update(X, H, W)
        H, W = self.update(X, H, W)
        return H @ W


class Exact(nn.Module):
    """Alternations of exact NNLS; the last H and the last W carry the implicit gradient to X."""

    def __init__(self, alternations: int = 3) -> None:
        super().__init__()
        self.alternations = alternations
        self.nnls = NNLSLayer()

    def forward(self, X: Tensor, H: Tensor) -> Tensor:
        """HW (*batch, n, m) from X (*batch, n, m) ≥ 0 and a start H (*batch, n, k)."""
        with torch.no_grad():
            W = self.nnls(H, X)
            for _ in range(self.alternations - 2):
                H = self.nnls(W.mT, X.mT, W0=H.mT).mT
                W = self.nnls(H, X, W0=W)
        H = self.nnls(W.mT, X.mT, W0=H.mT).mT
        return H @ self.nnls(H, X, W0=W)


class Alternating(nn.Module):
    """Rounds of HALS, the gradient through all of them."""

    def __init__(self, rounds: int = 5) -> None:
        super().__init__()
        self.rounds = rounds

    def half_step(self, H: Tensor, X: Tensor, W: Tensor) -> Tensor:
        """Each row of W at its optimum in turn."""
        G, C = H.mT @ H, H.mT @ X  # (*batch, k, k), (*batch, k, m)
        rows = list(W.unbind(-2))
        for j in range(len(rows)):
            others = torch.stack([G[..., j, i, None] * row for i, row in enumerate(rows) if i != j] or [0 * rows[j]])
            rows[j] = torch.relu(C[..., j, :] - others.sum(0)) / (G[..., j, j, None] + 1e-6)
        return torch.stack(rows, dim=-2)

    def forward(self, X: Tensor, H: Tensor) -> Tensor:
        """HW (*batch, n, m) from X (*batch, n, m) ≥ 0 and a start H (*batch, n, k)."""
        W = self.half_step(H, X, torch.zeros_like(H.mT @ X))
        for _ in range(self.rounds - 1):
            H = self.half_step(W.mT, X.mT, H.mT).mT
            W = self.half_step(H, X, W)
        return H @ W


class FactorBlock(nn.Module):
    """X + out(HW), where HW ≈ relu(into(X)) is of rank k: into and out are 1 × 1 convolutions."""

    def __init__(self, channels: int, k: int, factorize: nn.Module | None) -> None:
        super().__init__()
        self.into, self.out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.k, self.factorize = k, factorize

    def matrix(self, features: Tensor) -> Tensor:
        return torch.relu(self.into(features)).flatten(2)  # (B, channels, positions)

    def start(self, X: Tensor) -> Tensor:
        return torch.rand(*X.shape[:-1], self.k, dtype=X.dtype, device=X.device)

    def forward(self, features: Tensor) -> Tensor:
        X = self.matrix(features)
        smooth = X if self.factorize is None else self.factorize(X, self.start(X))
        return features + self.out(smooth.unflatten(2, features.shape[2:]))


class FactorizerLayer(nn.Module):
    """A layer of a Factorizer: X + out(HW) for windows of X, and then X + MLP(X), both behind a normalisation.

    HW ≈ relu(into(normalised X)), where features are shared out to heads and positions to windows, each of which is a
    matrix (channels / heads × positions of a window) of its own, of rank k.
    """

    def __init__(self, channels: int, k: int, factorize: nn.Module | None, *, heads: int = 2, window: int = 6) -> None:
        super().__init__()
        self.into, self.out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels) for _ in range(2))
        self.mlp = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), nn.GELU(), nn.Conv2d(2 * channels, channels, 1))
        self.k, self.heads, self.window, self.factorize = k, heads, window, factorize

    def matrix(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, heads, h / window, w / window, channels / heads, window²)."""
        X, p = torch.relu(self.into(self.norms[0](features))), self.window
        X = X.unflatten(3, (-1, p)).unflatten(2, (-1, p)).unflatten(1, (self.heads, -1))
        return X.permute(0, 1, 3, 5, 2, 4, 6).flatten(5)  # from (B, heads, C / heads, h / p, p, w / p, p)

    def image(self, X: Tensor) -> Tensor:
        """The way back of ``matrix``, without its convolution."""
        X = X.unflatten(5, (self.window, self.window)).permute(0, 1, 4, 2, 5, 3, 6)
        return X.flatten(5, 6).flatten(3, 4).flatten(1, 2)

    def start(self, X: Tensor) -> Tensor:
        return torch.rand(*X.shape[:-1], self.k, dtype=X.dtype, device=X.device)

    def forward(self, features: Tensor) -> Tensor:
        X = self.matrix(features)
        smooth = X if self.factorize is None else self.factorize(X, self.start(X))
        features = features + self.out(self.image(smooth))
        return features + self.mlp(self.norms[1](features))
