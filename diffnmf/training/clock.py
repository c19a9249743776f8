"""Where the time of an epoch goes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

Mark = float | torch.cuda.Event
Key = tuple[str, str]  # a part, and which of its passes


class Clock:
    """Adds up the seconds of named parts, on the device: on a GPU through events, so that nothing waits.

    Arguments:
        device: what computes.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._open: dict[Key, Mark] = {}
        self._spans: dict[Key, list[tuple[Mark, Mark]]] = defaultdict(list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        self._start((name, ""))
        try:
            yield
        finally:
            self._stop((name, ""))

    @contextmanager
    def watching(self, name: str, module: nn.Module) -> Iterator[None]:
        """Time every pass through a module meanwhile; the backward ones where an input of it needs a gradient."""
        forward, backward = (name, "forward"), (name, "backward")
        handles = [
            module.register_forward_pre_hook(lambda *_: self._start(forward)),
            module.register_forward_hook(lambda *_: self._stop(forward)),
            module.register_full_backward_pre_hook(lambda *_: self._start(backward)),
            module.register_full_backward_hook(lambda *_: self._stop(backward)),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def seconds(self) -> dict[str, float]:
        """The seconds of every part since the last call; both passes through a watched module together."""
        if self._cuda:
            torch.cuda.synchronize()
        totals: dict[str, float] = defaultdict(float)
        for (name, _), spans in self._spans.items():
            totals[name] += sum(_seconds_between(*span) for span in spans)
        self._spans.clear()
        self._open.clear()
        return dict(totals)

    def _start(self, key: Key) -> None:
        self._open[key] = self._mark()

    def _stop(self, key: Key) -> None:
        if key in self._open:
            self._spans[key].append((self._open.pop(key), self._mark()))

    def _mark(self) -> Mark:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _seconds_between(start: Mark, end: Mark) -> float:
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    return start.elapsed_time(end) / 1000  # type: ignore[union-attr, arg-type]  # events, in milliseconds
