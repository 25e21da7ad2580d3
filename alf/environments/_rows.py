"""Rows: the arrays into which a host lets many environments write one time step each.

A host (a worker process, or the main process) steps many unbatched environments per wake-up. Building a
``TimeStep`` for each of them would cost more than a light environment itself, so environments write straight
into the columns of the batch:

    rows = Rows.allocate(env, batch_size=8)           # or views of shared memory
    for i, env in enumerate(envs):
        env.reset_into(rows, i)
    while True:
        for i, env in enumerate(envs):
            env.step_into(rows, i, actions[i])        # writes FIRST by itself after a LAST

``prev_action`` and ``env_id`` are not here: the host knows both and fills them for the whole batch at once.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

import alf.nest as nest
from alf.data_structures import StepType

#: Step types as Python ints: comparing and storing them is several times cheaper than NumPy scalars.
FIRST = int(StepType.FIRST)
MID = int(StepType.MID)
LAST = int(StepType.LAST)


def leaf_layout(spec: Any) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Return ``(shape, NumPy dtype)`` of every leaf of a nest of TensorSpec, in flatten order."""
    return [(tuple(leaf.shape), np.dtype(leaf.dtype_str)) for leaf in nest.flatten(spec)]


def to_numpy(value: Any) -> np.ndarray:
    """Return ``value`` (tensor, array or number) as a NumPy array, without a copy where possible."""
    return value if isinstance(value, np.ndarray) else np.asarray(value)


class Rows:
    """NumPy columns of one time step of a batch; row ``i`` belongs to the environment with index ``i``.

    Args:
        step_type: int32 ``[B]``.
        reward: float32 ``[B, *reward_shape]``.
        discount: float32 ``[B]``.
        observation: arrays ``[B, *shape]``, one per leaf of the observation nest, in flatten order.
        env_info: arrays ``[B, *shape]``, one per leaf of the env_info nest, in flatten order (maybe none).
    """

    __slots__ = ("step_type", "reward", "discount", "observation", "env_info")

    def __init__(
        self,
        step_type: np.ndarray,
        reward: np.ndarray,
        discount: np.ndarray,
        observation: Sequence[np.ndarray],
        env_info: Sequence[np.ndarray],
    ):
        self.step_type = step_type
        self.reward = reward
        self.discount = discount
        self.observation = list(observation)
        self.env_info = list(env_info)

    @classmethod
    def allocate(cls, env: Any, batch_size: int) -> "Rows":
        """Return zeroed rows for ``batch_size`` environments like ``env`` (its specs decide the layout)."""

        def blocks(spec):
            return [np.zeros((batch_size,) + shape, dtype) for shape, dtype in leaf_layout(spec)]

        return cls(
            step_type=np.zeros(batch_size, np.int32),
            reward=np.zeros((batch_size,) + tuple(env.reward_spec().shape), np.float32),
            discount=np.ones(batch_size, np.float32),
            observation=blocks(env.observation_spec()),
            env_info=blocks(env.env_info_spec()),
        )

    def write(self, index: int | slice, time_step: Any) -> None:
        """Copy ``time_step`` into row ``index``; a slice takes a batched time step of that many rows."""
        self.step_type[index] = to_numpy(time_step.step_type)
        self.reward[index] = to_numpy(time_step.reward)
        self.discount[index] = to_numpy(time_step.discount)
        for block, leaf in zip(self.observation, nest.flatten(time_step.observation), strict=True):
            block[index] = to_numpy(leaf)
        for block, leaf in zip(self.env_info, nest.flatten(time_step.env_info), strict=True):
            block[index] = to_numpy(leaf)


def action_splitter(action_spec: Any) -> Callable[[Any], list]:
    """Return the function that cuts a batch of actions into a list with the action of each environment.

    Actions come out as :meth:`AlfEnvironment.step_into` takes them: Python ints for a scalar discrete action,
    else arrays (views), in the nest of ``action_spec``.
    """
    leaves = nest.flatten(action_spec)
    if not nest.is_nested(action_spec):
        if action_spec.shape == () and action_spec.is_discrete:
            return lambda actions: to_numpy(actions).tolist()
        return lambda actions: list(to_numpy(actions))

    def split(actions: Any) -> list:
        columns = []
        for leaf, column in zip(leaves, nest.flatten(actions), strict=True):
            column = to_numpy(column)
            columns.append(column.tolist() if leaf.shape == () and leaf.is_discrete else column)
        return [nest.pack_sequence_as(action_spec, list(parts)) for parts in zip(*columns, strict=True)]

    return split
