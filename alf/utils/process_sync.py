"""What processes wait for each other with. It has no name in a file system: however they end, nothing is left."""

from __future__ import annotations

import fcntl
import multiprocessing.reduction as reduction
import os
import select
import threading
import weakref
from typing import Any


class SharedFd:
    """A file descriptor that survives being an argument of a process, whatever the start method."""

    def __init__(self, fd: int):
        self.fd = fd

    def __reduce__(self):
        return _take_over_fd, (reduction.DupFd(self.fd),)

    def close(self) -> None:
        """Close the descriptor; may be called more than once."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _take_over_fd(duplicate: Any) -> SharedFd:
    return SharedFd(duplicate.detach())


class ProcessCounter:
    """A number that some processes add to and one takes, and waits for."""

    def __init__(self, _event: SharedFd | None = None):
        self._event = _event or SharedFd(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        weakref.finalize(self, self._event.close)

    def __reduce__(self):
        return ProcessCounter, (self._event,)

    def add(self, number: int) -> None:
        """Add ``number``, at least 1."""
        os.eventfd_write(self._event.fd, number)

    def take(self, timeout_seconds: float = 0.0) -> int:
        """Return what has been added since it was last taken; while that is 0, wait, at most ``timeout_seconds``."""
        number = self._read()
        if number == 0 and timeout_seconds > 0:
            poller = select.poll()
            poller.register(self._event.fd, select.POLLIN)
            if poller.poll(1000 * timeout_seconds):
                number = self._read()
        return number

    def _read(self) -> int:
        try:
            return os.eventfd_read(self._event.fd)
        except BlockingIOError:
            return 0


class ProcessLock:
    """A lock, to be used by ``with``, that one thread of all processes that have it holds, which may take it again.

    Where a process ends while it holds the lock, another one gets it.
    """

    def __init__(self, _file: SharedFd | None = None):
        self._file = _file or SharedFd(os.memfd_create("alf-lock", os.MFD_CLOEXEC))
        self._threads = threading.RLock()
        self._depth = 0
        weakref.finalize(self, self._file.close)

    def __reduce__(self):
        return ProcessLock, (self._file,)

    def __enter__(self) -> "ProcessLock":
        self._threads.acquire()
        try:
            if self._depth == 0:
                fcntl.lockf(self._file.fd, fcntl.LOCK_EX)  # of the process: it ends with it
        except BaseException:
            self._threads.release()
            raise
        self._depth += 1
        return self

    def __exit__(self, *_) -> None:
        self._depth -= 1
        try:
            if self._depth == 0:
                fcntl.lockf(self._file.fd, fcntl.LOCK_UN)
        finally:
            self._threads.release()
