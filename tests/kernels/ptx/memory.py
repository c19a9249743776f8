"""Memory that notices what a GPU does not: places outside, races, and shared memory read before it was written.

A race is two accesses to a byte by different threads, one of which writes, without a barrier between them: what is
read then depends on which warp comes first. Threads of different blocks have no barrier between them.
"""

import ctypes
from collections import Counter

import numpy as np
from torch import Tensor

TRACKED = 2**26  # bytes: buffers beyond are too large to keep notes of
NOBODY, SEVERAL = -1, -2


class Clock:
    """How many barriers every block and every warp has passed."""

    def __init__(self, blocks: int, warps: int) -> None:
        self.warps, self.threads = warps, 32 * warps  # of a block
        self.of_block, self.of_warp = np.zeros(blocks, np.int64), np.zeros(blocks * warps, np.int64)


class Notes:
    """Who wrote every byte last, and when; which warp has read it since, and when."""

    def __init__(self, size: int, clock: Clock) -> None:
        self.clock = clock
        self.writer, self.reader = np.full(size, NOBODY), np.full(size, NOBODY)
        self.written, self.written_of_warp, self.read = (np.zeros(size, np.int64) for _ in range(3))

    def reading(self, place: np.ndarray, thread: np.ndarray) -> np.ndarray:
        """Which of these bytes another thread has written with no barrier since; notes who reads."""
        warp, now = thread // 32, self.clock.of_block[thread // self.clock.threads]
        writer = self.writer[place]
        unordered = self._unordered(writer // 32, self.written[place], warp, now)
        unordered |= (writer // 32 == warp) & (self.written_of_warp[place] >= self.clock.of_warp[warp])
        reader = self.reader[place]
        others = (reader != NOBODY) & (reader != warp) & (self.read[place] == now)
        self.reader[place], self.read[place] = np.where(others, SEVERAL, warp), now
        return (writer != NOBODY) & (writer != thread) & unordered

    def writing(self, place: np.ndarray, thread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of these bytes another warp has read, and which it has written, with no barrier since; notes who does.

        Within a warp, an instruction ends before the next one begins.
        """
        warp, now = thread // 32, self.clock.of_block[thread // self.clock.threads]
        writer, reader = self.writer[place], self.reader[place]
        read = (reader == SEVERAL) & (self.read[place] >= now)
        read |= (reader >= 0) & self._unordered(reader, self.read[place], warp, now)
        written = (writer != NOBODY) & self._unordered(writer // 32, self.written[place], warp, now)
        self.writer[place], self.written[place], self.written_of_warp[place] = thread, now, self.clock.of_warp[warp]
        self.reader[place] = NOBODY
        return read, written

    def _unordered(self, other: np.ndarray, when: np.ndarray, warp: np.ndarray, now: np.ndarray) -> np.ndarray:
        same_block = other // self.clock.warps == warp // self.clock.warps
        return (other != warp) & (~same_block | (when >= now))


class Buffer:
    """Some memory in one piece, from an address on."""

    def __init__(self, base: int, content: np.ndarray, clock: Clock) -> None:
        self.base, self.content = base, content
        self.notes = Notes(len(content), clock) if len(content) <= TRACKED else None

    def holds(self, address: np.ndarray, size: int) -> np.ndarray:
        """Whether this many bytes from these addresses on are inside."""
        return (address >= self.base) & (address + size <= self.base + len(self.content))


class Memory:
    """Buffers that threads load from and store to. ``faults`` counts what went wrong, by where."""

    def __init__(self, buffers: list[Buffer], faults: Counter[str], *, starts_empty: bool = False) -> None:
        self.buffers, self.faults, self.starts_empty = buffers, faults, starts_empty

    def load(self, address: np.ndarray, size: int, thread: np.ndarray, where: str) -> np.ndarray:
        """(len(thread), size) bytes from the addresses of these threads on."""
        loaded = np.zeros((len(thread), size), np.uint8)
        for buffer, inside, place in self._places(address, size, where):
            if buffer.notes:
                for byte in place.T:
                    if self.starts_empty and (buffer.notes.writer[byte] == NOBODY).any():
                        self.faults[f"read before it was written: {where}"] += 1
                    if buffer.notes.reading(byte, thread[inside]).any():
                        self.faults[f"read without a barrier after a write: {where}"] += 1
            loaded[inside] = buffer.content[place]
        return loaded

    def store(self, address: np.ndarray, values: np.ndarray, thread: np.ndarray, where: str) -> None:
        """Write values (len(thread), bytes) from these addresses on. Whoever writes the same value does no harm."""
        for buffer, inside, place in self._places(address, values.shape[1], where):
            wanted, before = values[inside], buffer.content[place]
            if buffer.notes:
                for byte, changes in zip(place.T, (before != wanted).T, strict=True):
                    read, written = buffer.notes.writing(byte, thread[inside])
                    if (read & changes).any():
                        self.faults[f"written without a barrier after a read: {where}"] += 1
                    if (written & changes).any():
                        self.faults[f"written without a barrier after a write: {where}"] += 1
            buffer.content[place] = wanted
            if (buffer.content[place] != wanted).any():
                self.faults[f"threads write different values to one place: {where}"] += 1

    def _places(self, address: np.ndarray, size: int, where: str) -> list[tuple[Buffer, np.ndarray, np.ndarray]]:
        """Of every buffer: which threads are in it, and the places of their bytes."""
        if (address % size).any():
            self.faults[f"not a multiple of {size} bytes: {where}"] += 1
        found, left = [], np.ones(len(address), bool)
        for buffer in self.buffers:
            inside = buffer.holds(address, size)
            if inside.any():
                found.append((buffer, inside, (address[inside] - buffer.base)[:, None] + np.arange(size)))
                left &= ~inside
        if left.any():
            raise IndexError(f"outside of memory: {where}")
        return found


def of_tensors(tensors: list[Tensor], clock: Clock, faults: Counter[str]) -> Memory:
    """The memory of tensors on the CPU, at the addresses where they are."""
    found = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    pieces = {base: (ctypes.c_uint8 * size).from_address(base) for base, size in found.items() if size}
    return Memory([Buffer(base, np.frombuffer(piece, np.uint8), clock) for base, piece in pieces.items()], faults)
