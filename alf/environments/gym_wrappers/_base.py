"""BaseObservationWrapper: changes some fields of an observation and of its space alike."""

from __future__ import annotations

from typing import Any, Callable

import gymnasium
import numpy as np

import alf.nest as nest
from alf._install import how_to_install
from alf.config_util import configurable

spaces = gymnasium.spaces


def transform_space(observation_space: gymnasium.Space, field: str | None, func: Callable) -> gymnasium.Space:
    """Return ``observation_space`` with ``func`` applied to the space at ``field``.

    Args:
        observation_space: any space.
        field: dotted path through Dict and Tuple spaces, e.g. ``"sensors.0.image"``; None or "" is the whole.
        func: takes and returns a space.
    Raises:
        ValueError: if there is no such field.
    """

    def walk(space: gymnasium.Space, path: list[str]) -> gymnasium.Space:
        if not path:
            return func(space)
        head, rest = path[0], path[1:]
        if isinstance(space, spaces.Dict) and head in space.spaces:
            children = dict(space.spaces)
            children[head] = walk(children[head], rest)
            return spaces.Dict(children)
        if isinstance(space, spaces.Tuple) and head.isdigit() and int(head) < len(space):
            parts = list(space.spaces)
            parts[int(head)] = walk(parts[int(head)], rest)
            return spaces.Tuple(parts)
        raise ValueError(f"transform_space.field: expected a path into {observation_space}, got {field!r}.")

    return walk(observation_space, field.split(".") if field else [])


def require_cv2() -> Any:
    """Return the OpenCV module.

    Raises:
        ImportError: if OpenCV is missing; it names the extra to install.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "Resizing and grey frames need OpenCV, which is not installed: "
            f"{how_to_install('atari')} (or opencv-python-headless)."
        ) from error
    return cv2


def image_axes(space: gymnasium.Space, channel_order: str, wrapper: str) -> tuple[int, int, int]:
    """Return the positions of ``(channel, height, width)`` in an image space.

    Raises:
        ValueError: if ``space`` is no image or ``channel_order`` is neither of the two.
    """
    if channel_order not in ("channels_first", "channels_last"):
        raise ValueError(
            f"{wrapper}.channel_order: expected 'channels_first' or 'channels_last', got {channel_order!r}."
        )
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        raise ValueError(
            f"{wrapper}: expected an image, a Box of 3 dimensions, got {space}. Name the image fields "
            "of a nested observation with the fields argument."
        )
    return (0, 1, 2) if channel_order == "channels_first" else (2, 0, 1)


def like(space: spaces.Box, low: np.ndarray, high: np.ndarray) -> spaces.Box:
    """Return a Box with the dtype of ``space`` and other bounds."""
    return spaces.Box(low=low.astype(space.dtype), high=high.astype(space.dtype), dtype=space.dtype)


@configurable
class BaseObservationWrapper(gymnasium.ObservationWrapper):
    """Applies ``transform_observation`` to fields of the observation and ``transform_space`` to their spaces.

    Args:
        env: a Gymnasium environment.
        fields: dotted paths of the fields to change; None changes the observation as a whole.
    """

    def __init__(self, env: gymnasium.Env, fields: list[str] | None = None):
        super().__init__(env)
        self._fields = list(fields) if fields else None
        space = env.observation_space
        for field in self._fields or [None]:
            space = transform_space(space, field, self.transform_space)
        self.observation_space = space

    def observation(self, observation: Any) -> Any:
        """Return ``observation`` with its fields changed."""
        if self._fields is None:
            return self.transform_observation(observation)
        for field in self._fields:
            observation = nest.transform_nest(observation, field, self.transform_observation)
        return observation

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the space of one changed field."""
        raise NotImplementedError(f"{type(self).__name__} must define transform_space.")

    def transform_observation(self, observation: Any) -> Any:
        """Return one changed field."""
        raise NotImplementedError(f"{type(self).__name__} must define transform_observation.")
