"""What signals ask of a running trainer: leave, leave at once, write a checkpoint, tell where it is."""

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
from typing import Iterator, Optional

from absl import logging

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}  # of a process that was asked to leave


_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Have the system kill this process when the thread that started it ends, however that ends.

    Args:
        parent_pid: of the process of that thread.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before it could be asked for
        os._exit(1)


class LeaveRequested(SystemExit):
    """Ends a trainer that was asked to leave; its code is that of the signal: 130 or 143."""

    #: The environment in the middle of which it is raised has no part in it.
    blames_caller = True


def heed_while_starting() -> None:
    """See to signals until a trainer's :class:`Signals` do, while there is nothing to save yet.

    SIGTERM leaves, with its exit code, a second one at once. SIGUSR1 writes the stacks of all threads to the standard
    error. SIGUSR2 and SIGHUP do nothing.
    """
    num_terminations = 0

    def leave(number, frame):
        nonlocal num_terminations
        num_terminations += 1
        if num_terminations > 1:
            os._exit(EXIT_CODES[number])
        raise LeaveRequested(EXIT_CODES[number])

    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    signal.signal(signal.SIGTERM, leave)


class Signals:
    """Collects signals while a trainer runs; the trainer asks between iterations.

    The first Ctrl-C or SIGTERM asks to save and leave, the second leaves at once without saving, the third does not
    even close anything. After SIGTERM, with which schedulers announce a kill, an iteration that does not end in time is
    given up. SIGUSR2 asks for a checkpoint. SIGUSR1 writes the stacks of all threads to the log, even where Python does
    not get to run, and opens the debugger on a terminal. SIGHUP, of a terminal that closes, is ignored: training goes
    on.

    Args:
        log_path: file to which stacks are appended; None: the standard error.
        leave_within_seconds: of the first SIGTERM, if nothing is being saved yet; 0: no limit. What is being saved is
            finished, and the time begins after it.
    """

    def __init__(self, log_path: Optional[str] = None, leave_within_seconds: float = 0.0):
        self._log_path = log_path
        self._leave_within_seconds = leave_within_seconds
        self._leave_signal = None
        self._num_leave_signals = 0
        self._checkpoint_requested = False
        self._is_saving = False
        self._has_limit = False
        self._outer_handlers = {}
        self._log_descriptor = -1

    def __enter__(self):
        self._has_limit = self._leave_within_seconds > 0
        if threading.current_thread() is threading.main_thread():
            faulthandler.unregister(signal.SIGUSR1)  # or the handler that it has now would never be called
            handlers = {
                signal.SIGINT: self._leave,
                signal.SIGTERM: self._leave,
                signal.SIGALRM: self._give_up,
                signal.SIGUSR2: self._checkpoint,
                signal.SIGUSR1: self._debug,
                signal.SIGHUP: signal.SIG_IGN,
            }
            self._outer_handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}
            self._register_stacks()
        return self

    def _register_stacks(self) -> None:
        """Have SIGUSR1 write stacks before it comes to the handler, in C: a trainer that hangs runs no handlers."""
        try:
            if self._log_path is not None:
                self._log_descriptor = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
                                               0o666)
        except OSError as error:
            logging.warning("%s cannot be written: %s. SIGUSR1 writes stacks to the standard error.", self._log_path,
                            error)
        faulthandler.register(signal.SIGUSR1, file=self._log_descriptor if self._log_descriptor >= 0 else 2,
                              all_threads=True, chain=True)

    def __exit__(self, exc_type, exc_value, traceback):
        if not self._outer_handlers:
            return
        self.stop_clock()
        faulthandler.unregister(signal.SIGUSR1)
        for number, handler in self._outer_handlers.items():
            # Who leaves still has to close its environments, and may have to be told again.
            if not (self.leaving and number in EXIT_CODES):
                signal.signal(number, handler)
        if self._log_descriptor >= 0:
            os.close(self._log_descriptor)

    @property
    def leaving(self) -> bool:
        """Whether a signal asked to leave."""
        return self._leave_signal is not None

    @property
    def leave_code(self) -> int:
        """The exit code of the signal that asked to leave; 0: none did."""
        return EXIT_CODES.get(self._leave_signal, 0)

    def _leave(self, number, frame):
        self._num_leave_signals += 1
        self._leave_signal = number
        if self._num_leave_signals == 1:
            if self._is_saving:
                _tell("Finishing the checkpoint that is being saved; once more to leave at once.")
                return
            limit = ""
            if self._start_clock():
                limit = f" It has {self._leave_within_seconds:g} s."
            _tell(f"Finishing this iteration and saving a checkpoint; once more to leave at once.{limit}")
        elif self._num_leave_signals == 2:
            _tell("Leaving at once; the last checkpoint is kept.")
            raise LeaveRequested(EXIT_CODES[number])
        else:  # the environments end with their parent
            os._exit(EXIT_CODES[number])

    def _start_clock(self) -> bool:
        """Let the time to leave begin, if there is a limit for it; return whether there is."""
        is_limited = self._has_limit and self._leave_signal == signal.SIGTERM
        if is_limited:
            signal.setitimer(signal.ITIMER_REAL, self._leave_within_seconds)
        return is_limited

    def _give_up(self, number, frame):
        if self._is_saving or not self._has_limit:  # it was stopped in the moment in which it rang
            return
        _tell(f"The iteration did not end within {self._leave_within_seconds:g} s: leaving without saving; the last "
              "checkpoint is kept. See TrainerConfig.leave_within_seconds.")
        raise LeaveRequested(self.leave_code)

    def stop_clock(self) -> None:
        """Let the trainer take its time from now on: the iteration has ended, and saving is not given up."""
        self._has_limit = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Context in which a checkpoint is written: that is never given up for lack of time."""
        self._is_saving = True
        if self.leaving:
            signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            yield
        finally:
            self._is_saving = False
            self._start_clock()

    def _checkpoint(self, number, frame):
        self._checkpoint_requested = True

    def _debug(self, number, frame):
        logging.info("SIGUSR1: the stacks of all threads are in %s.", self._log_path or "the standard error")
        if sys.stdin and sys.stdin.isatty():
            import pdb
            _tell("SIGUSR1: debugger; 'c' goes on training.")
            pdb.Pdb().set_trace(frame)

    def take_checkpoint_request(self) -> bool:
        """Return whether a checkpoint was asked for since the last time."""
        requested, self._checkpoint_requested = self._checkpoint_requested, False
        return requested



def _tell(text: str) -> None:
    """Write a line to the standard error, without Python's streams: the signal may have interrupted their lock."""
    try:
        os.write(2, f"\n{text}\n".encode())
    except OSError:
        pass  # nobody is watching any more
