"""TimeStepRing: where an adapter of a native batch puts its time steps, without making a tensor in any step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep


def any_true(flags: np.ndarray) -> bool:
    """Return ``flags.any()`` of a bool array, for few flags in a tenth of its time."""
    return 1 in flags.tobytes()


def action_array(action: torch.Tensor) -> np.ndarray:
    """Return actions as an array, over the same memory where it can be."""
    if action.requires_grad or not action.is_cpu:  # asking is cheaper than doing it for nothing
        action = action.detach().cpu()
    return action.numpy()


class Row(NamedTuple):
    """A time step and the memory of it."""

    time_step: TimeStep  # of tensors [B, ...]
    arrays: TimeStep  # of NumPy arrays over the same memory
    leaves: list  # these arrays, in flatten order


class TimeStepRing:
    """Time steps laid out once, which an adapter fills one after another with what its batch gives.

    Copying some numbers costs less than making tensors over them.

    Args:
        spec: TimeStep of the specs of what is laid out, ``()`` elsewhere.
        batch_size: number of environments.
        env_ids: ``env_id`` of all time steps.
        num_rows: number of time steps.
    """

    def __init__(self, spec: TimeStep, batch_size: int, env_ids: torch.Tensor, num_rows: int = 4):
        self._spec = spec
        self._batch_size = batch_size
        self._env_ids = env_ids
        self._rows: list[Row] = []
        self._latest = 0
        self.num_rows = num_rows

    def reserve(self, num_time_steps: int) -> None:
        """Let at least ``num_time_steps`` successive time steps be valid together.

        Raises:
            RuntimeError: if fewer are laid out already.
        """
        if num_time_steps <= self.num_rows:
            return
        if self._rows:
            raise RuntimeError(
                f"reserve_rows: {num_time_steps} time steps cannot be reserved after the first reset, which laid out "
                f"{self.num_rows}. Reserve before."
            )
        self.num_rows = num_time_steps

    def next(self) -> Row:
        """Return the row to be filled, which is the oldest."""
        if not self._rows:
            self._lay_out()
        self._latest = (self._latest + 1) % self.num_rows
        return self._rows[self._latest]

    def _lay_out(self) -> None:
        outer = (self.num_rows, self._batch_size)
        blocks = nest.map_structure(lambda leaf: np.zeros(outer + tuple(leaf.shape), leaf.dtype_str), self._spec)
        for index in range(self.num_rows):
            arrays = nest.map_structure(lambda block: block[index], blocks)  # noqa: B023 (called at once)
            time_step = nest.map_structure(torch.from_numpy, arrays)._replace(env_id=self._env_ids)
            self._rows.append(Row(time_step, arrays, nest.flatten(arrays)))
