"""The solvers of ``NMF`` by the names that scikit-learn has for them, and those of our own."""

from dataclasses import replace

from diffnmf.checks import check_name
from diffnmf.factorization.anls import ANLS
from diffnmf.factorization.base import Method
from diffnmf.factorization.divergence import check_beta
from diffnmf.factorization.hals import HALS
from diffnmf.factorization.multiplicative import MU
from diffnmf.factorization.registry import METHODS

SOLVERS: dict[str, type[Method]] = {"hals": HALS, "cd": HALS, "anls": ANLS, "mu": MU}
EXPECTED = f"solver: expected one of {', '.join(SOLVERS)}, or an instance of a method"


def solver_named(solver: str | Method, beta_loss: float | str, *, shuffle: bool, seed: int = 0) -> Method:
    """The method for ``solver`` and ``beta_loss`` of ``NMF``; ``seed`` is that of its orders, but for an instance.

    Raises:
        TypeError, ValueError: there is no such solver, or it has no use for that loss; the message says what to use.
    """
    beta = check_beta("beta_loss", beta_loss)
    if isinstance(solver, Method):
        method = solver
    elif isinstance(solver, str) and solver in METHODS and solver not in SOLVERS:
        start = f"init={solver!r} with max_iter=0"
        instead = start if solver in ("merge", "spa") else f"an instance, {METHODS[solver].__name__}()"
        raise ValueError(f"{EXPECTED}; got {solver!r} (use {instead})")
    elif isinstance(solver, str):
        method = SOLVERS[check_name("solver", solver, SOLVERS)]()
    else:
        raise TypeError(f"{EXPECTED}; got {solver!r}")
    if isinstance(method, MU) and (not isinstance(solver, Method) or beta != 2):
        method = replace(method, beta_loss=beta_loss)
    if beta not in (2, method.beta):
        raise ValueError(
            f"Invalid beta_loss parameter: solver {solver!r} does not handle beta_loss = {beta_loss!r}"
            ' (beta_loss: expected "frobenius" but for solver "mu")'
        )
    if not (shuffle and isinstance(method, HALS)):
        return method
    return replace(method, shuffle=True, seed=method.seed if isinstance(solver, Method) else seed)
