"""Errors that cross the border of a process, with the environment, the worker and the first traceback."""

from __future__ import annotations

import contextlib
import pickle
import signal
import traceback
from typing import Iterator, NamedTuple

import cloudpickle

from alf.utils.finite import NonFiniteError

#: Parts of a failure are kept below this, so that a worker can send one while nobody reads.
_MAX_BYTES = 32 * 1024


class WorkerError(RuntimeError):
    """An environment raised what cannot be raised here as it is: its class does not exist in this process, it would end
    the program (``SystemExit``), or its text is too long or missing."""


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
        message = text_of(error)[:_MAX_BYTES]
        return cls(env_index, phase, step_count, name, message, text, _pickled(error), blames_caller)

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
        _attribute(error, self.env_index, self.phase, self.step_count, where)
        error.__cause__ = RemoteTraceback(self.traceback)
        return error


def attributed(error: BaseException, env_index: int, phase: str, step_count: int, where: str) -> BaseException:
    """Return what to raise for what an environment raised in this process; call it while the error is being handled.

    That is ``error`` itself with a note that names the environment or, where it cannot be raised here as it is, what a
    worker would have sent. What a signal raised in the middle of an environment stays as it is.

    Args:
        error: what was raised.
        env_index: of the environment; -1 where no single one is to blame.
        phase: as in :class:`Failure`.
        step_count: steps made before.
        where: the thread or process, in words.
    """
    if is_of_signal(error):
        return error
    if _needs_report(error):
        return Failure.of(error, env_index, phase, step_count).to_exception(where)
    _attribute(error, env_index, phase, step_count, where)
    return error


@contextlib.contextmanager
def reported(env_index: int, phase: str) -> Iterator[None]:
    """Context in which the main process calls an environment: what cannot be raised there as it is, is reported.

    Args:
        env_index: of the environment.
        phase: as in :class:`Failure`.
    """
    try:
        yield
    except BaseException as error:
        if is_of_signal(error) or not _needs_report(error):
            raise
        failure = Failure.of(error, env_index, phase, 0).to_exception("the main process")
        raise failure from failure.__cause__


def is_of_environment(error: BaseException) -> bool:
    """Return whether an environment has raised ``error`` in a step, a reset or a call."""
    return getattr(error, "is_of_environment", False)


def text_of(error: BaseException) -> str:
    """Return ``str(error)``, whatever its class does in that."""
    try:
        return str(error)
    except Exception as failure:
        return f"(its text is not known: str() of it raises {type(failure).__name__})"


def is_of_signal(error: BaseException) -> bool:
    """Return whether a signal asked this process to end, wherever it was."""
    return isinstance(error, KeyboardInterrupt) or (
        not isinstance(error, Exception) and getattr(error, "blames_caller", False)
    )


def _needs_report(error: BaseException) -> bool:
    """Return whether ``error`` would end the program, has too long a text or none."""
    if not isinstance(error, Exception):
        return True
    try:
        return len(str(error)) > _MAX_BYTES
    except Exception:
        return True


def _attribute(error: BaseException, env_index: int, phase: str, step_count: int, where: str) -> None:
    error.is_of_environment = True
    error.add_note(describe(env_index, phase, step_count, where))


def describe(env_index: int, phase: str, step_count: int, where: str) -> str:
    """Return the note that tells where an exception of an environment comes from."""
    who = f"environment {env_index}" if env_index >= 0 else "the environments"
    return f"raised by {who} in {where}, at {phase}, after {step_count} steps"


def _pickled(error: BaseException) -> bytes | None:
    if _needs_report(error):
        return None
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
