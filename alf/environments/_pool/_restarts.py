"""RestartBudget: how often something may be begun anew before it is taken to be wrong for good."""

from __future__ import annotations

import collections
import time
from typing import Callable


class RestartBudget:
    """At most ``max_restarts`` restarts within any ``window_seconds``.

    Args:
        max_restarts: 0 or more.
        window_seconds: length of the window.
        clock: returns seconds that never go back.
        told: what is counted, and the argument that limits it, for :meth:`describe`.
    """

    def __init__(
        self,
        max_restarts: int,
        window_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        told: tuple[str, str] = ("restarts", "max_restarts"),
    ):
        self._max_restarts = max_restarts
        self._window_seconds = window_seconds
        self._clock = clock
        self._told = told
        self._times: collections.deque[float] = collections.deque()
        self.num_restarts = 0  # ever

    def take(self) -> bool:
        """Return whether one more restart is allowed now, and count it if so."""
        now = self._clock()
        while self._times and now - self._times[0] > self._window_seconds:
            self._times.popleft()
        if len(self._times) >= self._max_restarts:
            return False
        self._times.append(now)
        self.num_restarts += 1
        return True

    def describe(self) -> str:
        """Return how much is used up, in words."""
        what, limit = self._told
        return (
            f"{len(self._times)} {what} within the last {self._window_seconds:.0f} seconds, of "
            f"{limit}={self._max_restarts} allowed"
        )
