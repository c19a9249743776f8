"""
Comparing W-solvers
===================

All of them are given the same H. Some find the best W, others stop on the way to it: after so many steps, or after
least squares clipped at zero. What does that cost, and what does a loss behind it tell H?
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from diffnmf import NNLSLayer
from diffnmf.metrics import hoyer_W, relative_error
from diffnmf.solvers import LeastSquaresHALS, NNLSSolver, ProjectedGradient

torch.manual_seed(0)
images = torch.tensor(load_digits().data, dtype=torch.float64) / 16
Y = images[:400].T  # (64, 400)
H = images[torch.randperm(len(images))[:30]].T  # (64, 30): digits, which have much in common

# %%
# The gradient is that of the mean absolute error. An exact solver has it from the optimality conditions; what stops
# early is differentiated through its own steps.


def solve(solver: NNLSSolver) -> tuple[torch.Tensor, torch.Tensor]:
    """W (30, 400), and the gradient of the loss in H (64, 30)."""
    basis = H.clone().requires_grad_()
    W = NNLSLayer(solver, backward="implicit" if solver.exact else "unrolled")(basis, Y)
    (gradient,) = torch.autograd.grad((Y - basis @ W).abs().mean(), basis)
    return W.detach(), gradient


_, true_gradient = solve(ProjectedGradient())


def scores(solver: NNLSSolver) -> tuple[float, float, float]:
    """Relative error, Hoyer sparsity of W, and the cosine of the gradient and the true one."""
    W, gradient = solve(solver)
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), true_gradient.flatten(), dim=0)
    return relative_error(Y, H @ W).item(), hoyer_W(W).item(), cosine.item()


# %%
# ``truncated`` stops after so many steps, without the exact finish. The other exact solvers, "bpp" and "hals", find
# what the first row has; ls_hals is what other systems use.

solvers = {
    "exact": ProjectedGradient(),
    "20 gradient steps": ProjectedGradient().truncated(20),
    "5 gradient steps": ProjectedGradient().truncated(5),
    "ls_hals": LeastSquaresHALS(),
}
for name, solver in solvers.items():
    print("{}: relative error {:.4f}, sparsity of W {:.3f}, cosine of gradients {:.4f}".format(name, *scores(solver)))

# %%
# With more steps everything goes to the exact solution, the sparsity slowest: steps leave small weights where the best
# W has zeros. ls_hals sets many of them to zero, though not the right ones. Its error is between that of 5 and of 20
# steps, but the gradient through it points elsewhere.

steps = (1, 2, 5, 10, 20, 50, 100, 200)
curves = zip(*(scores(ProjectedGradient().truncated(count)) for count in steps), strict=True)
labels = ("relative error", "Hoyer sparsity of W", "cosine with the exact gradient")
lines = zip(labels, curves, scores(solvers["exact"]), scores(solvers["ls_hals"]), strict=True)
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for panel, (label, curve, exact, clipped) in zip(axes, lines, strict=True):
    panel.semilogx(steps, curve, marker="o", label="gradient steps")
    panel.axhline(exact, color="black", linestyle="--", label="exact")
    panel.axhline(clipped, color="tab:red", linestyle=":", label="ls_hals")
    panel.set(xlabel="steps", title=label)
axes[0].legend()

# %%
# The weights of the first 60 images, which are columns, by four of the solvers.

figure, axes = plt.subplots(2, 2, figsize=(9, 5), layout="constrained")
for panel, name in zip(axes.flat, ("exact", "ls_hals", "20 gradient steps", "5 gradient steps"), strict=True):
    panel.imshow(solve(solvers[name])[0][:, :60].numpy(), cmap="Blues", vmin=0, vmax=0.5)
    panel.set(title=name, xticks=[], yticks=[])
plt.show()
