"""The programs in Triton compiled for GPUs that are not here: registers and spills of each, as JSON on the output.

python tests/kernels/compiled_programs.py 80 90 10 30 64  # compute capabilities, then numbers of components
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from diffnmf.factorization.half_step import negligible
from diffnmf.kernels.cuda import bounded, calling, hals, programs, sweeping

CAPABILITIES = (80, 86, 89, 90, 100, 120)
OPTIONS = ("num_warps", "maxnreg", "enable_fp_fusion")  # of the compiler
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
DOUBLES = ["A", "C", "B", "V", "W", "G", "RIDGE", "L1", "SCALE", "SQUARES", "PIVOT", "S"]
DOUBLES += ["WEIGHT", "LOWER", "UPPER", "SHARE", "T", "X"]
NUMBERS = ["tiny", "tolerance", "least_pivot", "near_tie", "independent_pivot", "independent_sum", "large"]
TYPES = dict.fromkeys(("FREE", "GUESS", "MULTIPLIES", "ANY_H", "ANY_Y"), "*i8")
TYPES |= dict.fromkeys(("STATE", "STEPS", "CODE"), "*i32")
TYPES |= dict.fromkeys(DOUBLES, "*fp64") | dict.fromkeys(NUMBERS, "fp32")


def usage(
    program: Any, capability: int, constants: dict[str, Any], data: str = "*fp32", *, aligned: bool = True
) -> dict[str, int]:
    """Registers a thread, and bytes a thread that have no place in them.

    aligned: every address and every number is a multiple of 16, as those of torch mostly are; a launch compiles for it.
    """
    constants = dict(constants)
    options = {name: constants.pop(name) for name in OPTIONS if name in constants}
    either = ("A", "C", "X", "PAST", "BETA") if program is sweeping.half else ("H", "Y", "GRAD_H", "GRAD_Y")
    types = {**TYPES, **dict.fromkeys(either, data)}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in program.arg_names}
    multiples = [x.name for x in program.params if aligned and sees_multiples(x, signature[x.name])]
    made = compiled(program, capability, signature, constants, multiples, options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        out = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", out)
    assert found, out
    registers, stack, _, local = map(int, found.groups())
    return {"registers": registers, "spilled bytes": stack + local}


def compiled(
    program: Any,
    capability: int,
    signature: dict[str, str],
    constants: dict[str, Any],
    multiples: list[str],
    options: dict[str, Any],
) -> Any:
    """As a launch compiles for arguments some of which are multiples of 16."""
    attributes = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(program.arg_names) if name in multiples}
    source = ASTSource(program, signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def sees_multiples(parameter: Any, kind: str) -> bool:
    """Whether a launch looks at what an address or a whole number is a multiple of."""
    if kind.startswith("*"):
        return not parameter.do_not_specialize_on_alignment
    return kind in ("i32", "i64") and not parameter.do_not_specialize


def cases(k: int, capability: int) -> dict[str, tuple[Any, dict[str, Any], str]]:
    """Every program as ``calling.py`` calls it: its constants, and the type of H and Y."""
    column, gradients = calling.column_sizes(k), calling.gradients_tile(k, divmod(capability, 10))
    gram = calling.gram_tile(k, 40, divmod(capability, 10))
    wanted = {"WANTS_H": True, "WANTS_Y": True}
    return {
        "search": (programs.search, {**column, "RAW": True, "GUESSED": False}, "*fp32"),
        "search from a guess": (programs.search, {**column, "RAW": True, "GUESSED": True}, "*fp32"),
        "search of a form": (programs.search, {**column, "RAW": False, "GUESSED": True}, "*fp32"),
        "walk": (bounded.walk, {**column, "SUM": False}, "*fp32"),
        "walk, sum": (bounded.walk, {**column, "SUM": True}, "*fp32"),
        "solve": (programs.solve, column, "*fp32"),
        "prepare": (programs.prepare, column, "*fp32"),
        "gram": (programs.gram, gram, "*fp32"),
        "gram, float64": (programs.gram, gram, "*fp64"),
        "gradients": (programs.gradients, {**gradients, **wanted}, "*fp32"),
        "gradients, float64": (programs.gradients, {**gradients, **wanted}, "*fp64"),
        **sweeps(k),
    }


def sweeps(k: int) -> dict[str, tuple[Any, dict[str, Any], str]]:
    """The half-step of HALS, which takes more components than the others."""
    found = {}
    for dtype, data in ((torch.float32, "*fp32"), (torch.float64, "*fp64")):
        for extrapolate in (False, True):
            name = f"half, {str(dtype).removeprefix('torch.')}{', extrapolated' if extrapolate else ''}"
            constants = {**hals.columns_tile(k, dtype), "ZERO": negligible(dtype), "EXTRAPOLATE": extrapolate}
            found[name] = (sweeping.half, constants, data)
    return found


def main(capabilities: list[int], sizes: list[int]) -> None:
    rows = {
        f"{name}, k = {k}, sm_{capability}{', aligned' if aligned else ''}": usage(
            program, capability, constants, data, aligned=aligned
        )
        for capability in capabilities
        for k in sizes
        for aligned in (True, False)
        for name, (program, constants, data) in (
            cases(k, capability) if k <= calling.most_components(divmod(capability, 10)) else sweeps(k)
        ).items()
    }
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    capabilities = [word for word in words if word in CAPABILITIES]
    main(capabilities or [90], [word for word in words if word not in CAPABILITIES] or [10, 30, 32, 50, 64, 128])
