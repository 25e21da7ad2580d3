"""StackFile: where workers write the Python stack at which they hang or crash."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from typing import Any

from alf.utils.process_sync import SharedFd

#: Asks a worker for its stack.
STACK_SIGNAL = signal.SIGUSR2

_MAX_BYTES = 64 * 1024
#: The functions of workers below which a forked process shows the stack of the main process.
WORKER_FUNCTIONS = ("worker_main", "process_main")


class StackFile:
    """A file in memory, common to all workers of a pool, into which ``faulthandler`` writes."""

    def __init__(self, _file: SharedFd | None = None):
        self._file = _file or SharedFd(os.memfd_create("alf-worker-stack", os.MFD_CLOEXEC))

    def __reduce__(self):
        return StackFile, (self._file,)

    def register(self) -> None:
        """Let this process write its stack when it is asked, and when it crashes in native code."""
        faulthandler.register(STACK_SIGNAL, self._file.fd, all_threads=True)
        faulthandler.enable(self._file.fd, all_threads=True)

    def ask(self, process: Any) -> str:
        """Return the stack of a process that runs."""
        self.take()
        try:
            os.kill(process.pid, STACK_SIGNAL)
        except ProcessLookupError:
            return "(it has ended)"
        seen = 0
        for _ in range(20):
            time.sleep(0.05)
            before, seen = seen, os.fstat(self._file.fd).st_size
            if seen and seen == before:
                break
        return self.take() or "(no answer: it hangs outside Python, or is stopped)"

    def take(self) -> str:
        """Return what has been written since the last time, without what a forked process inherited."""
        text = os.pread(self._file.fd, _MAX_BYTES, 0).decode(errors="replace")
        os.ftruncate(self._file.fd, 0)
        os.lseek(self._file.fd, 0, os.SEEK_SET)
        lines, is_inherited = [], False
        for line in text.splitlines():
            is_inherited = is_inherited and bool(line)
            if not is_inherited:
                lines.append(line)
            is_inherited = is_inherited or line.endswith(tuple(f" in {name}" for name in WORKER_FUNCTIONS))
        return "\n".join(lines)

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()
