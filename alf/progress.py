"""The process-wide store of training progress, read by schedulers and optimizers and written by the
trainer."""

import contextlib
import difflib
from typing import Dict, Iterator, Mapping, Optional, Union

Number = Union[int, float]

# percent: in [0, 1]; the others are counts. Values keep the type they were given, so that an integer count
# stays exact.
_PROGRESS: Dict[str, Number] = {"percent": 0.0, "iterations": 0, "global_counter": 0, "env_steps": 0}

PROGRESS_TYPES = tuple(_PROGRESS)

# why progress must not be read now; None: it may be
_unreadable_because: Optional[str] = None


@contextlib.contextmanager
def unreadable(because: str) -> Iterator[None]:
    """Context in which :func:`get_progress` raises ``RuntimeError(because)``."""
    global _unreadable_because
    before, _unreadable_because = _unreadable_because, because
    try:
        yield
    finally:
        _unreadable_because = before


def check_progress_type(progress_type: str) -> str:
    """Return ``progress_type`` if it is one of :data:`PROGRESS_TYPES`.

    Raises:
        ValueError: it is not; the message names the nearest one.
    """
    if progress_type in _PROGRESS:
        return progress_type
    near = difflib.get_close_matches(str(progress_type), PROGRESS_TYPES, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(
        f"Unknown progress type {progress_type!r}: expected one of {', '.join(PROGRESS_TYPES)}.{hint}"
    )


def update_progress(progress_type: str, value: Number) -> None:
    """Set the progress of one type.

    Args:
        progress_type: one of ``percent``, ``iterations``, ``global_counter``, ``env_steps``.
        value: ``percent`` is the finished fraction of training in [0, 1], the others are counts.
    """
    _PROGRESS[check_progress_type(progress_type)] = value


def update_all_progresses(progresses: Mapping[str, Number]) -> None:
    """Set several progresses at once, as returned by :func:`get_all_progresses` (possibly in another
    process)."""
    for progress_type in progresses:
        check_progress_type(progress_type)
    _PROGRESS.update(progresses)


def get_progress(progress_type: str) -> float:
    """Return the progress of one type as a Python float (exact for counts up to 2**53)."""
    if _unreadable_because is not None:
        raise RuntimeError(_unreadable_because)
    try:
        return float(_PROGRESS[progress_type])
    except KeyError:
        check_progress_type(progress_type)
        raise


def get_all_progresses() -> Dict[str, Number]:
    """Return a copy of all progresses, to be sent to another process."""
    return dict(_PROGRESS)


def reset_progress() -> None:
    """Put every progress back to zero, as at the start of a training run."""
    _PROGRESS.update(percent=0.0, iterations=0, global_counter=0, env_steps=0)
