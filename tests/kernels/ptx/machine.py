"""A machine that executes PTX without a GPU, all threads of all blocks at once, in arrays of one number a thread.

It follows the model of the ISA, not of one card: warps advance together where they may, wait at barriers, and memory
notices what would go wrong on a card only now and then (``memory.py``). What Triton makes of this library is what it
knows; any other instruction is a NotImplementedError.
"""

import numpy as np
from kernels.ptx.registers import Mask
from kernels.ptx.threads import Threads


class Machine(Threads):
    """Threads in warps: one launch of a program, arguments as ``Threads``.

    ``faults`` counts what went wrong; ``instructions``, what warps did, together or alone.
    """

    def run(self) -> None:
        """Until every warp has returned. Of the warps that are ready, those furthest behind come first."""
        self.place = np.zeros(self.blocks * self.warps, np.int64)  # of every warp: its next instruction
        self.running, self.waiting = np.ones(len(self.place), bool), np.zeros(len(self.place), bool)
        self.instructions = 0
        with np.errstate(all="ignore"):
            while self.running.any():
                ready = self.running & ~self.waiting
                if ready.any():
                    furthest_behind = self.place[ready].min()
                    self._advance(ready & (self.place == furthest_behind), int(furthest_behind))
                else:
                    self._pass_barrier()
        assert not self.copies and not self.groups, "nobody has waited for a copy"

    def _pass_barrier(self) -> None:
        """Blocks all of whose warps wait or have returned go on."""
        idle = (self.waiting | ~self.running).reshape(self.blocks, self.warps).all(axis=1)
        self.clock.of_block[idle] += 1
        self.clock.of_warp[np.repeat(idle, self.warps)] += 1
        self.waiting[np.repeat(idle, self.warps)] = False

    def _advance(self, active: np.ndarray, at: int) -> None:
        """One instruction of these warps."""
        instruction, threads = self.program.code[at], np.repeat(active, 32)
        self.where = f"{at}: {instruction}"
        self.instructions += 1
        if instruction.guard:
            threads = threads & (self.register(instruction.guard) ^ instruction.negated)
        self.place[active] = at + 1
        head = instruction.op[0]
        if head in ("bra", "ret"):
            taken = self._of_whole_warps(threads, active)
            if head == "ret":
                self.running[taken] = False
            else:
                self.place[taken] = self.program.labels[instruction.operands[0]]
        elif instruction.op == ("bar", "sync"):
            assert instruction.operands == ("0",), "the barrier of all warps of a block"
            self.waiting[self._of_whole_warps(threads, active)] = True
        else:
            self.execute(instruction, threads)

    def _of_whole_warps(self, threads: Mask, active: np.ndarray) -> np.ndarray:
        """Which warps a mask of threads means. What threads of one warp disagree on, Triton never branches on."""
        each = threads.reshape(-1, 32)
        if (each.any(axis=1) != each.all(axis=1)).any():
            self.faults[f"threads of a warp part: {self.where}"] += 1
        taken = each[:, 0]
        of_blocks = (taken & active).reshape(self.blocks, -1).any(1) & (~taken & active).reshape(self.blocks, -1).any(1)
        if of_blocks.any():
            self.faults[f"warps of a block part: {self.where}"] += 1
        return taken
