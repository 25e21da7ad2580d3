"""SelectObservation: leaves out elements of a vector observation, or names groups of them."""

from __future__ import annotations

from typing import Mapping, Sequence

import gymnasium
import numpy as np

from alf.config_util import configurable
from alf.environments.gym_wrappers._base import BaseObservationWrapper

spaces = gymnasium.spaces


@configurable
class SelectObservation(BaseObservationWrapper):
    """Takes elements of a vector observation: a partially observable task, or a dictionary of named groups.

    Args:
        env: a Gymnasium environment.
        elements: indices to keep, ``[0, 2]``; or groups by name, ``{"position": [0, 2], "velocity": [1, 3]}``,
            which make the observation a dictionary.
        fields: dotted paths of the vectors; None: the observation is one vector.
    Raises:
        ValueError: if an observation is not a vector or has no such element.
    """

    state_attributes = ()

    def __init__(self,
                 env: gymnasium.Env,
                 elements: Sequence[int] | Mapping[str, Sequence[int]],
                 fields: list[str] | None = None):
        if isinstance(elements, Mapping):
            self._elements = {name: np.asarray(indices, dtype=np.int64) for name, indices in elements.items()}
        else:
            self._elements = np.asarray(elements, dtype=np.int64)
        super().__init__(env, fields)

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the Box of the elements, or a Dict of Boxes of the groups."""
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise ValueError(f"SelectObservation: expected a vector, a Box of one dimension, got {observation_space}.")

        def select(indices: np.ndarray) -> spaces.Box:
            size = observation_space.shape[0]
            if indices.size == 0 or indices.min() < -size or indices.max() >= size:
                raise ValueError(f"SelectObservation.elements: expected indices of the {size} elements, got "
                                 f"{indices.tolist()}.")
            return spaces.Box(observation_space.low[indices], observation_space.high[indices],
                              dtype=observation_space.dtype)

        if isinstance(self._elements, dict):
            return spaces.Dict({name: select(indices) for name, indices in self._elements.items()})
        return select(self._elements)

    def transform_observation(self, observation: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """Return the elements, or the groups of them by name."""
        if isinstance(self._elements, dict):
            return {name: observation[indices] for name, indices in self._elements.items()}
        return observation[self._elements]
