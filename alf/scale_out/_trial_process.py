"""A process in a session of its own, with all that it starts: what they use of the processor, and their end."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from typing import Dict, List, Tuple

from absl import logging

_KILL_SECONDS = 10.0  # until processes that do not die are told and left alone
_IDLE_SHARE = 0.01  # of a core; a trainer that waits for environments which hang takes 0.003, to look after them

CpuSeconds = Dict[Tuple[int, int], float]  # (process id, when it began) -> seconds it has run on a processor


def read_sessions() -> Dict[int, CpuSeconds]:
    """Return the living processes of every session of this machine, and the seconds that each has run."""
    ticks = os.sysconf("SC_CLK_TCK")
    found: Dict[int, CpuSeconds] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            # The name of the program stands in parentheses and may hold anything.
            fields = pathlib.Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # it has just ended
        state, session, began = fields[0], int(fields[3]), int(fields[19])
        if state not in (b"Z", b"X"):
            found.setdefault(session, {})[int(name), began] = (int(fields[11]) + int(fields[12])) / ticks
    return found


class TrialProcess:
    """A command that runs in a session of its own, its output appended to a file.

    Args:
        command: to run.
        console_path: of the file.
        environment: variables that differ from those of this process.
    """

    def __init__(self, command: List[str], console_path: str, environment: Dict[str, str]):
        with open(console_path, "ab") as console:
            self.console_begin = console.tell()  # bytes of earlier starts
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                             env={**os.environ, **environment}, start_new_session=True)
        self.session = self._process.pid

    def has_ended(self) -> bool:
        """Return whether the command has ended. Its number is not given to another process before :meth:`collect`."""
        return os.waitid(os.P_PID, self.session, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, which may have ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.session, number)

    def kill(self) -> None:
        """Kill the command and everything in its session; that may take more than once, for they may start others."""
        end = time.monotonic() + _KILL_SECONDS
        while living := read_sessions().get(self.session):
            for pid, _ in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            if time.monotonic() > end:
                logging.warning("processes %s cannot be killed", ", ".join(str(pid) for pid, _ in living))
                return

    def collect(self) -> int:
        """Kill what the command left behind and return its exit code, negative for a signal."""
        self.kill()
        return self._process.wait()


class Idleness:
    """Measures for how long a session has done next to nothing.

    Args:
        limit_seconds: of interest; what it does counts once it took a hundredth of that.
    """

    def __init__(self, limit_seconds: float):
        self.seconds = 0.0
        self._cpu_seconds: CpuSeconds = {}
        self._used_seconds = 0.0
        self._enough_seconds = limit_seconds * _IDLE_SHARE

    def look(self, cpu_seconds: CpuSeconds, elapsed_seconds: float) -> None:
        """Take note of what the processes of the session have used.

        Args:
            cpu_seconds: of each process, since it began.
            elapsed_seconds: since the last look.
        """
        self._used_seconds += sum(max(0.0, now - self._cpu_seconds.get(process, 0.0))
                                  for process, now in cpu_seconds.items())
        self._cpu_seconds = cpu_seconds
        self.seconds += elapsed_seconds
        if self._used_seconds > 0 and self._used_seconds >= self._enough_seconds:
            self.seconds = self._used_seconds = 0.0
