"""Wrappers of image observations: channel order, stacking, resizing, cropping, flipping, grey."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, List

import gymnasium
import numpy as np

import alf.nest as nest
from alf.config_util import configurable
from alf.environments.gym_wrappers._base import BaseObservationWrapper, image_axes, like, require_cv2

spaces = gymnasium.spaces


@configurable
class ImageChannelFirst(BaseObservationWrapper):
    """Moves the channels of images from the last to the first dimension.

    Without ``fields`` every leaf of the observation with three dimensions counts as an image.

    Args:
        env: a Gymnasium environment whose images are ``[height, width, channels]``.
        fields: dotted paths of the images.
    """

    state_attributes = ()

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the space with channels first."""
        if isinstance(observation_space, spaces.Dict):
            return spaces.Dict({k: self.transform_space(s) for k, s in observation_space.spaces.items()})
        if isinstance(observation_space, spaces.Tuple):
            return spaces.Tuple([self.transform_space(s) for s in observation_space.spaces])
        if not has_images(observation_space):
            return observation_space
        return like(
            observation_space,
            np.moveaxis(observation_space.low, -1, 0),
            np.moveaxis(observation_space.high, -1, 0),
        )

    def transform_observation(self, observation: Any) -> Any:
        """Return the observation with channels first (a view)."""
        if isinstance(observation, np.ndarray):
            return observation.transpose(2, 0, 1) if observation.ndim == 3 else observation
        if isinstance(observation, dict):
            return {key: self.transform_observation(part) for key, part in observation.items()}
        if isinstance(observation, tuple):
            return tuple(self.transform_observation(part) for part in observation)
        return observation


