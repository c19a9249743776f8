"""The rows of a comparison of W-solvers, and their names."""

from typing import Any

from diffnmf.runs import ModelConfig

# Options of ``ModelConfig``. Exact solvers give the same W and the same gradient, so that one row stands for all. A row
# that needs another option beside its W-solver has a control row with that option alone: "fc" learns only with
# normalised maps, and l1 is meaningful only with unit columns of H.
W_SOLVER_ROWS: dict[str, dict[str, Any]] = {
    "fc": {"w_solver": "fc", "normalize_maps": True},
    "exact-normalized": {"w_solver": "unrolled", "normalize_maps": True},
    "exact": {"w_solver": "unrolled"},
    "detached": {"w_solver": "unrolled", "w_backward": "detached"},
    "truncated-5": {"w_solver": "unrolled", "w_steps": 5},
    "truncated-20": {"w_solver": "unrolled", "w_steps": 20},
    "ls_hals": {"w_solver": "ls_hals"},
    "cvxpylayer_loose": {"w_solver": "cvxpylayer_loose"},
    "cvxpylayer": {"w_solver": "cvxpylayer"},
    "unit-norm": {"w_solver": "unrolled", "unit_norm": True},
    "l1": {"w_solver": "unrolled", "unit_norm": True, "l1": 0.5},
}
# Options that a row does not set have these values, not those of the configuration.
PLAIN: dict[str, Any] = {
    "w_steps": None,
    "w_backward": None,
    "l1": 0.0,
    "unit_norm": False,
    "normalize_maps": False,
}
DEFAULT_ROWS = tuple(name for name in W_SOLVER_ROWS if name != "cvxpylayer")  # the same numbers as "exact"
EXACT = ("unrolled", "bpp", "hals")


def row_options(row: str) -> dict[str, Any]:
    """The options of a row, for ``RunConfig.with_options``."""
    return {**PLAIN, **W_SOLVER_ROWS[row]}


def w_solver_group(model: ModelConfig) -> str:
    """What a row is to be compared with: rows whose scores differ by their W-solver, and not by what goes with it."""
    if model.w_solver == "fc" or model.normalize_maps is True:
        return "normalised maps"
    if model.unit_norm:
        return "unit columns of H"
    return "exact W" if model.w_solver in (*EXACT, "cvxpylayer") and model.w_steps is None else "approximate W"


def w_solver_label(model: ModelConfig) -> str:
    """The name of a row: equal for models that differ only in options that do not matter here."""
    names = {"fc": "fully connected", "cvxpylayer_loose": "cvxpylayer, loose"}
    name = names.get(model.w_solver, model.w_solver)
    if model.w_solver in EXACT and model.w_steps is None:
        name = "exact NNLS"
    if model.w_steps is not None:
        name = f"{'truncated' if model.w_solver == 'unrolled' else model.w_solver}, {model.w_steps} steps"
    extras = {
        "detached W": model.w_backward == "detached",
        f"l1 = {model.l1:g}": model.l1 > 0,
        "unit-norm H": model.unit_norm,
        "normalised maps": model.normalize_maps is True and model.w_solver != "fc",
        "mixture": model.mixture,
    }
    return ", ".join([name, *(extra for extra, there in extras.items() if there)])
