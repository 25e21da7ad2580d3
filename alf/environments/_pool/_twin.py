"""The Python twin of the native extension: the same signals and row bookkeeping, in plain NumPy and eventfd.

It is what runs where the extension could not be built, and what tests compare the extension with.
"""

from __future__ import annotations

import os
import select
import time

import numpy as np

from alf.environments._rows import FIRST
from alf.utils.process_sync import SharedFd

SLOTS = 8  # commands a worker may have outstanding
DONE, FAILED, DAMAGED = -1, -2, -3  # results of Signals.wait_all
UNWRITTEN = -1  # step type of a row whose environment has not finished its step

# Words of a control line; see csrc/parallel_env/signals.h.
_GO, _DONE, _FAILED, _FIRST_SLOT = 0, 1, 4, 8
_WORD_RANGE = 1 << 32


class Signals:
    """Commands to workers and their completion, through counters in shared memory and one eventfd each way.

    Args:
        lines: uint8 ``[num_workers, 64]`` in shared memory, one control line per worker.
        events: per worker the descriptors ``(go, done)``, from :func:`make_events`.
    """

    def __init__(self, lines: np.ndarray, events: list[tuple[SharedFd, SharedFd]]):
        self._words = lines.view(np.uint32)
        self._events = events

    def post(self, worker: int, code: int) -> int:
        """Append command ``code``, wake the worker and return the command's ticket."""
        words = self._words[worker]
        go = int(words[_GO])
        if (go - int(words[_DONE])) % _WORD_RANGE >= SLOTS:
            raise RuntimeError("too many commands outstanding for one worker")
        words[_FIRST_SLOT + go % SLOTS] = code
        words[_GO] = ticket = (go + 1) % _WORD_RANGE
        os.eventfd_write(self._events[worker][0].fd, 1)
        return ticket

    def post_all(self, code: int) -> list[int]:
        """Append command ``code`` for every worker and return the tickets."""
        return [self.post(worker, code) for worker in range(len(self._words))]

    def wait(self, worker: int, ticket: int, seconds: float) -> bool:
        """Wait until command ``ticket`` is done, for at most ``seconds``; return whether it is."""
        words = self._words[worker]

        def reached() -> bool:
            return (int(words[_DONE]) - ticket) % _WORD_RANGE < _WORD_RANGE // 2

        return _wait_until(reached, self._events[worker][1].fd, seconds)

    def wait_all(self, tickets: list[int], seconds: float) -> int:
        """Wait for one ticket per worker.

        Returns:
            The first worker not done after ``seconds``; if all are done, DONE, or FAILED if commands failed
            whose counters have not been set back, or DAMAGED if counters have values that they cannot have.
        """
        end = time.monotonic() + seconds
        for worker, ticket in enumerate(tickets):
            if not self.wait(worker, ticket, max(end - time.monotonic(), 0.0)):
                return worker
        if self.damaged():
            return DAMAGED
        return FAILED if self._words[:, _FAILED].any() else DONE

    def damaged(self) -> list[int]:
        """Return the workers whose counters have values that they cannot have: something else wrote there."""
        return damaged_lines(self._words)

    def next(self, worker: int, seconds: float) -> int:
        """Wait for the worker's next command, for at most ``seconds``; return its code, or -1."""
        words = self._words[worker]
        done = int(words[_DONE])
        if not _wait_until(lambda: int(words[_GO]) != done, self._events[worker][0].fd, seconds):
            return -1
        return int(words[_FIRST_SLOT + done % SLOTS])

    def finish(self, worker: int, failed: bool) -> None:
        """Report the worker's current command as finished."""
        words = self._words[worker]
        words[_FAILED] = (int(words[_FAILED]) + failed) % _WORD_RANGE
        words[_DONE] = (int(words[_DONE]) + 1) % _WORD_RANGE
        os.eventfd_write(self._events[worker][1].fd, 1)


def damaged_lines(words: np.ndarray) -> list[int]:
    """Return which control lines have counters that they cannot have.

    Args:
        words: uint32 ``[num_workers, 16]``.
    """
    outstanding = words[:, _GO] - words[:, _DONE]  # modulo 2 ** 32
    return np.flatnonzero((outstanding > SLOTS) | (words[:, _FAILED] > SLOTS)).tolist()


def _wait_until(ready, fd: int, seconds: float) -> bool:
    if ready():
        return True
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return ready()
        if poller.poll(1000 * left):
            # Emptied before looking, so that an event after the look wakes the next poll.
            try:
                os.eventfd_read(fd)
            except BlockingIOError:
                pass
        if ready():
            return True


def make_events(num_workers: int) -> list[tuple[SharedFd, SharedFd]]:
    """Return two eventfds per worker: commands posted, and commands finished."""

    def make() -> SharedFd:
        return SharedFd(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    return [(make(), make()) for _ in range(num_workers)]


class RowKeeper:
    """What a host does for all its rows at once, before and after its environments write one time step.

    Args:
        step_type: int32 ``[R, B]``.
        prev_actions: ``[R, B, ...]`` per leaf.
        actions: ``[B, ...]`` per leaf.
        checked: blocks ``[R, B, ...]`` in which NaN and infinity are looked for, where they are floats.
    """

    def __init__(
        self,
        step_type: np.ndarray,
        prev_actions: list[np.ndarray],
        actions: list[np.ndarray],
        checked: list[np.ndarray],
    ):
        self._step_type = step_type
        self._prev_actions = prev_actions
        self._actions = actions
        self._checked = checked

    def begin(self, ring_row: int, start: int, stop: int) -> tuple[int, int, int] | None:
        """Mark rows as unwritten and take over their actions.

        Returns:
            ``(leaf, row, offset)`` of the first action that is not finite, or None.
        """
        self._step_type[ring_row, start:stop] = UNWRITTEN
        for prev_action, action in zip(self._prev_actions, self._actions):
            prev_action[ring_row, start:stop] = action[start:stop]
        return _first_non_finite([action[start:stop] for action in self._actions], start)

    def finish(self, ring_row: int, start: int, stop: int) -> tuple[int, int, int] | None:
        """Clear the previous action of rows that are FIRST.

        Returns:
            ``(block, row, offset)`` of the first checked value that is not finite, or None.
        """
        is_first = self._step_type[ring_row, start:stop] == FIRST
        if is_first.any():
            for prev_action in self._prev_actions:
                prev_action[ring_row, start:stop][is_first] = 0
        return _first_non_finite([block[ring_row, start:stop] for block in self._checked], start)


def _first_non_finite(blocks: list[np.ndarray], start: int) -> tuple[int, int, int] | None:
    for index, block in enumerate(blocks):
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            flat = block.reshape(len(block), -1)
            row, offset = np.argwhere(~np.isfinite(flat))[0]
            return index, start + int(row), int(offset)
    return None
