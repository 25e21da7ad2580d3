"""WorkerOutput: what workers print, passed on as long as it is not too much."""

from __future__ import annotations

import os
import select
import sys
import threading
import time

from alf.utils.process_sync import SharedFd

#: Of each of the two streams of all workers together, as much as this is passed on ...
MAX_BYTES = 64 * 1024
#: ... within a period of this length.
PERIOD_SECONDS = 10.0

_CHUNK_BYTES = 64 * 1024


class WorkerOutput:
    """Two pipes into which workers print, and a thread that passes on what comes out.

    An environment that prints in every step would fill a terminal, a log file and in the end a disk. What exceeds
    ``MAX_BYTES`` within ``PERIOD_SECONDS`` is dropped, and how much it was is told.
    """

    def __init__(self):
        self._pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        #: Where workers print: standard output and standard error.
        self.ends = tuple(SharedFd(write) for _, write in self._pipes)
        self._streams = {read: _Limited(read, target) for (read, _), target in zip(self._pipes, (1, 2))}
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to pass on in a thread; processes are best forked before."""
        self._thread = threading.Thread(target=self._run, name="environment-output", daemon=True)
        self._thread.start()

    def sources(self) -> list[int]:
        """Return descriptors that the caller must watch, for there is no thread yet; :meth:`pass_on` what is there."""
        return list(self._streams) if self._thread is None else []

    def pass_on(self, source: int) -> None:
        """Pass on what can be read from one of the descriptors."""
        self._streams[source].pass_on()

    def _run(self) -> None:
        poller = select.poll()
        for fd in (*self._streams, self._stop):
            poller.register(fd, select.POLLIN)
        is_over = False
        while not is_over:
            ready = [fd for fd, _ in poller.poll(1000.0 * PERIOD_SECONDS)]
            for fd in ready:
                if fd in self._streams:
                    self.pass_on(fd)
            for stream in self._streams.values():
                stream.begin_period_if_due()
            is_over = ready == [self._stop]  # when nothing is left to be read
        for stream in self._streams.values():
            stream.tell_dropped()

    def close(self) -> None:
        """Pass on what is left and give the descriptors back; the workers must have ended."""
        if self._stop < 0:
            return
        os.eventfd_write(self._stop, 1)
        if self._thread is None:
            self._run()
        else:
            self._thread.join(1.0)
        if self._thread is None or not self._thread.is_alive():  # else it waits for whoever reads what it passes on
            for fd in (*sum(self._pipes, ()), self._stop):
                os.close(fd)
        self._stop = -1


class _Limited:
    """One stream: from the pipe ``source`` to the descriptor ``target``."""

    def __init__(self, source: int, target: int):
        self.source = source
        self._target = target
        self._began = time.monotonic()
        self._num_passed = self._num_dropped = 0  # bytes in this period

    def pass_on(self) -> None:
        data = os.read(self.source, _CHUNK_BYTES)
        passed = data[: MAX_BYTES - self._num_passed]
        self._num_passed += len(passed)
        self._write(passed)
        if len(passed) < len(data) and not self._num_dropped:
            self._write(
                f"\n[environments print more than {MAX_BYTES // 1024} KiB in {PERIOD_SECONDS:.0f} seconds; the rest "
                "is left out]\n".encode()
            )
        self._num_dropped += len(data) - len(passed)

    def begin_period_if_due(self) -> None:
        if time.monotonic() - self._began > PERIOD_SECONDS:
            self.tell_dropped()
            self._began, self._num_passed, self._num_dropped = time.monotonic(), 0, 0

    def tell_dropped(self) -> None:
        if self._num_dropped:
            self._write(f"[left out: {self._num_dropped / 1e6:.1f} MB that environments printed]\n".encode())
            self._num_dropped = 0

    def _write(self, data: bytes) -> None:
        # Not through Python's streams, whose locks a process that is forked meanwhile would inherit locked.
        try:
            while data:
                data = data[os.write(self._target, data) :]
        except OSError:
            pass  # nobody reads: what is printed is lost, and the workers go on


def print_into(ends: tuple[SharedFd, SharedFd]) -> None:
    """Let this process, and the programs it starts, print into the pipes ``ends``."""
    for number, end in enumerate(ends, 1):
        os.dup2(end.fd, number)
    # New streams: those of a forked process may lead elsewhere, and hold text that is not its own.
    sys.stdout = open(1, "w", buffering=1, errors="replace", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
