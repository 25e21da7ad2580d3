"""What is done where environments return NaN or infinity: raise, or reset them as often as a budget allows."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._pool._errors import NonFiniteError, TooManyResetsError
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


def check_finite(time_step: TimeStep, name: str) -> None:
    """Raise if the reward or a part of the observation is NaN or infinite; on a GPU this waits for it.

    Args:
        time_step: of arrays or tensors.
        name: of the environment.
    Raises:
        NonFiniteError: naming the part, the index and the value.
    """
    for path, leaf in (("reward", time_step.reward), *_observation_leaves(time_step.observation)):
        # The sum is one pass; it may also be infinite by itself.
        if _is_float(leaf) and not math.isfinite(leaf.sum()):
            values = np.asarray(leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf)
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                index = bad[0].tolist()
                raise NonFiniteError(
                    f"{name}: {path}{index or ''}: expected a finite number, got {values[tuple(index)]}. Repair the "
                    "environment, or end the episode where its simulation breaks down."
                )


def _observation_leaves(observation: Any) -> list:
    if not nest.is_nested(observation):
        return [("observation", observation)]
    leaves: list = []
    nest.py_map_structure_with_path(lambda path, leaf: leaves.append((f"observation.{path}", leaf)), observation)
    return leaves


def _is_float(leaf: Any) -> bool:
    return leaf.is_floating_point() if isinstance(leaf, torch.Tensor) else np.asarray(leaf).dtype.kind == "f"
