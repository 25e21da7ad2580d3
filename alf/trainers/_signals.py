"""What signals ask of a running trainer: leave, leave at once, write a checkpoint, open a debugger."""

import os
import signal
import sys
import threading

from absl import logging

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class LeaveRequested(SystemExit):
    """Ends a trainer that was asked to leave; its code is that of the signal: 130 or 143."""


class Signals:
    """Collects signals while a trainer runs; the trainer asks between iterations.

    The first Ctrl-C or SIGTERM asks to save and leave, the second leaves at once without saving, the third does not
    even close anything. SIGUSR2 asks for a checkpoint, SIGUSR1 opens the debugger. SIGHUP, of a terminal that closes,
    is ignored: training goes on.
    """

    def __init__(self):
        self._leave_signal = None
        self._num_leave_signals = 0
        self._checkpoint_requested = False
        self._outer_handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            handlers = {
                signal.SIGINT: self._leave,
                signal.SIGTERM: self._leave,
                signal.SIGUSR2: self._checkpoint,
                signal.SIGUSR1: self._debug,
                signal.SIGHUP: signal.SIG_IGN,
            }
            self._outer_handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        for number, handler in self._outer_handlers.items():
            signal.signal(number, handler)

    @property
    def leaving(self) -> bool:
        """Whether a signal asked to leave."""
        return self._leave_signal is not None

    def _leave(self, number, frame):
        self._num_leave_signals += 1
        self._leave_signal = number
        if self._num_leave_signals == 1:
            _tell("Finishing this iteration and saving a checkpoint; once more to leave at once.")
        elif self._num_leave_signals == 2:
            _tell("Leaving at once; the last checkpoint is kept.")
            raise LeaveRequested(_EXIT_CODES[number])
        else:  # the environments end with their parent
            os._exit(_EXIT_CODES[number])

    def _checkpoint(self, number, frame):
        self._checkpoint_requested = True

    def _debug(self, number, frame):
        if not sys.stdin or not sys.stdin.isatty():
            logging.warning("SIGUSR1 asks for the debugger, which needs a terminal.")
            return
        import pdb
        _tell("SIGUSR1: debugger; 'c' goes on training.")
        pdb.Pdb().set_trace(frame)

    def take_checkpoint_request(self) -> bool:
        """Return whether a checkpoint was asked for since the last time."""
        requested, self._checkpoint_requested = self._checkpoint_requested, False
        return requested

    def leave(self) -> None:
        """Raise LeaveRequested with the exit code of the signal that asked to leave."""
        raise LeaveRequested(_EXIT_CODES[self._leave_signal])


def _tell(text: str) -> None:
    """Write a line to the standard error, without Python's streams: the signal may have interrupted their lock."""
    try:
        os.write(2, f"\n{text}\n".encode())
    except OSError:
        pass  # nobody is watching any more
