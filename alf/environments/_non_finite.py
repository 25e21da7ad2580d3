"""What is done where environments return NaN or infinity: raise, or reset them as often as a budget allows."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._pool._errors import NonFiniteStepError, TooManyResetsError
from alf.environments._pool._restarts import RestartBudget

logger = logging.getLogger(__name__)


class NonFinitePolicy:
    """Decides whether an environment that returned NaN or infinity may be reset.

    Args:
        on_non_finite: ``"raise"`` or ``"reset"``.
        max_resets: number of resets within ``window_seconds`` after which it is an error all the same.
        window_seconds: length of that time.
        owner: whose arguments these are, for messages.
    Raises:
        ValueError: for another ``on_non_finite``, or a negative ``max_resets``.
    """

    def __init__(self, on_non_finite: str, max_resets: int, window_seconds: float, owner: str):
        if on_non_finite not in ("raise", "reset"):
            raise ValueError(f"{owner}.on_non_finite: expected 'raise' or 'reset', got {on_non_finite!r}.")
        if max_resets < 0:
            raise ValueError(f"{owner}.max_non_finite_resets: expected >= 0, got {max_resets}.")
        #: Whether such environments are reset at all.
        self.resets = on_non_finite == "reset"
        self._budget = RestartBudget(max_resets, window_seconds, told=("resets", "max_non_finite_resets"))

    def take(self, what: str) -> None:
        """Count a reset and tell it.

        Args:
            what: environment, field, value and step, in words.
        Raises:
            TooManyResetsError: if there have been too many.
        """
        if not self._budget.take():
            raise TooManyResetsError(f"{what}\nIt is not reset: there were {self._budget.describe()}.")
        logger.warning(
            "%s\nIt is reset (%s). Its episode ends at the time step before, and nothing is learned from this step.",
            what,
            self._budget.describe(),
        )


class FiniteCheck:
    """Looks for NaN and infinity in time steps, in little more time than one sum of each leaf takes.

    Args:
        observation_spec: nest of specs of the observation.
        name: of the environment.
    """

    def __init__(self, observation_spec: Any, name: str):
        self._name = name
        self._is_leaf = not nest.is_nested(observation_spec)
        paths: list[str] = []
        nest.py_map_structure_with_path(lambda path, _: paths.append(path), observation_spec)
        self._observation = [
            (place, ".".join(filter(None, ("observation", path))))
            for place, (path, spec) in enumerate(zip(paths, nest.flatten(observation_spec), strict=True))
            if spec.dtype.is_floating_point
        ]

    def __call__(self, time_step: TimeStep) -> None:
        """Raise if the reward or a part of the observation is NaN or infinite; on a GPU this waits for it.

        Args:
            time_step: of arrays or tensors, with or without a batch dimension.
        Raises:
            NonFiniteStepError: naming the part, the index and the value.
        """
        reward = time_step.reward
        # The sum is one pass; it may be infinite by itself, and is then looked into.
        if not math.isfinite(reward if np.ndim(reward) == 0 else reward.sum()):
            self._look("reward", reward)
        leaves = None
        for place, path in self._observation:
            if leaves is None:
                leaves = [time_step.observation] if self._is_leaf else nest.flatten(time_step.observation)
            if not math.isfinite(leaves[place].sum()):
                self._look(path, leaves[place])

    def _look(self, path: str, leaf: Any) -> None:
        values = np.asarray(leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            index = bad[0].tolist()
            raise NonFiniteStepError(
                f"{self._name}: {path}{index or ''}: expected a finite number, got {values[tuple(index)]}. Repair the "
                "environment, or end the episode where its simulation breaks down."
            )
