"""Counts what a run does whose loop is not ours, and ends it when it is over. Needs PyTorch."""

import _job
from torch.optim.optimizer import register_optimizer_step_post_hook


class Over(Exception):
    """Ends a run from within a step of its environments."""


class Watch:
    """Marks a run by what it calls: steps of environments, and of the optimizer that steps first.

    Args:
        marks: of the run.
    """

    def __init__(self, marks: _job.Marks):
        self._marks = marks
        self._optimizer = None
        self._env_steps = self._updates = 0
        register_optimizer_step_post_hook(self._count_update)

    def _count_update(self, optimizer, args, kwargs) -> None:
        if self._optimizer is None:
            self._optimizer = optimizer
        self._updates += optimizer is self._optimizer

    def count_steps(self, number: int) -> None:
        """Count steps of environments.

        Raises:
            Over: if the run is.
        """
        self._env_steps += number
        if self._marks.step(self._env_steps, self._updates):
            raise Over
