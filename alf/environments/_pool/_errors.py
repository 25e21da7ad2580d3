"""Errors that cross the border of a process, with the environment, the worker and the first traceback."""

from __future__ import annotations

import pickle
import signal
import traceback
from typing import NamedTuple

import cloudpickle

from alf.utils.finite import NonFiniteError

#: Parts of a failure are kept below this, so that a worker can send one while nobody reads.
_MAX_BYTES = 32 * 1024


class WorkerError(RuntimeError):
    """An environment raised an exception whose class does not exist in this process."""


class WorkerDiedError(RuntimeError):
    """A worker process ended, or had to be ended because it did not answer in time."""


class NonFiniteStepError(NonFiniteError, ValueError):
    """An observation, reward or action is NaN or infinite."""

    #: Whether it is an action, for which the environment is not to blame.
    blames_caller: bool = False


class TooManyResetsError(NonFiniteStepError):
    """Environments returned NaN or infinity more often than they may be reset."""


class RemoteTraceback(Exception):
    """The traceback of an exception raised in another process; printed as the cause of the exception."""

    def __init__(self, text: str):
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text}"


class Failure(NamedTuple):
    """An exception on its way from a worker to the main process."""

    env_index: int  # -1 where no single environment is to blame
    phase: str  # "construct", "reset", "step" or "call <name>"
    step_count: int  # steps this worker had finished
    class_name: str  # with its module
    message: str
    traceback: str
    pickled: bytes | None  # the exception itself, where it can be pickled
    blames_caller: bool = False  # whether the environment is innocent: another one would fail as well

    @classmethod
    def of(cls, error: BaseException, env_index: int, phase: str, step_count: int) -> "Failure":
        """Return what is to be known of ``error``; call it while the error is being handled."""
        text = "".join(traceback.format_exception(error))
        if len(text) > _MAX_BYTES:
            text = text[: _MAX_BYTES // 2] + "\n[...]\n" + text[-_MAX_BYTES // 2 :]
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        blames_caller = getattr(error, "blames_caller", False)
        return cls(env_index, phase, step_count, name, str(error)[:_MAX_BYTES], text, _pickled(error), blames_caller)

    def to_exception(self, where: str) -> Exception:
        """Return the exception to raise in the main process: of its own class where that can be imported.

        Args:
            where: the process it comes from, in words.
        """
        error = None
        if self.pickled is not None:
            try:
                error = pickle.loads(self.pickled)
            except Exception:  # whatever an exception class does while it is rebuilt, the text below is enough
                error = None
        # A worker that exits is no reason for the main process to do so.
        if not isinstance(error, Exception):
            error = WorkerError(f"{self.class_name}: {self.message}")
        error.add_note(describe(self.env_index, self.phase, self.step_count, where))
        error.__cause__ = RemoteTraceback(self.traceback)
        return error


def describe(env_index: int, phase: str, step_count: int, where: str) -> str:
    """Return the note that tells where an exception of an environment comes from."""
    who = f"environment {env_index}" if env_index >= 0 else "the environments"
    return f"raised by {who} in {where}, at {phase}, after {step_count} steps"


def _pickled(error: BaseException) -> bytes | None:
    try:
        data = cloudpickle.dumps(error)
        pickle.loads(data)  # many exception classes can be written but not read again
        return data if len(data) <= _MAX_BYTES else None
    except Exception:  # no restriction on what a user's exception holds: it then travels as text
        return None


def exit_reason(exit_code: int | None) -> str:
    """Return how a process ended, in words: its exit code, or the signal that killed it."""
    if exit_code is None:
        return "has ended (how is not known: something else in this program has waited for it)"
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = ""
    if -exit_code == signal.SIGKILL:
        hint = " (nobody but the system or a person sends it: probably out of memory, see `dmesg`)"
    elif -exit_code in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL):
        hint = " (a crash in native code of the environment)"
    return f"was killed by {name}{hint}"
