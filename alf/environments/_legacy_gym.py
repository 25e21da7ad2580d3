"""Environments of the old ``gym`` package as Gymnasium environments; the package need not be installed."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium
import numpy as np

spaces = gymnasium.spaces


def is_legacy_env(env: Any) -> bool:
    """Return whether ``env`` looks like a ``gym.Env`` that is not a Gymnasium one."""
    return not isinstance(env, gymnasium.Env) and all(
        hasattr(env, name) for name in ("step", "reset", "action_space", "observation_space")
    )


def convert_space(space: Any) -> gymnasium.Space:
    """Return the Gymnasium space equal to an old gym ``space``, which is recognised by its class name.

    Raises:
        TypeError: for another kind of space.
    """
    if isinstance(space, gymnasium.Space):
        return space
    names = [cls.__name__ for cls in type(space).__mro__]
    if "Box" in names:
        return spaces.Box(low=np.asarray(space.low), high=np.asarray(space.high), dtype=space.dtype)
    if "Discrete" in names:
        return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
    if "MultiDiscrete" in names:
        return spaces.MultiDiscrete(np.asarray(space.nvec))
    if "MultiBinary" in names:
        return spaces.MultiBinary(space.n)
    if "Dict" in names:
        return spaces.Dict({key: convert_space(child) for key, child in space.spaces.items()})
    if "Tuple" in names:
        return spaces.Tuple([convert_space(child) for child in space.spaces])
    raise TypeError(
        f"{type(space).__module__}.{type(space).__name__}: expected an old gym Box, Discrete, "
        f"MultiDiscrete, MultiBinary, Dict or Tuple space, got {space!r}."
    )


def _accepts(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _without_env_checker(env: Any) -> Any:
    """Return ``env`` without gym's PassiveEnvChecker, which uses np.bool8 and fails on NumPy 2."""
    while type(env).__name__ == "PassiveEnvChecker":
        env = env.env
    outer = env
    while "env" in vars(outer):
        while type(outer.env).__name__ == "PassiveEnvChecker":
            outer.env = outer.env.env
        outer = outer.env
    return env


class LegacyGymAdapter(gymnasium.Env):
    """A Gymnasium environment around one of the old gym API.

    Accepted are ``step`` with 4 values (``done``; a time limit is known by ``info["TimeLimit.truncated"]``)
    or 5, ``reset`` with or without info, seeding by ``reset(seed=)`` or ``seed()``, ``render()`` or
    ``render(mode)``. Observations are converted to the declared dtype where that keeps their kind: old
    environments often return lists or float64.

    Args:
        env: the old environment.
    """

    def __init__(self, env: Any):
        self._env = env = _without_env_checker(env)
        self.observation_space = convert_space(env.observation_space)
        self.action_space = convert_space(env.action_space)
        self.metadata = dict(getattr(env, "metadata", None) or {})
        self.metadata.setdefault("render_modes", self.metadata.get("render.modes", []))
        self.spec = None
        self.render_mode = getattr(env, "render_mode", None)
        if self.render_mode is None and "rgb_array" in self.metadata["render_modes"]:
            self.render_mode = "rgb_array"
        for name in ("reward_space", "reward_spec"):
            if hasattr(env, name):
                setattr(self, name, getattr(env, name))
        self._reset_takes_seed = _accepts(env.reset, "seed")
        self._render_takes_mode = hasattr(env, "render") and _accepts(env.render, "mode")

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Return ``(observation, info)`` of a new episode."""
        if seed is None:
            result = self._env.reset()
        elif self._reset_takes_seed:
            result = self._env.reset(seed=seed)
        else:
            if hasattr(self._env, "seed"):
                self._env.seed(seed)
            result = self._env.reset()
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
            pair = isinstance(self.observation_space, spaces.Tuple) and len(self.observation_space) == 2
            if not (pair and isinstance(self.observation_space[1], spaces.Dict)):
                return self._observation(result[0], self.observation_space), result[1]
        return self._observation(result, self.observation_space), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        """Return ``(observation, reward, terminated, truncated, info)``."""
        result = self._env.step(action)
        if len(result) == 5:
            observation, reward, terminated, truncated, info = result
        else:
            observation, reward, done, info = result
            truncated = bool(done) and bool(info.get("TimeLimit.truncated", False))
            terminated = bool(done) and not truncated
        if isinstance(reward, np.ndarray) and reward.size == 1 and not hasattr(self, "reward_space"):
            reward = reward.item()
        return (
            self._observation(observation, self.observation_space),
            reward,
            bool(terminated),
            bool(truncated),
            info,
        )

    def _observation(self, observation: Any, space: gymnasium.Space) -> Any:
        if isinstance(space, spaces.Dict):
            return {key: self._observation(observation[key], child) for key, child in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(self._observation(part, child) for part, child in zip(observation, space.spaces, strict=True))
        if isinstance(space, spaces.Box):
            return np.asarray(observation).astype(space.dtype, casting="same_kind", copy=False)
        return observation

    def render(self) -> Any:
        """Return a frame."""
        return self._env.render(mode="rgb_array") if self._render_takes_mode else self._env.render()

    def close(self) -> None:
        """Close the old environment."""
        if hasattr(self._env, "close"):
            self._env.close()
