"""AlfEnvironment: what every environment offers, and the row protocol by which a pool steps many."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import torch

import alf.data_structures as ds
import alf.nest as nest
from alf.environments._plain_step import PlainStep
from alf.environments._rows import LAST, Rows
from alf.tensor_specs import TensorSpec


class ForeignStateError(ValueError):
    """A state cannot be set, because it is not that of an environment like this one, or is damaged."""


def check_layers(saved: list[str] | None, found: list[str]) -> None:
    """Raise if a state is of other environments and wrappers than those that are to take it.

    Args:
        saved: what :meth:`AlfEnvironment.layers` returned when the state was taken; None: it was not noted.
        found: what it returns now.
    Raises:
        ForeignStateError: naming both.
    """
    if saved is not None and saved != found:
        raise ForeignStateError(
            f"the state is of other wrappers or of another environment: expected an environment of class "
            f"{_chain(saved)}, got {_chain(found)}"
        )


def _chain(layers: Any) -> str:
    return " > ".join(map(str, layers)) if isinstance(layers, list) else repr(layers)


def class_name(layer: Any) -> str:
    """Return the full name of the class of an environment or wrapper."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


class AlfEnvironment(abc.ABC):
    """An environment as algorithms see it.

        env.reset()                              # FIRST
        while training:
            time_step = env.current_time_step()
            action = policy(time_step)           # ignored where time_step is LAST
            env.step(action)                     # MID, LAST, or FIRST of the next episode

    An episode ends with ``StepType.LAST``, which holds the true last observation and reward. The next
    ``step`` ignores its action and returns ``FIRST`` of a new episode: reward 0, discount 1, zero
    ``prev_action``. ``discount == 0`` at ``LAST`` means that the task ended; a time limit ends with the usual
    discount. The reward of a time step belongs to its ``prev_action``.

    Unbatched environments speak NumPy: leaves have exactly the shape of their spec. Batched ones take and
    return leaves ``[batch_size, ...]``, as torch tensors if ``is_tensor_based``.

    A subclass implements ``_reset()``, ``_step(action)`` and the four specs. The base class resets an
    unbatched environment after ``LAST``; a batched one does so itself, row by row, within ``_step``.
    """

    #: For how many further ``step`` calls the leaves of a returned TimeStep stay untouched; None: for ever.
    num_valid_steps: int | None = None

    #: Of how many equal parts of the batch each can be stepped by itself, with ``step_async(action, part)`` and
    #: ``step_wait(part)``; 1: only all together.
    num_parts: int = 1

    #: Whether all of a step is made between ``step_async`` and ``step_wait``, while this process does something else.
    steps_in_background: bool = False

    #: Whether ``step`` after ``LAST`` starts a new episode by itself.
    auto_reset: bool = True

    #: Whether ``step`` and ``reset`` look for NaN and infinity themselves, and raise a NonFiniteStepError.
    checks_finite: bool = False

    _current_time_step: ds.TimeStep | None = None
    # True before the first reset and after LAST; shared by step() and step_into().
    _reset_due: bool = True

    @property
    def num_tasks(self) -> int:
        """Number of tasks this environment can be switched between."""
        return 1

    @property
    def task_names(self) -> list[str]:
        """Name of each task."""
        return [""]

    @property
    def batched(self) -> bool:
        """Whether time steps and actions have a batch dimension."""
        return False

    @property
    def batch_size(self) -> int:
        """Number of environments stepped together; 1 where unbatched."""
        if self.batched:
            raise NotImplementedError(f"{type(self).__name__} is batched and must define batch_size.")
        return 1

    @property
    def is_tensor_based(self) -> bool:
        """Whether time steps and actions are torch tensors rather than NumPy arrays."""
        return False

    @abc.abstractmethod
    def env_info_spec(self) -> Any:
        """Return the nest of TensorSpec of ``TimeStep.env_info``."""

    @abc.abstractmethod
    def observation_spec(self) -> Any:
        """Return the nest of TensorSpec of ``TimeStep.observation``."""

    @abc.abstractmethod
    def action_spec(self) -> Any:
        """Return the nest of TensorSpec of the action."""

    def reward_spec(self) -> TensorSpec:
        """Return the spec of the reward: a scalar unless the environment says otherwise."""
        return TensorSpec(())

    def time_step_spec(self) -> ds.TimeStep:
        """Return the TimeStep of specs that describes what ``step`` returns."""
        return ds.time_step_spec(self.observation_spec(), self.action_spec(), self.reward_spec())

    def current_time_step(self) -> ds.TimeStep:
        """Return the time step of the latest ``reset`` or ``step``; resets an environment not yet started."""
        if self._current_time_step is None:
            return self.reset()
        return self._current_time_step

    def reset(self) -> ds.TimeStep:
        """Start a new episode (in every row of a batch) and return its ``FIRST`` time step."""
        self._current_time_step = time_step = self._reset()
        self._reset_due = False
        return time_step

    def step(self, action: Any) -> ds.TimeStep:
        """Apply ``action`` and return the time step that follows; after ``LAST`` reset instead.

        Args:
            action: nest like ``action_spec()``, with leaves ``[batch_size, ...]`` where batched.
        """
        if self._reset_due:
            return self.reset()
        self._current_time_step = time_step = self._step(action)
        if not self.batched:
            self._reset_due = self.auto_reset and bool(time_step.step_type == LAST)
        return time_step

    @abc.abstractmethod
    def _reset(self) -> ds.TimeStep:
        """Start a new episode and return its FIRST time step."""

    @abc.abstractmethod
    def _step(self, action: Any) -> ds.TimeStep:
        """Apply ``action``; a batched environment restarts the rows that were LAST."""

    def reserve_rows(self, num_time_steps: int) -> None:  # noqa: B027 (optional)
        """Ask for at least ``num_time_steps`` returned time steps to stay valid (see ``num_valid_steps``)."""

    def reset_into(self, rows: Rows, index: int) -> int:
        """Start a new episode and write its FIRST time step into row ``index``; return the step type.

        Together with :meth:`step_into` this is how a pool steps unbatched environments without building
        TimeSteps. An environment is driven either through rows or through ``reset``/``step``, not both.
        """
        time_step = self.reset()
        rows.write(index, time_step)
        return int(time_step.step_type)

    def step_into(self, rows: Rows, index: int, action: Any) -> int:
        """Apply ``action``, write the time step that follows into row ``index`` and return its step type.

        If the time step before was LAST, the action is ignored and FIRST is written. ``prev_action`` and
        ``env_id`` are the caller's. NaN and infinity are looked for by the caller, over the whole batch.

        Args:
            rows: columns of the batch.
            index: the row of this environment.
            action: an int or a NumPy integer for a scalar discrete action, else an array or a nest of arrays like
                ``action_spec()``. Arrays may be reused by the caller after the call.
        """
        time_step = self.step(action)
        rows.write(index, time_step)
        return int(time_step.step_type)

    def _plain_step(self) -> PlainStep | None:
        """Return how native code can make plain steps in place of ``step_into``, or None: not at all."""
        return None

    def reset_into_batch(self, rows: Rows, start: int, stop: int) -> None:
        """Reset a batched environment and write its time step into rows ``start:stop``."""
        rows.write(slice(start, stop), self.reset())

    def step_into_batch(self, rows: Rows, start: int, stop: int, actions: Any) -> None:
        """Step a batched environment and write its time step into rows ``start:stop``.

        Args:
            rows: columns of the batch.
            start: first row of this environment.
            stop: one past its last row; ``stop - start == batch_size``.
            actions: nest of NumPy arrays ``[stop - start, ...]`` like ``action_spec()``.
        """
        if self.is_tensor_based:
            actions = nest.map_structure(torch.as_tensor, actions)
        rows.write(slice(start, stop), self.step(actions))

    def sync_progress(self) -> None:  # noqa: B027 (optional)
        """Take over the training progress of the main process (environments whose schedules depend on it)."""

    def close(self) -> None:  # noqa: B027 (optional)
        """Free what the environment holds. May be called more than once."""

    def render(self, mode: str = "rgb_array") -> np.ndarray | None:
        """Return a frame (``"rgb_array"``, uint8 ``[height, width, 3]``) or show one (``"human"``).

        Raises:
            NotImplementedError: if this environment cannot be drawn.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot render.")

    def seed(self, seed: int) -> None:  # noqa: B027 (optional)
        """Seed all random numbers of this environment, from its next reset on."""

    def get_state(self) -> Any:
        """Return all that decides how this environment goes on, for :meth:`set_state`; None: it cannot tell.

        Returns:
            A nest of dictionaries, lists, arrays, numbers and strings, as checkpoints hold them.
        """
        return None

    def set_state(self, state: Any) -> None:
        """Go on from where an environment like this one was when :meth:`get_state` returned ``state``.

        Raises:
            ForeignStateError: if it is the state of another environment, or damaged. The environment must be reset
                then.
            NotImplementedError: if this environment has no state to set.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be brought into a state.")

    def layers(self) -> list[str]:
        """Return the full names of the classes that make this environment up, the outermost wrapper first."""
        return [class_name(self)]

    def get_info(self) -> Any:
        """Return the info of the latest step: what the environment reports beside its time step."""
        return {}

    def __enter__(self) -> "AlfEnvironment":
        return self

    def __exit__(self, *exc_info: Any) -> bool:
        self.close()
        return False
