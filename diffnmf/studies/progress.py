"""How far a long study is, and how long the rest of it may take."""

import time
from collections.abc import Callable

Announce = Callable[[str], None]


class Progress:
    """Announces parts of a study as they begin: "measuring mnist-k30-mu-seed0 (3 of 57, about 12 min left)".

    The estimate is the mean time of the parts that this call has finished, times the parts that are left. What was
    measured by an earlier call is no part and does not count.

    Arguments:
        total: parts that have to be done.
        announce: told what is about to be done.
        clock: seconds that only grow.
    """

    def __init__(self, total: int, announce: Announce, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.announce, self.clock = total, announce, clock
        self.begun, self.start = 0, 0.0

    def begin(self, what: str) -> None:
        """Announce a part; the one before it is finished."""
        finished, self.begun = self.begun, self.begun + 1
        if not finished:
            self.start = self.clock()
        left = f", about {_duration(self._seconds_left(finished))} left" if finished else ""
        self.announce(f"{what} ({self.begun} of {max(self.total, self.begun)}{left})")

    def _seconds_left(self, finished: int) -> float:
        return (self.clock() - self.start) / finished * max(self.total - finished, 1)


def _duration(seconds: float) -> str:
    """Two digits are enough for an estimate."""
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
