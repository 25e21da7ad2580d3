"""Chooses between the native extension and its Python twin."""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable

import numpy as np

from alf.environments._plain_step import NUMBERS
from alf.environments._pool import _twin
from alf.environments._pool._segment import Views
from alf.environments._rows import Rows
from alf.environments.alf_environment import AlfEnvironment
from alf.utils.process_sync import SharedFd

try:
    import alf._parallel_env as _native
except ImportError:
    _native = None

#: Longest time a waiter spins before it sleeps. Waking a sleeping core takes about 40 microseconds, so waits
#: of several hundred are where spinning stops to pay.
SPIN_SECONDS = 400e-6


@functools.cache
def _notify_missing() -> None:
    logging.getLogger(__name__).warning(
        "The native extension alf._parallel_env is missing: parallel environments use its Python twin, "
        "which is slower. Install a C++17 compiler and reinstall alf-rl."
    )


def resolve(name: str | None) -> str:
    """Return ``"native"`` or ``"python"``; None means native where it exists.

    Raises:
        ValueError: for another name.
        ImportError: if native is asked for and missing.
    """
    if name is None:
        if _native is None:
            _notify_missing()
        return "python" if _native is None else "native"
    if name not in ("native", "python"):
        raise ValueError(f"backend: expected 'native', 'python' or None, got {name!r}.")
    if name == "native" and _native is None:
        raise ImportError(
            "backend='native': the extension alf._parallel_env is not built. Install a C++17 compiler "
            "and reinstall alf-rl, or use backend=None."
        )
    return name


def make_events(backend: str, num_workers: int) -> list[tuple[SharedFd, SharedFd]]:
    """Return the descriptors that the signals of ``backend`` need: none for the native one."""
    return _twin.make_events(num_workers) if backend == "python" else []


def make_signals(backend: str, lines: np.ndarray, events: list, spin: bool):
    """Return the signals over the control lines ``lines``.

    Args:
        backend: ``"native"`` or ``"python"``.
        lines: uint8 ``[num_workers, 64]`` in shared memory.
        events: from :func:`make_events`.
        spin: whether a core is free for a process that waits.
    """
    if backend == "python":
        return _twin.Signals(lines, events)
    return _native.Signals(lines, SPIN_SECONDS if spin else 0.0)


def make_row_keeper(backend: str, views: Views):
    """Return the row bookkeeping over ``views``; it looks for NaN or infinity in reward and observation."""
    keeper = _twin.RowKeeper if backend == "python" else _native.RowKeeper
    return keeper(views.step_type, views.prev_action, views.actions, [views.reward, *views.observation])


def make_gym_stepper(
    backend: str, views: Views, rows: list[Rows], start: int, envs: list[Any]
) -> Callable[[int], None] | None:
    """Return the function that steps ``envs`` natively and writes a ring row, or None where Python has to step them.

    Args:
        backend: ``"native"`` or ``"python"``.
        views: the shared blocks.
        rows: the columns of each ring row, for environments that have a step made in Python.
        start: row of the first environment.
        envs: unbatched environments, all of which must offer a :class:`PlainStep`.
    """
    if backend == "python" or len(views.observation) != 1 or len(views.actions) != 1:
        return None
    plain_steps = [env._plain_step() if isinstance(env, AlfEnvironment) else None for env in envs]
    if not envs or None in plain_steps:
        return None
    return _native.GymStepper(
        step_type=views.step_type,
        reward=views.reward,
        discount=views.discount,
        observation=views.observation[0],
        action=views.actions[0],
        env_info=views.env_info,
        rows=rows,
        start=start,
        plain_steps=plain_steps,
        step_intos=[env.step_into for env in envs],
        numbers=NUMBERS,
    ).step
