"""As ``interpreted_programs.py``, with the programs compiled for a GPU, and what they are compiled to executed.

python tests/kernels/executed_programs.py 90  # a compute capability

Beside the rows of that file: "faults", what a machine that watches memory has noticed (``ptx/memory.py``).
"""

import json
import os
import sys
from collections import Counter
from functools import cache, partial
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import interpreted_programs
import numpy as np
import torch
from compiled_programs import OPTIONS, compiled, sees_multiples
from kernels.ptx.machine import Machine
from kernels.ptx.memory import of_tensors
from kernels.ptx.parsing import parse

from diffnmf.kernels.cuda import bounded, calling, programs, sweeping

TYPES = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32", torch.int8: "*i8"}
PROGRAMS = {programs: ("gram", "prepare", "search", "solve", "gradients"), bounded: ("walk",), sweeping: ("half",)}
faults: Counter[str] = Counter()


class Executed:
    """In the place of a program: a launch of it compiles as Triton would, and executes without a GPU."""

    def __init__(self, program: Any, capability: int) -> None:
        self.program, self.capability = program, capability

    def __getitem__(self, grid: tuple[int]) -> Any:
        return partial(self.launch, grid[0])

    def launch(self, blocks: int, *args: Any, **constants: Any) -> None:
        """Arguments in the order of the program's; those that are constants, and options of the compiler, by name."""
        options = {name: constants.pop(name) for name in OPTIONS if name in constants}
        given = {**dict(zip(self.program.arg_names, args, strict=False)), **constants}
        seen = {parameter.name: self._seen(parameter, given[parameter.name]) for parameter in self.program.params}
        made = _compiled(self.program, self.capability, tuple(seen.items()), tuple(options.items()))
        code, warps, shared = made
        numbers = [_number(given[name]) for name, (kind, _) in seen.items() if kind != "constexpr"]
        numbers += [np.uint64(0)] * (code.parameters - len(numbers))  # memory for debugging, that nobody asks for
        tensors = [x for x in given.values() if isinstance(x, torch.Tensor)]
        machine = Machine(code, numbers, blocks, warps, shared, partial(of_tensors, tensors))
        machine.run()
        faults.update({f"{self.program.__name__}, {what}": times for what, times in machine.faults.items()})

    def _seen(self, parameter: Any, value: Any) -> tuple[str, Any]:
        """How a launch compiles for an argument: its kind, and its value or whether it is a multiple of 16."""
        if parameter.is_constexpr or (type(value) is int and value == 1 and not parameter.do_not_specialize):
            return "constexpr", value
        if isinstance(value, float):
            return "fp32", False
        whole = value.data_ptr() if isinstance(value, torch.Tensor) else value
        narrow = "i32" if -(2**31) <= whole < 2**31 else "i64"
        kind = TYPES[value.dtype] if isinstance(value, torch.Tensor) else narrow
        return kind, whole % 16 == 0 and sees_multiples(parameter, kind)


def _number(value: Any) -> np.generic:
    if isinstance(value, torch.Tensor):
        return np.uint64(value.data_ptr())
    if isinstance(value, int):
        return np.int32(value) if -(2**31) <= value < 2**31 else np.int64(value)
    return np.float32(value)


@cache
def _compiled(program: Any, capability: int, seen: tuple[Any, ...], options: tuple[Any, ...]) -> tuple[Any, int, int]:
    """The code, how many warps execute it, and how many bytes they share."""
    signature = {name: kind for name, (kind, _) in seen}
    constants = {name: value for name, (kind, value) in seen if kind == "constexpr"}
    multiples = [name for name, (kind, x) in seen if kind != "constexpr" and x]
    made = compiled(program, capability, signature, constants, multiples, dict(options))
    return parse(made.asm["ptx"]), made.metadata.num_warps, made.metadata.shared


def main(capability: int) -> None:
    calling._capability = lambda device: divmod(capability, 10)  # type: ignore[assignment]
    for module, names in PROGRAMS.items():
        for name in names:
            setattr(module, name, Executed(getattr(module, name), capability))
    print(json.dumps({**interpreted_programs.rows(), "faults": faults}, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]))
