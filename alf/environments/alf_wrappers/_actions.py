"""Wrappers that change what an action means."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import alf.nest as nest
from alf.config_util import configurable
from alf.data_structures import TimeStep
from alf.environments._rows import FIRST, Rows
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.alf_wrappers._base import AlfEnvironmentBaseWrapper
from alf.environments.gym_wrappers._actions import affine_into
from alf.tensor_specs import BoundedTensorSpec


class _ActionWrapper(AlfEnvironmentBaseWrapper):
    """Translates actions with ``self._convert``; ``prev_action`` stays the action of the outside."""

    def _convert(self, action: Any) -> Any:
        raise NotImplementedError

    def _outside(self, time_step: TimeStep, action: Any) -> TimeStep:
        """Return ``time_step`` with ``prev_action`` as ``action``, zero at FIRST."""
        if not self._env.batched:
            zero = bool(time_step.step_type == FIRST)
            prev_action = nest.map_structure(
                lambda spec, a: spec.numpy_zeros() if zero else np.array(a, spec.dtype_str),
                self.action_spec(),
                action,
            )
        elif self._env.is_tensor_based:
            keep = time_step.step_type != FIRST
            prev_action = nest.map_structure(
                lambda spec, a: torch.where(keep.reshape((-1,) + (1,) * spec.ndim), a, torch.zeros_like(a)),
                self.action_spec(),
                action,
            )
        else:
            keep = np.asarray(time_step.step_type) != FIRST
            prev_action = nest.map_structure(
                lambda spec, a: np.where(keep.reshape((-1,) + (1,) * spec.ndim), a, np.zeros_like(a)),
                self.action_spec(),
                action,
            )
        return time_step._replace(prev_action=prev_action)

    def _zero_actions(self) -> Any:
        outer = (self.batch_size,) if self.batched else ()
        if self.is_tensor_based:
            return nest.map_structure(lambda spec: spec.zeros(outer), self.action_spec())
        return nest.map_structure(lambda spec: spec.numpy_zeros(outer), self.action_spec())

    def _reset(self) -> TimeStep:
        return self._env.reset()._replace(prev_action=self._zero_actions())

    def _step(self, action: Any) -> TimeStep:
        return self._outside(self._env.step(self._convert(action)), action)

    def reset_into(self, rows: Rows, index: int) -> int:
        """Reset the wrapped environment into row ``index``."""
        return self._env.reset_into(rows, index)

    def step_into(self, rows: Rows, index: int, action: Any) -> int:
        """Step the wrapped environment with the translated action."""
        return self._env.step_into(rows, index, self._convert(action))


def _single_continuous(env: AlfEnvironment, name: str) -> BoundedTensorSpec:
    spec = env.action_spec()
    if nest.is_nested(spec) or not (isinstance(spec, BoundedTensorSpec) and spec.is_continuous):
        raise ValueError(f"{name}.env: expected one bounded continuous action, got action_spec {spec}.")
    if not (np.isfinite(spec.minimum).all() and np.isfinite(spec.maximum).all()):
        raise ValueError(f"{name}.env: expected finite action bounds, got {spec}.")
    return spec


@configurable
class DiscreteActionWrapper(_ActionWrapper):
    """Replaces a continuous action by one integer that names a point of a grid over its bounds.

    Each dimension takes ``actions_num`` evenly spaced values, both bounds included; action ``a`` is read as a
    number in base ``actions_num`` whose most significant digit belongs to the first dimension.

    Args:
        env: an environment with one bounded continuous action.
        actions_num: number of values in each dimension, at least 2.
    """

    def __init__(self, env: AlfEnvironment, actions_num: int):
        super().__init__(env)
        spec = _single_continuous(env, "DiscreteActionWrapper")
        if actions_num < 2:
            raise ValueError(f"DiscreteActionWrapper.actions_num: expected >= 2, got {actions_num}.")
        # In float64: the difference of two float32 bounds is rounded, and the last point would not be the bound.
        low = np.broadcast_to(spec.minimum, spec.shape).reshape(-1).astype(np.float64)
        high = np.broadcast_to(spec.maximum, spec.shape).reshape(-1).astype(np.float64)
        count = actions_num**spec.numel
        if count > 2**20:
            raise ValueError(
                f"DiscreteActionWrapper.actions_num: {actions_num} values in each of {spec.numel} "
                f"dimensions make {count} actions. Use fewer values."
            )
        digits = np.stack(np.unravel_index(np.arange(count), (actions_num,) * spec.numel), axis=1)
        grid = low + (high - low) * digits / (actions_num - 1)
        self._grid = grid.reshape((count,) + spec.shape).astype(np.float32)  # [count, *shape]
        self._tensor_grid = torch.as_tensor(self._grid)
        self._action_spec = BoundedTensorSpec((), torch.int64, 0, count - 1)

    def action_spec(self) -> BoundedTensorSpec:
        """Return the spec of the integer action."""
        return self._action_spec

    def time_step_spec(self) -> TimeStep:
        """Return the TimeStep of specs."""
        return super().time_step_spec()

    def _convert(self, action: Any) -> Any:
        if self.is_tensor_based:
            return self._tensor_grid.to(action.device)[action]
        return self._grid[action]


class NormalizedActionWrapper(_ActionWrapper):
    """Maps continuous actions from [-1, 1] to their bounds, linearly; other parts of a nested action stay.

    Args:
        env: an environment whose continuous actions have finite bounds.
    """

    def __init__(self, env: AlfEnvironment):
        super().__init__(env)
        inner = env.action_spec()
        for spec in nest.flatten(inner):
            if spec.is_continuous and not (
                spec.is_bounded() and np.isfinite(spec.minimum).all() and np.isfinite(spec.maximum).all()
            ):
                raise ValueError(f"NormalizedActionWrapper.env: expected finite action bounds, got {spec}.")
        self._inner_spec = inner
        self._action_spec = nest.map_structure(
            lambda spec: spec.replace(minimum=-1.0, maximum=1.0) if spec.is_continuous else spec, inner
        )
        lift = torch.as_tensor if env.is_tensor_based else np.asarray

        def affine(spec: BoundedTensorSpec) -> tuple:
            one = np.ones((), np.float32)
            scale, offset = affine_into(spec.minimum.astype(np.float32), spec.maximum.astype(np.float32), -one, one)
            return lift(scale), lift(offset)

        self._affine = [affine(spec) if spec.is_continuous else None for spec in nest.flatten(inner)]

    def action_spec(self) -> Any:
        """Return the normalized specs."""
        return self._action_spec

    def time_step_spec(self) -> TimeStep:
        """Return the TimeStep of specs."""
        return super().time_step_spec()

    def _convert(self, action: Any) -> Any:
        parts = []
        for part, affine in zip(nest.flatten(action), self._affine, strict=True):
            parts.append(part if affine is None else part * affine[0] + affine[1])
        return nest.pack_sequence_as(self._inner_spec, parts)


@configurable
class TemporallyCorrelatedNoiseWrapper(_ActionWrapper):
    """Adds noise that is correlated over time to continuous actions, then clips to their bounds.

    ``noise_t = past_noise_weight * noise_{t-1} + sigma * N(0, 1)``, starting from 0 in every episode.

    Args:
        env: an unbatched environment with one bounded continuous action.
        sigma: standard deviation of what is added to the noise in each step.
        past_noise_weight: how much of the noise stays from step to step; 1 makes a random walk.
    """

    def __init__(self, env: AlfEnvironment, sigma: float = 0.5, past_noise_weight: float = 1.0):
        super().__init__(env)
        self._require_unbatched()
        self._spec = _single_continuous(env, "TemporallyCorrelatedNoiseWrapper")
        self._sigma = sigma
        self._past_noise_weight = past_noise_weight
        self._noise = np.zeros(self._spec.shape, np.float32)
        self._rng = np.random.default_rng()

    def seed(self, seed: int) -> None:
        """Seed the noise and the environment."""
        self._rng = np.random.default_rng(seed)
        self._env.seed(seed)

    def _convert(self, action: Any) -> np.ndarray:
        fresh = self._rng.standard_normal(self._spec.shape, np.float32)
        self._noise = self._past_noise_weight * self._noise + self._sigma * fresh
        return np.clip(action + self._noise, self._spec.minimum, self._spec.maximum).astype(np.float32)

    def _reset(self) -> TimeStep:
        self._noise = np.zeros_like(self._noise)
        return super()._reset()

    def reset_into(self, rows: Rows, index: int) -> int:
        """Reset the noise and the wrapped environment."""
        self._noise = np.zeros_like(self._noise)
        return super().reset_into(rows, index)

    def step_into(self, rows: Rows, index: int, action: Any) -> int:
        """Step the wrapped environment with the noisy action."""
        step_type = super().step_into(rows, index, action)
        if step_type == FIRST:
            self._noise = np.zeros_like(self._noise)
        return step_type