def has_images(space: gymnasium.Space) -> bool:
    """Return whether ``space`` has a leaf with three dimensions."""
    if isinstance(space, spaces.Dict):
        return any(has_images(child) for child in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return any(has_images(child) for child in space.spaces)
    return isinstance(space, spaces.Box) and len(space.shape) == 3


@configurable
class FrameStack(BaseObservationWrapper):
    """Stacks the last observations along their channels; at reset the first is repeated.

    ``alf.algorithms.data_transformer.FrameStacker`` does the same in the replay buffer with ``stack_size``
    times less memory; prefer it for training from replay.

    Args:
        env: a Gymnasium environment.
        stack_size: number of observations.
        channel_order: ``"channels_last"`` or ``"channels_first"``: which dimension is stacked along.
        fields: dotted paths of the fields to stack.
    """

    state_attributes = ("_stacks",)

    def __init__(
        self,
        env: gymnasium.Env,
        stack_size: int = 4,
        channel_order: str = "channels_last",
        fields: List[str] | None = None,
    ):
        if channel_order not in ("channels_first", "channels_last"):
            raise ValueError(
                f"FrameStack.channel_order: expected 'channels_first' or 'channels_last', got {channel_order!r}."
            )
        if stack_size < 1:
            raise ValueError(f"FrameStack.stack_size: expected >= 1, got {stack_size}.")
        self._stack_size = stack_size
        self._channel_axis = 0 if channel_order == "channels_first" else -1
        self._stacks: dict[str, np.ndarray] = {}
        super().__init__(env, fields)

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the space of a stack."""
        if not isinstance(observation_space, spaces.Box) or not observation_space.shape:
            raise ValueError(
                f"FrameStack: expected a Box with at least one dimension, got {observation_space}. Name "
                "the fields of a nested observation with the fields argument."
            )
        axis = self._channel_axis
        return like(
            observation_space,
            np.concatenate([observation_space.low] * self._stack_size, axis),
            np.concatenate([observation_space.high] * self._stack_size, axis),
        )

    def observation(self, observation: Any) -> Any:
        """Return ``observation`` with stacks in its fields."""
        for field in self._fields or [""]:
            if not field:
                return self.transform_observation(observation)
            observation = nest.transform_nest(
                observation, field, lambda part, f=field: self.transform_observation(part, f)
            )
        return observation

    def transform_observation(self, observation: np.ndarray, field: str = "") -> np.ndarray:
        """Return the stack of ``field`` ("" for the whole observation), with ``observation`` as its newest part."""
        # Stacks are kept with channels first, where a shift is one contiguous copy; channels last is a view
        # of that.
        frame = np.moveaxis(observation, self._channel_axis, 0)
        channels = frame.shape[0]
        old = self._stacks.get(field)
        stack = np.empty((channels * self._stack_size,) + frame.shape[1:], frame.dtype)
        if old is None:
            stack.reshape((self._stack_size,) + frame.shape)[:] = frame
        else:
            stack[:-channels] = old[channels:]
            stack[-channels:] = frame
        self._stacks[field] = stack
        return np.moveaxis(stack, 0, self._channel_axis)

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        """Return the first stack of an episode and the info."""
        self._stacks.clear()
        return super().reset(**kwargs)


@configurable
class FrameResize(BaseObservationWrapper):
    """Resizes images ``[height, width, channels]``.

    Args:
        env: a Gymnasium environment.
        width: new width.
        height: new height.
        fields: dotted paths of the images.
        interpolation: an OpenCV constant; 3 is ``cv2.INTER_AREA``.
    """

    state_attributes = ()

    def __init__(
        self,
        env: gymnasium.Env,
        width: int = 84,
        height: int = 84,
        fields: List[str] | None = None,
        interpolation: int = 3,
    ):
        self._width = width
        self._height = height
        self._interpolation = interpolation
        self._resize: Callable = require_cv2().resize
        super().__init__(env, fields)

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the space of resized images."""
        image_axes(observation_space, "channels_last", "FrameResize")
        shape = (self._height, self._width, observation_space.shape[2])
        return like(
            observation_space,
            np.full(shape, observation_space.low.min()),
            np.full(shape, observation_space.high.max()),
        )

    def transform_observation(self, observation: np.ndarray) -> np.ndarray:
        """Return the resized image."""
        resized = self._resize(observation, (self._width, self._height), interpolation=self._interpolation)
        return resized if resized.ndim == 3 else resized[:, :, None]


@configurable
class FrameGrayScale(BaseObservationWrapper):
    """Turns RGB images ``[height, width, 3]`` into grey ones ``[height, width, 1]``.

    Args:
        env: a Gymnasium environment.
        fields: dotted paths of the images.
    """

    state_attributes = ()

    def __init__(self, env: gymnasium.Env, fields: List[str] | None = None):
        cv2 = require_cv2()
        self._cvt_color, self._code = cv2.cvtColor, cv2.COLOR_RGB2GRAY
        super().__init__(env, fields)

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the space of grey images."""
        image_axes(observation_space, "channels_last", "FrameGrayScale")
        return like(
            observation_space,
            observation_space.low.min(axis=2, keepdims=True),
            observation_space.high.max(axis=2, keepdims=True),
        )

    def transform_observation(self, obs: np.ndarray) -> np.ndarray:
        """Return the grey image."""
        return self._cvt_color(obs, self._code)[:, :, None]


@configurable
class FrameCrop(BaseObservationWrapper):
    """Cuts a fixed window out of images.

    Args:
        env: a Gymnasium environment.
        sx: left edge of the window.
        sy: upper edge of the window.
        width: its width.
        height: its height.
        channel_order: ``"channels_last"`` or ``"channels_first"``.
        fields: dotted paths of the images.
    """

    state_attributes = ()

    def __init__(
        self,
        env: gymnasium.Env,
        sx: int = 0,
        sy: int = 0,
        width: int = 84,
        height: int = 84,
        channel_order: str = "channels_last",
        fields: List[str] | None = None,
    ):
        self._rows = slice(sy, sy + height)
        self._columns = slice(sx, sx + width)
        self._channel_order = channel_order
        super().__init__(env, fields)

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the space of the window."""
        _, y_axis, x_axis = image_axes(observation_space, self._channel_order, "FrameCrop")
        height, width = observation_space.shape[y_axis], observation_space.shape[x_axis]
        if self._rows.start < 0 or self._columns.start < 0 or self._rows.stop > height or self._columns.stop > width:
            raise ValueError(
                f"FrameCrop: expected a window inside {height} x {width} pixels (height x width), got rows "
                f"{self._rows.start} to {self._rows.stop}, columns {self._columns.start} to "
                f"{self._columns.stop}."
            )
        return like(
            observation_space,
            self.transform_observation(observation_space.low),
            self.transform_observation(observation_space.high),
        )

    def transform_observation(self, observation: np.ndarray) -> np.ndarray:
        """Return the window."""
        if self._channel_order == "channels_last":
            return observation[self._rows, self._columns]
        return observation[:, self._rows, self._columns]


@configurable
class EpisodicRandomFrameCrop(BaseObservationWrapper):
    """Cuts a window out of images whose place is drawn anew for each episode.

    Args:
        env: a Gymnasium environment.
        cropping_fraction: size of the window as a fraction of height and width, in (0, 1].
        channel_order: ``"channels_last"`` or ``"channels_first"``.
        share_cropping: whether all fields are cut at the same relative place.
        fields: dotted paths of the images.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        cropping_fraction: float = 0.8,
        channel_order: str = "channels_last",
        share_cropping: bool = True,
        fields: List[str] | None = None,
    ):
        if not 0 < cropping_fraction <= 1:
            raise ValueError(f"EpisodicRandomFrameCrop.cropping_fraction: expected in (0, 1], got {cropping_fraction}.")
        self._cropping_fraction = cropping_fraction
        self._channel_order = channel_order
        self._share_cropping = share_cropping
        self._rng = np.random.default_rng()
        super().__init__(env, fields)
        self._places = [(0.0, 0.0)] * len(self._fields or [None])
        source = [transform_source(env.observation_space, field) for field in self._fields or [None]]
        self._source_spaces = source

    def observation(self, observation: Any) -> Any:
        """Return ``observation`` with windows in its fields."""
        for field, (sy, sx), space in zip(self._fields or [None], self._places, self._source_spaces, strict=True):
            if field is None:
                return self.transform_observation(observation, sy, sx, space)

            def cut(part, sy=sy, sx=sx, space=space):
                return self.transform_observation(part, sy, sx, space)

            observation = nest.transform_nest(observation, field, cut)
        return observation

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        """Draw new windows; return the first observation of an episode and the info."""
        if kwargs.get("seed") is not None:
            self._rng = np.random.default_rng(kwargs["seed"])
        place = tuple(self._rng.random(2))
        self._places = [place if self._share_cropping else tuple(self._rng.random(2)) for _ in self._places]
        return super().reset(**kwargs)

    def _window(self, space: spaces.Box) -> tuple[int, int, int, int]:
        _, y_axis, x_axis = image_axes(space, self._channel_order, "EpisodicRandomFrameCrop")
        height, width = space.shape[y_axis], space.shape[x_axis]
        return (
            height,
            width,
            max(1, int(height * self._cropping_fraction)),
            max(1, int(width * self._cropping_fraction)),
        )

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the space of the windows."""
        channel_axis = image_axes(observation_space, self._channel_order, "EpisodicRandomFrameCrop")[0]
        _, _, height, width = self._window(observation_space)
        shape = [height, width]
        shape.insert(channel_axis, observation_space.shape[channel_axis])
        return like(
            observation_space,
            np.full(shape, observation_space.low.min()),
            np.full(shape, observation_space.high.max()),
        )

    def transform_observation(self, observation: np.ndarray, sy: float, sx: float, space: spaces.Box) -> np.ndarray:
        """Return the window at the relative place ``(sy, sx)``, each in [0, 1), of an image of ``space``."""
        full_height, full_width, height, width = self._window(space)
        top, left = int(sy * (full_height - height + 1)), int(sx * (full_width - width + 1))
        rows, columns = slice(top, top + height), slice(left, left + width)
        return observation[rows, columns] if self._channel_order == "channels_last" else observation[:, rows, columns]


def transform_source(space: gymnasium.Space, field: str | None) -> gymnasium.Space:
    """Return the space at the dotted path ``field``."""
    for key in field.split(".") if field else []:
        space = space[int(key)] if isinstance(space, spaces.Tuple) else space[key]
    return space


@configurable
class FrameFlip(BaseObservationWrapper):
    """Flips images upside down and left to right, decided anew for each episode.

    Args:
        env: a Gymnasium environment.
        ud_flip_prob: probability of flipping upside down.
        lr_flip_prob: probability of flipping left to right.
        channel_order: ``"channels_last"`` or ``"channels_first"``.
        fields: dotted paths of the images.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        ud_flip_prob: float = 0.5,
        lr_flip_prob: float = 0.5,
        channel_order: str = "channels_last",
        fields: List[str] | None = None,
    ):
        self._probabilities = (ud_flip_prob, lr_flip_prob)
        self._flips = (False, False)
        self._channel_order = channel_order
        self._rng = np.random.default_rng()
        super().__init__(env, fields)

    def reset(self, **kargs: Any) -> tuple[Any, dict]:
        """Decide on flips; return the first observation of an episode and the info."""
        if kargs.get("seed") is not None:
            self._rng = np.random.default_rng(kargs["seed"])
        self._flips = tuple(self._rng.random() < p for p in self._probabilities)
        return super().reset(**kargs)

    def transform_space(self, observation_space: gymnasium.Space) -> gymnasium.Space:
        """Return the same space: flips keep it."""
        image_axes(observation_space, self._channel_order, "FrameFlip")
        return observation_space

    def transform_observation(self, observation: np.ndarray) -> np.ndarray:
        """Return the image, flipped as decided (a view)."""
        axes = (0, 1) if self._channel_order == "channels_last" else (1, 2)
        return np.flip(observation, [axis for axis, flip in zip(axes, self._flips, strict=True) if flip])
