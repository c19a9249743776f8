"""
NNLS in a model of your own
===========================

The codes of this model are not computed by an encoder. They are solved for: the best non-negative weights of every
sample for the dictionary as it is. The solution is exact, and the gradient of any loss goes through it.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from diffnmf import NNLSLayer

torch.manual_seed(0)
X = torch.tensor(load_digits().data, dtype=torch.float32) / 16  # (1797, 64): images of 8 × 8 pixels in rows

# %%
# A dictionary of 16 parts is all that is learned; it begins as 16 images. ``rows=True``: samples are rows, as in
# ``torch.nn.Linear``.


class Dictionary(torch.nn.Module):
    def __init__(self, H: torch.Tensor) -> None:
        super().__init__()
        self.H = torch.nn.Parameter(H)  # (features, parts)
        self.nnls = NNLSLayer(rows=True)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.nnls(self.H, X) @ self.H.T


model = Dictionary(X[:16].T.clone())
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
losses = []
for _ in range(150):
    batch = X[torch.randint(len(X), (256,))]
    loss = (model(batch) - batch).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    model.H.data.clamp_(min=0)
    losses.append(loss.item())
print(f"mean absolute error: {losses[0]:.3f} at the start, {losses[-1]:.3f} at the end")

# %%
# The loss, and what the model has learned.

figure = plt.figure(figsize=(9, 3.2), layout="constrained")
left, right = figure.subfigures(1, 2)
axes = left.subplots()
axes.plot(losses)
axes.set(xlabel="step", ylabel="mean absolute error", ylim=(0, None))
for panel, part in zip(right.subplots(2, 8).flat, model.H.detach().T, strict=True):
    panel.imshow(part.reshape(8, 8).numpy(), cmap="gray_r")
    panel.axis("off")
right.suptitle("the 16 parts")
plt.show()
