"""What signals ask of a running trainer: leave, leave at once, write a checkpoint, open a debugger."""

import os
import signal
import threading

from absl import logging

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class LeaveRequested(SystemExit):
    """Ends a trainer that was asked to leave, after it saved; its code is that of the signal: 130 or 143."""


class Signals:
    """Collects signals while a trainer runs; the trainer asks between iterations.

    The first Ctrl-C or SIGTERM asks to save and leave, the second leaves at once without saving. SIGUSR2 asks for a
    checkpoint, SIGUSR1 opens the debugger. SIGHUP, of a terminal that closes, is ignored: training goes on.
    """

    def __init__(self):
        self.leave_signal = None
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

    def _leave(self, number, frame):
        if self.leave_signal is not None:
            os.write(2, b"\nLeaving at once; the last checkpoint is kept.\n")
            raise LeaveRequested(_EXIT_CODES[number])
        self.leave_signal = number
        os.write(2, b"\nFinishing this iteration and saving a checkpoint; once more to leave at once.\n")

    def _checkpoint(self, number, frame):
        self._checkpoint_requested = True

    def _debug(self, number, frame):
        import pdb
        logging.info("SIGUSR1: debugger; 'c' goes on training")
        pdb.Pdb().set_trace(frame)

    def take_checkpoint_request(self) -> bool:
        """Return whether a checkpoint was asked for since the last time."""
        requested, self._checkpoint_requested = self._checkpoint_requested, False
        return requested

    def leave_if_requested(self) -> None:
        """Raise LeaveRequested with the exit code of the signal, if one asked to leave."""
        if self.leave_signal is not None:
            raise LeaveRequested(_EXIT_CODES[self.leave_signal])
