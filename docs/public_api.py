"""The pages of the API reference, written from ``__all__``: a name that is exported is on a page, without being listed.

conf.py writes them before Sphinx reads the sources; the tests hold them against the package. Needs no Sphinx.
"""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

from generated import write_files

import diffnmf

INTERNAL = ("diffnmf.cli", "diffnmf.kernels")  # packages with an __all__ of their own that users have no need of
# What constants hold: a dict has no docstring of its own.
CONSTANTS = {
    "diffnmf.__version__": "The version of the package, a string.",
    "diffnmf.autoencoders.AUTOENCODERS": "Name -> class of every system that learns a dictionary.",
    "diffnmf.data.DATASETS": "Name of a data set -> the function that loads it; ``load_dataset`` takes the names.",
    "diffnmf.data.ORDERS": "The orders of the images in a group that ``GroupSampler`` knows.",
    "diffnmf.factorization.METHODS": "Name -> class of every method of ``factorize``.",
    "diffnmf.factorization.PAPER": "Name -> the options of ``factorize`` that the GAN-UNET paper used.",
    "diffnmf.models.W_SOLVERS": "The names that ``GANUNMF(w_solver=...)`` and ``--w-solver`` take.",
    "diffnmf.runs.PRESETS": "Name -> the ``RunConfig`` of ``diffnmf train --preset``.",
    "diffnmf.solvers.SOLVERS": "Name -> class of every NNLS solver.",
}


def public_modules() -> list[str]:
    """``diffnmf`` and its packages that say what they export, in the order of the alphabet."""
    packages = (m.name for m in pkgutil.iter_modules(diffnmf.__path__, "diffnmf.") if m.ispkg)
    return ["diffnmf", *(p for p in packages if p not in INTERNAL and hasattr(import_module(p), "__all__"))]


def home_of(module: str, name: str) -> str:
    """Where a name is described: what ``diffnmf`` exports from a public package is described there."""
    value = getattr(import_module(module), name)
    if module == "diffnmf":
        for other in public_modules()[1:]:
            if name in import_module(other).__all__ and getattr(import_module(other), name) is value:
                return other
    return module


def entry(module: str, name: str) -> str:
    """The directive that describes a name, or a line that leads to it."""
    home, value = home_of(module, name), getattr(import_module(module), name)
    if home != module:
        return f"``{name}``: see :py:obj:`{home}.{name}`.\n"
    if inspect.isclass(value):
        return f".. autoclass:: {module}.{name}\n   :members:\n"
    if callable(value):
        return f".. autofunction:: {module}.{name}\n"
    told = CONSTANTS.get(f"{module}.{name}", "")
    return f".. py:data:: {module}.{name}\n\n   {told}\n"


def page(module: str) -> str:
    """The page of a module in reStructuredText: what it is, then every public name, classes first."""
    names = sorted(import_module(module).__all__, key=lambda name: (name.startswith("_"), name.lower(), name))
    entries = "\n".join(entry(module, name) for name in names)
    return f"{module}\n{'=' * len(module)}\n\n.. automodule:: {module}\n   :no-members:\n\n{entries}"


def write_pages(folder: Path) -> None:
    """Write every page into ``folder``."""
    write_files(folder, {f"{module}.rst": page(module) for module in public_modules()}, ".rst")
