"""Disturbance: what making and stepping an environment has changed in this process, and must not."""

from __future__ import annotations

import os
import signal
import threading

import torch


class Surroundings:
    """The working directory, signal handlers and torch threads of this process when this object was made."""

    def __init__(self):
        self._directory = os.getcwd()
        self._num_threads = torch.get_num_threads()
        self._handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def restore(self) -> list[str]:
        """Put everything back as it was; return what had been changed, in words."""
        changed = []
        if os.getcwd() != self._directory:
            changed.append(f"the working directory (to {os.getcwd()})")
            os.chdir(self._directory)
        if torch.get_num_threads() != self._num_threads:
            changed.append(f"the number of torch threads (to {torch.get_num_threads()})")
            torch.set_num_threads(self._num_threads)
        numbers = [number for number, handler in self._handlers.items() if signal.getsignal(number) != handler]
        if numbers:
            changed.append("the handlers of " + ", ".join(signal.Signals(number).name for number in numbers))
            if threading.current_thread() is threading.main_thread():
                for number in numbers:
                    # None: it was set by native code, and only that can set it again.
                    if self._handlers[number] is not None:
                        signal.signal(number, self._handlers[number])
        return changed
