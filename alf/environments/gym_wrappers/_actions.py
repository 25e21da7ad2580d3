"""Wrappers of Gymnasium environments that clip and rescale continuous actions."""

from __future__ import annotations

from typing import Any, Callable

import gymnasium
import numpy as np

from alf.config_util import configurable

spaces = gymnasium.spaces

_FAR = 1.0e9
_MAX_ROUNDINGS = 100


def has_continuous_actions(space: gymnasium.Space) -> bool:
    """Return whether ``space`` has a leaf that is a floating point Box."""
    if isinstance(space, spaces.Dict):
        return any(has_continuous_actions(child) for child in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return any(has_continuous_actions(child) for child in space.spaces)
    return isinstance(space, spaces.Box) and space.dtype.kind == "f"


def _transform(space: gymnasium.Space, leaf: Callable) -> tuple[gymnasium.Space, Callable[[Any], Any]]:
    """Return the new action space and the function from its actions to those of ``space``.

    Args:
        space: action space of the wrapped environment.
        leaf: gives both for a floating point Box; other leaves stay.
    """
    if isinstance(space, spaces.Dict):
        parts = {key: _transform(child, leaf) for key, child in space.spaces.items()}
        functions = {key: function for key, (_, function) in parts.items()}
        return (
            spaces.Dict({key: child for key, (child, _) in parts.items()}),
            lambda action: {key: function(action[key]) for key, function in functions.items()},
        )
    if isinstance(space, spaces.Tuple):
        pairs = [_transform(child, leaf) for child in space.spaces]
        return (
            spaces.Tuple([child for child, _ in pairs]),
            lambda action: tuple(function(part) for (_, function), part in zip(pairs, action, strict=True)),
        )
    if has_continuous_actions(space):
        return leaf(space)
    return space, lambda action: action


@configurable
class ContinuousActionClip(gymnasium.ActionWrapper):
    """Clips continuous actions to the bounds of the action space, narrowed to ``[min_v, max_v]``.

    Args:
        env: a Gymnasium environment.
        min_v: no action below this reaches the environment. The default is no bound of the action space: where the
            environment has none, there is none either.
        max_v: no action above this reaches the environment; the default as that of ``min_v``.
    """

    state_attributes = ()

    def __init__(self, env: gymnasium.Env, min_v: float = -_FAR, max_v: float = _FAR):
        super().__init__(env)

        def clip(space: spaces.Box) -> tuple[spaces.Box, Callable]:
            low = np.maximum(space.low, np.asarray(min_v, space.dtype))
            high = np.minimum(space.high, np.asarray(max_v, space.dtype))
            # A bound that is as far away as that tells nobody in which range to act.
            outer_low = np.where(np.isinf(space.low) & (low <= -_FAR), space.low, low)
            outer_high = np.where(np.isinf(space.high) & (high >= _FAR), space.high, high)
            # Two ufuncs take a third of the time of numpy.clip on small arrays.
            return (
                spaces.Box(outer_low, outer_high, dtype=space.dtype),
                lambda action: np.minimum(np.maximum(action, low), high),
            )

        self.action_space, self._clip = _transform(env.action_space, clip)

    def action(self, action: Any) -> Any:
        """Return the clipped action."""
        return self._clip(action)


def affine_into(low: np.ndarray, high: np.ndarray, outer_low: Any, outer_high: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and the offset that take ``[outer_low, outer_high]`` into ``[low, high]``, in spite of rounding.

    Rounding keeps the order of numbers: if both ends are inside, so is all between them. Where an end is not, the range
    is made narrower by the smallest steps.

    Args:
        low: of the type in which it will be computed.
        high: at least ``low``.
        outer_low: lowest number outside.
        outer_high: highest number outside.
    """
    scale = ((high - low) / (outer_high - outer_low)).astype(low.dtype)
    offset = (low - outer_low * scale).astype(low.dtype)
    step = np.spacing(np.maximum(np.abs(low), np.abs(high)))
    for _ in range(_MAX_ROUNDINGS):
        is_below = outer_low * scale + offset < low
        is_above = outer_high * scale + offset > high
        if not (is_below | is_above).any():
            break
        narrower = np.minimum(np.nextafter(scale, 0, dtype=low.dtype), scale - step / (outer_high - outer_low))
        scale = np.where(is_above, np.maximum(narrower, 0), scale).astype(low.dtype)
        offset = np.where(is_below, offset + step, offset).astype(low.dtype)
    return scale, offset


@configurable
class ContinuousActionMapping(gymnasium.ActionWrapper):
    """Maps continuous actions linearly from ``[low, high]`` to the bounds of the environment.

    Args:
        env: a Gymnasium environment whose continuous actions have finite bounds.
        low: lowest action outside, a number or an array.
        high: highest action outside, a number or an array.
    """

    state_attributes = ()

    def __init__(self, env: gymnasium.Env, low: Any, high: Any):
        super().__init__(env)

        def affine(space: spaces.Box) -> tuple[spaces.Box, Callable]:
            if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
                raise ValueError(
                    f"{type(self).__name__}: expected finite action bounds, got {space}. Give the environment bounds "
                    "(ContinuousActionClip with min_v and max_v, in gym_env_wrappers), or set "
                    "wrap_env.normalize_action=False."
                )
            outer_low = np.broadcast_to(np.asarray(low, space.dtype), space.shape)
            outer_high = np.broadcast_to(np.asarray(high, space.dtype), space.shape)
            if not (outer_low < outer_high).all():
                raise ValueError(f"{type(self).__name__}: expected low < high, got {low} and {high}.")
            outside = spaces.Box(outer_low, outer_high, dtype=space.dtype)
            if (outer_low == space.low).all() and (outer_high == space.high).all():
                return outside, lambda action: action
            scale, offset = affine_into(space.low, space.high, outer_low, outer_high)
            return outside, lambda action: action * scale + offset

        self.action_space, self._map = _transform(env.action_space, affine)

    def action(self, action: Any) -> Any:
        """Return the action in the bounds of the environment."""
        return self._map(action)


@configurable
class NormalizedAction(ContinuousActionMapping):
    """Maps continuous actions from [-1, 1] to the bounds of the environment.

    Args:
        env: a Gymnasium environment whose continuous actions have finite bounds.
    """

    state_attributes = ()

    def __init__(self, env: gymnasium.Env):
        super().__init__(env, low=-1.0, high=1.0)


@configurable
class NonEpisodicEnv(gymnasium.Wrapper):
    """Never reports the end of an episode; for environments that can be stepped beyond it.

    Args:
        env: a Gymnasium environment.
    """

    state_attributes = ()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        """Step; ``terminated`` and ``truncated`` are always False."""
        observation, reward, _, _, info = self.env.step(action)
        return observation, reward, False, False, info
