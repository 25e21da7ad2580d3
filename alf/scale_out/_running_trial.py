"""A trial of a sweep while it runs: for how long, whether it hangs, how it is ended, and what it ended as."""

import dataclasses
import signal
import time
from typing import Iterator, Optional, Tuple

from alf.scale_out._trial_process import CpuSeconds, Idleness, TrialProcess
from alf.scale_out._trial_records import told_exit
from alf.scale_out.search_space import Trial
from alf.trainers._signals import EXIT_CODES

_STACKS_SECONDS = 1.0  # to write stacks after SIGUSR1


@dataclasses.dataclass(frozen=True)
class Limits:
    """When a trial is ended."""

    stall_seconds: float = 600.0  # after that long without use of a processor by any of its processes; 0: never
    timeout_seconds: float = 0.0  # after that long; 0: never
    grace_seconds: float = 60.0  # to save and leave after SIGTERM; a trainer that hangs gives up by itself after 30


class RunningTrial:
    """A trial with its process and the slot that it holds, and how it is ended when its time is over.

    Args:
        trial: which trial it is.
        process: just started.
        slot: ``CUDA_VISIBLE_DEVICES`` of the process.
        limits: when it is ended.
    """

    def __init__(self, trial: Trial, process: TrialProcess, slot: str, limits: Limits):
        self.trial = trial
        self.process = process
        self.slot = slot
        self.began = time.monotonic()
        self.told_to_leave = False
        self.ended_as = ""  # the reason for which it is being ended
        self._limits = limits
        self._idleness = Idleness(limits.stall_seconds)
        self._ending: Optional[Iterator[float]] = None
        self._next_step = 0.0

    def seconds(self) -> float:
        """Return for how long it has been running."""
        return time.monotonic() - self.began

    def look(self, cpu_seconds: CpuSeconds, elapsed_seconds: float) -> None:
        """Take note of what its processes have used of the processor; see :meth:`Idleness.look`.

        Args:
            cpu_seconds: of each process, since it began.
            elapsed_seconds: since the last look.
        """
        self._idleness.look(cpu_seconds, elapsed_seconds)
        if 0 < self._limits.stall_seconds <= self._idleness.seconds:
            self._end("hung")

    def heed_limits(self) -> None:
        """Begin to end it if its time is over, and go on with ending it, a little harder each time."""
        if 0 < self._limits.timeout_seconds <= self.seconds():
            self._end("timed out")
        if self._ending is not None and time.monotonic() >= self._next_step:
            self._next_step = time.monotonic() + next(self._ending)

    def _end(self, reason: str) -> None:
        if self._ending is None:
            self.ended_as = reason
            self._ending = self._steps()

    def _steps(self) -> Iterator[float]:
        """Do one thing after the other to end it; yields the seconds to wait for what comes of it."""
        self.process.send_signal(signal.SIGUSR1)
        yield _STACKS_SECONDS
        self.process.send_signal(signal.SIGTERM)
        yield self._limits.grace_seconds
        while True:
            self.process.kill()
            yield _STACKS_SECONDS

    def state_and_reason(self, code: int) -> Tuple[str, str]:
        """Return what it ended as, and the reason in words if that is a failure.

        Args:
            code: exit code, negative for a signal.
        """
        if code == 0:
            return "finished", ""
        if self.ended_as == "hung":
            return "hung", f"no process used the processor for {self._limits.stall_seconds:g} s (--stall_seconds)"
        if self.ended_as == "timed out":
            return "timed out", f"not done after {self._limits.timeout_seconds:g} s (--trial_timeout_seconds)"
        told = self.told_to_leave and code in (-signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)
        if told or code in EXIT_CODES.values():
            return "left", ""
        return "failed", told_exit(code)
