"""NNLSLayer in a model of your own: learn a dictionary of parts, with the exact non-negative codes of every sample."""

import argparse

import torch

from diffnmf.interrupts import interruptible
from diffnmf.layers import NNLSLayer


class DictionaryModel(torch.nn.Module):
    def __init__(self, features: int, parts: int) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(features, parts))
        self.nnls = NNLSLayer()

    def forward(self, Y: torch.Tensor) -> torch.Tensor:
        H = torch.nn.functional.softplus(self.logits)  # (features, parts), non-negative
        return H @ self.nnls(H, Y)  # the weights of every sample are solved for, not learnt


def main(steps: int = 100) -> list[float]:
    torch.manual_seed(0)
    Y = torch.rand(50, 5) @ torch.rand(5, 200)  # 200 samples of 50 features, made of 5 parts
    model = DictionaryModel(features=50, parts=5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(steps):
        loss = (model(Y) - Y).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # it has no options, and refuses some
    with interruptible():
        losses = main()
    print(f"mean absolute error: {losses[0]:.4f} at the start, {losses[-1]:.4f} at the end")
