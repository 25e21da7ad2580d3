"""Samples how long the steps of each environment take, and names environments that slow down the batch."""

from __future__ import annotations

import time

import numpy as np

#: Samples kept of each environment.
NUM_SAMPLES = 64
#: An environment is called slow if its median step takes so many times as long as that of a quick one: one slower than
#: a quarter of the batch.
SLOW_FACTOR = 10.0

_LEAST_SAMPLES = 16
# Below this nobody waits long, whatever the factor.
_LEAST_SECONDS = 1e-3
# Measuring takes a host's quickest way of stepping from it, so it is done this seldom.
_SAMPLE_INTERVAL_SECONDS = 0.05
_MAX_TOLD = 4


class LatencySampler:
    """Decides which steps of a host are measured, and writes how long its environments took.

    Args:
        seconds: float32 ``[NUM_SAMPLES, num_envs]``, 0 where there is no sample yet.
    """

    def __init__(self, seconds: np.ndarray):
        self._seconds = seconds
        self._num_samples = 0
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether the step that begins now is to be measured."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _SAMPLE_INTERVAL_SECONDS
        return True

    def record(self, start: int, times: list[float]) -> None:
        """Take in when the steps of environments began, from ``start`` on, and when the last one ended."""
        self._seconds[self._num_samples % NUM_SAMPLES, start : start + len(times) - 1] = np.diff(times)
        self._num_samples += 1


class LatencyWatch:
    """Finds environments that are much slower than the others of a batch, or than they all were at first.

    Args:
        seconds: float32 ``[NUM_SAMPLES, num_envs]``, 0 where there is no sample yet.
    """

    def __init__(self, seconds: np.ndarray):
        self._seconds = seconds
        self._at_first: float | None = None  # of a quick environment, when there first were enough samples
        self._told: set[int] = set()
        self._told_all = False

    def warning(self) -> str | None:
        """Return what is to be told now and has not been told before."""
        samples = np.where(self._seconds > 0, self._seconds, np.nan)
        known = np.isfinite(samples).sum(axis=0) >= _LEAST_SAMPLES
        if not known.all():
            return None
        medians = np.nanmedian(samples, axis=0)
        overall = float(np.sort(medians)[(len(medians) - 1) // 4])
        if self._at_first is None:
            self._at_first = overall
        slow = medians > max(SLOW_FACTOR * overall, _LEAST_SECONDS)
        new = [int(i) for i in np.flatnonzero(slow) if i not in self._told]
        if new:
            self._told.update(new)
            return (
                f"environments {new} are slow, and all others wait for them in each step; those of a quick one take "
                f"{_told(overall)}:\n{self._table(samples, new)}"
            )
        if not self._told_all and overall > max(SLOW_FACTOR * self._at_first, _LEAST_SECONDS):
            self._told_all = True
            slowest = np.argsort(medians)[::-1].tolist()
            return (
                f"the environments have become slow: a step took {_told(self._at_first)} at first and takes "
                f"{_told(overall)} now:\n{self._table(samples, slowest)}"
            )
        return None

    @staticmethod
    def _table(samples: np.ndarray, indices: list[int]) -> str:
        lines = []
        for index in indices[:_MAX_TOLD]:
            p50, p90, p100 = np.nanpercentile(samples[:, index], (50, 90, 100))
            lines.append(f"  environment {index}: p50 {_told(p50)}, p90 {_told(p90)}, longest {_told(p100)}")
        if len(indices) > _MAX_TOLD:
            lines.append(f"  and {len(indices) - _MAX_TOLD} more")
        return "\n".join(lines)


def _told(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
