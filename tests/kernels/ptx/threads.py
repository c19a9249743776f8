"""Instructions that are more than arithmetic: memory, and what threads of a warp do together."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from kernels.ptx.arithmetic import KINDS, REDUCTIONS, SIZES, bits_of, compute, product_of_matrices
from kernels.ptx.memory import Buffer, Clock, Memory
from kernels.ptx.parsing import Instruction, Program, names
from kernels.ptx.registers import NOTHING_YET, Mask, Registers

Copy = tuple[Instruction, Mask, np.ndarray]


class Threads(Registers):
    """Registers and memory. A method ``_ld`` is what ``ld`` does to the threads of a mask.

    Arguments:
        program: what to execute.
        arguments: the numbers of its parameters, one each.
        blocks, warps: how many blocks, and how many warps in each.
        shared: bytes of shared memory of a block.
        memory: makes the global memory, from the clock and the faults to be.
    """

    def __init__(
        self,
        program: Program,
        arguments: list[np.generic],
        blocks: int,
        warps: int,
        shared: int,
        memory: Callable[[Clock, Counter[str]], Memory],
    ) -> None:
        super().__init__(program, blocks, warps)
        self.arguments, self.where = arguments, ""
        self.clock, self.faults = Clock(blocks, warps), Counter[str]()
        self.shared_size = max(shared, 16)
        content = np.full(self.shared_size * blocks // 8 + 1, NOTHING_YET, np.uint64).view(np.uint8)
        self.shared = Memory([Buffer(0, content, self.clock)], self.faults, starts_empty=True)
        self.everywhere = memory(self.clock, self.faults)
        self.copies: list[Copy] = []  # cp.async, begun and not committed
        self.groups: list[list[Copy]] = []  # committed, and not waited for

    def execute(self, instruction: Instruction, threads: Mask) -> None:
        op, operands = instruction.op, instruction.operands
        special = getattr(self, f"_{op[0]}", None)
        if special is not None:
            special(instruction, threads)
        elif op[-1] == "pred" and op[0] in ("and", "or", "xor", "not"):
            flags = [self.read(x, "pred") for x in operands[1:]]
            logical = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, "not": np.logical_not}
            self.write(operands[0], logical[op[0]](*flags), threads)
        else:
            self.write(operands[0], compute(op, lambda i, kind: self.read(operands[i], kind)), threads)

    def _fetch(self, space: str, address: np.ndarray, size: int, threads: Mask) -> np.ndarray:
        """(threads, size) bytes; zero where a thread takes no part."""
        found = np.zeros((len(self.thread), size), np.uint8)
        if threads.any():
            memory, place = self._space(space, address, size, threads)
            found[threads] = memory.load(place, size, self.thread[threads], self.where)
        return found

    def _put(self, space: str, address: np.ndarray, values: np.ndarray, threads: Mask) -> None:
        if threads.any():
            memory, place = self._space(space, address, values.shape[1], threads)
            memory.store(place, values[threads], self.thread[threads], self.where)

    def _space(self, space: str, address: np.ndarray, size: int, threads: Mask) -> tuple[Memory, np.ndarray]:
        place = address[threads]
        if space == "global":
            return self.everywhere, place
        if (place < 0).any() or (place + size > self.shared_size).any():
            raise IndexError(f"outside of shared memory: {self.where}")
        return self.shared, place + self.block[threads] * self.shared_size

    def _ld(self, instruction: Instruction, threads: Mask) -> None:
        op, (target, source) = instruction.op, instruction.operands
        kind = op[-1]
        if op[1] == "param":
            number = self.arguments[int(source.strip("[]").rsplit("_", 1)[1])]
            value = np.full(len(self.thread), number).view(KINDS[kind])
            self.write(target, value, threads)
            return
        registers = names(target)
        loaded = self._fetch(op[1], self.address(source), len(registers) * SIZES[kind], threads)
        for register, value in zip(registers, loaded.view(KINDS[kind]).T, strict=True):
            self.write(register, np.ascontiguousarray(value), threads)

    def _st(self, instruction: Instruction, threads: Mask) -> None:
        op, (target, source) = instruction.op, instruction.operands
        values = np.stack([self.read(register, op[-1]) for register in names(source)], axis=1)
        self._put(op[1], self.address(target), values.view(np.uint8), threads)

    def _cp(self, instruction: Instruction, threads: Mask) -> None:
        """A copy to shared memory that takes its time: here, all the time that it has."""
        _, _, what, *_ = instruction.op
        if what in ("commit_group", "wait_group"):
            assert threads.all(), "groups of copies are those of all warps here"
        if what == "commit_group":
            self.groups.append(self.copies)
            self.copies = []
        elif what == "wait_group":
            still_out = int(instruction.operands[0])
            for group in self.groups[: len(self.groups) - still_out]:
                for begun in group:
                    self._copy(*begun)
            self.groups = self.groups[len(self.groups) - still_out :] if still_out else []
        else:
            target, source, size, *used = instruction.operands
            wanted = self.read(used[0], "u32") if used else np.full(len(self.thread), int(size, 0))
            addresses = np.stack([self.address(target), self.address(source), wanted.astype(np.int64)])
            self.copies.append((instruction, threads, addresses))

    def _copy(self, instruction: Instruction, threads: Mask, addresses: np.ndarray) -> None:
        """What is not read of the source is zero."""
        (target, source, wanted), size = addresses, int(instruction.operands[2], 0)
        loaded = self._fetch("global", source, size, threads & (wanted > 0))
        self._put("shared", target, loaded, threads)

    def _ldmatrix(self, instruction: Instruction, threads: Mask) -> None:
        registers = names(instruction.operands[0])
        for register, address in zip(registers, self._rows(instruction, 1), strict=False):
            self.write(register, self._fetch("shared", address, 4, threads).view(np.uint32)[:, 0], threads)

    def _stmatrix(self, instruction: Instruction, threads: Mask) -> None:
        registers = names(instruction.operands[1])
        for register, address in zip(registers, self._rows(instruction, 0), strict=False):
            self._put("shared", address, self.read(register, "b32")[:, None].view(np.uint8), threads)

    def _rows(self, instruction: Instruction, operand: int) -> list[np.ndarray]:
        """Where every thread's 4 bytes of a matrix of 8 rows of 16 bytes are; eight threads say where rows begin."""
        assert "trans" not in instruction.op
        given = self.address(instruction.operands[operand]).reshape(-1, 4, 8)
        lane = np.arange(32)
        return [(given[:, i, lane // 4] + 4 * (lane % 4)).reshape(-1) for i in range(4)]

    def _bar(self, instruction: Instruction, threads: Mask) -> None:
        assert instruction.op == ("bar", "warp", "sync")
        self.clock.of_warp[threads.reshape(-1, 32)[:, 0]] += 1

    def _shfl(self, instruction: Instruction, threads: Mask) -> None:
        target, source, which, clamp = instruction.operands[:4]
        assert clamp in ("31", "0x1f"), "of whole warps"
        number = self.read(which, "u32")
        lane = self.lane ^ number if instruction.op[2] == "bfly" else number % 32
        self.write(target, self.read(source, "b32")[self.thread - self.lane + lane], threads)

    def _redux(self, instruction: Instruction, threads: Mask) -> None:
        each = self.read(instruction.operands[1], instruction.op[-1]).reshape(-1, 32)
        reduced = REDUCTIONS[instruction.op[2]].reduce(each, axis=1, dtype=each.dtype)
        self.write(instruction.operands[0], np.repeat(reduced, 32), threads)

    def _mma(self, instruction: Instruction, threads: Mask) -> None:
        assert instruction.op[4:6] == ("row", "col")
        targets, *sources = map(names, instruction.operands)
        a, b, c = ([self.read(register, "f64") for register in source] for source in sources)
        for register, value in zip(targets, product_of_matrices(instruction.op[3], a, b, c), strict=True):
            self.write(register, value, threads)

    def _mov(self, instruction: Instruction, threads: Mask) -> None:
        """A register, a special one, or a register in parts: ``{%r1, %r2}``, the low one first."""
        kind, (target, source) = instruction.op[-1], instruction.operands
        if not (target.startswith("{") or source.startswith("{")):
            self.write(target, self.read(source, kind), threads)
            return
        part = f"b{8 * SIZES[kind] // len(names(target if target.startswith('{') else source))}"
        if source.startswith("{"):
            parts = np.stack([self.read(x, part) for x in names(source)], axis=1)
            self.write(target, parts.view(bits_of(kind))[:, 0], threads)
        else:
            parts = self.read(source, kind).view(KINDS[part]).reshape(len(self.thread), -1)
            for register, value in zip(names(target), parts.T, strict=True):
                self.write(register, np.ascontiguousarray(value), threads)
