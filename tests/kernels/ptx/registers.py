"""The registers of all threads: arrays of one number a thread."""

import re

import numpy as np
from kernels.ptx.arithmetic import KINDS, SIZES, bits_of
from kernels.ptx.parsing import Program

Mask = np.ndarray
NOTHING_YET = 0xDEADBEEFDEADBEEF  # in registers and shared memory


class Registers:
    """Of blocks of threads that execute a program; those nobody wrote to hold ``NOTHING_YET``."""

    def __init__(self, program: Program, blocks: int, warps: int) -> None:
        self.program, self.blocks, self.warps = program, blocks, warps
        self.thread = np.arange(32 * warps * blocks)
        self.lane, self.block = self.thread % 32, self.thread // (32 * warps)
        special = {"%tid.x": self.thread % (32 * warps), "%ctaid.x": self.block}
        self.registers = {name: number.astype(np.uint32) for name, number in special.items()}

    def register(self, name: str) -> np.ndarray:
        if name not in self.registers:
            kind = bits_of(self.program.registers[re.sub(r"[%\d]", "", name)])
            self.registers[name] = np.full(len(self.thread), NOTHING_YET & (256 ** np.dtype(kind).itemsize - 1), kind)
        return self.registers[name]

    def read(self, operand: str, kind: str) -> np.ndarray:
        """The numbers of an operand, one a thread: a register, or the same number for all."""
        if kind == "pred":
            return self.register(operand) if operand.startswith("%") else np.full(len(self.thread), operand != "0")
        if operand.startswith("%"):
            return self.register(operand).astype(bits_of(kind), copy=False).view(KINDS[kind])
        if operand == "global_smem":
            number = 0
        else:
            number = int(operand[2:], 16) if operand[:2] in ("0d", "0f") else int(operand.rstrip("U"), 0)
        return np.full(len(self.thread), number & (256 ** SIZES[kind] - 1), bits_of(kind)).view(KINDS[kind])

    def write(self, name: str, value: np.ndarray, threads: Mask) -> None:
        """To a register, which may be wider: a sign goes on there."""
        if name == "_":
            return
        register = self.register(name)
        if value.dtype.itemsize != register.dtype.itemsize:
            value = value.astype(register.dtype)
        np.copyto(register, value.view(register.dtype), where=threads)

    def address(self, operand: str) -> np.ndarray:
        """Of ``[%rd1 + 8]``."""
        base, _, offset = operand.strip("[] ").replace(" ", "").partition("+")
        kind = "u64" if base.startswith("%rd") else "u32"
        return self.read(base, kind).astype(np.int64) + int(offset or "0", 0)
