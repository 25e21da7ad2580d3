"""RandomAlfEnvironment: random observations for given specs, for tests of what consumes time steps."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._rows import FIRST, LAST, MID
from alf.environments.alf_environment import AlfEnvironment
from alf.tensor_specs import TensorSpec


class RandomAlfEnvironment(AlfEnvironment):
    """Draws observations from their spec and ends episodes at random; checks the actions it is given.

    Bounded specs are sampled uniformly, others from a standard normal. Each row of a batch has its own
    episodes.

    Args:
        observation_spec: nest of specs.
        action_spec: nest of specs.
        env_id: index of the environment in a batch; for a batch the first of ``batch_size`` indices.
        episode_end_probability: probability that a step ends the episode, once it is long enough.
        discount: discount of every step but the last, which has 0 (or this one where ``max_duration`` ended
            it).
        reward_fn: called as ``reward_fn(step_type, action, observation)`` with NumPy values (batched in a
            batch); None draws rewards uniformly from [0, 1).
        batch_size: None for an unbatched environment.
        seed: seed of everything random.
        render_size: shape of the image that ``render`` returns.
        min_duration: no episode ends by chance before it has had this many steps.
        max_duration: a time limit; None for none.
        use_tensor_time_step: whether time steps and actions are torch tensors.
    """

    def __init__(
        self,
        observation_spec: Any,
        action_spec: Any,
        env_id: int | None = None,
        episode_end_probability: float = 0.1,
        discount: float = 1.0,
        reward_fn: Callable | None = None,
        batch_size: int | None = None,
        seed: int = 42,
        render_size: tuple = (2, 2, 3),
        min_duration: int = 0,
        max_duration: int | None = None,
        use_tensor_time_step: bool = False,
    ):
        if max_duration is not None and max_duration < max(min_duration, 1):
            raise ValueError(
                f"RandomAlfEnvironment.max_duration: expected >= max(min_duration={min_duration}, 1), got "
                f"{max_duration}."
            )
        self._observation_spec = observation_spec
        self._action_spec = action_spec
        self._batch_size = batch_size
        self._outer = () if batch_size is None else (batch_size,)
        self._env_id = np.asarray(env_id or 0, np.int32) + (
            0 if batch_size is None else np.arange(batch_size, dtype=np.int32)
        )
        self._episode_end_probability = episode_end_probability
        self._discount = discount
        self._reward_fn = reward_fn
        self._render_size = render_size
        self._min_duration = min_duration
        self._max_duration = max_duration
        self._use_tensor_time_step = use_tensor_time_step
        self._rng = np.random.default_rng(seed)
        self._num_steps = np.zeros(self._outer, np.int64)
        self._step_type = np.full(self._outer, LAST, np.int32)

    @property
    def is_tensor_based(self) -> bool:
        """Whether time steps and actions are torch tensors."""
        return self._use_tensor_time_step

    @property
    def batched(self) -> bool:
        """Whether there is a batch dimension."""
        return self._batch_size is not None

    @property
    def batch_size(self) -> int:
        """Size of the batch, 1 if there is no batch dimension."""
        return 1 if self._batch_size is None else self._batch_size

    def env_info_spec(self) -> dict:
        """Return ``{}``."""
        return {}

    def observation_spec(self) -> Any:
        """Return the spec given."""
        return self._observation_spec

    def action_spec(self) -> Any:
        """Return the spec given."""
        return self._action_spec

    def reward_spec(self) -> TensorSpec:
        """Return the spec of a scalar."""
        return TensorSpec(())

    def seed(self, seed: int) -> None:
        """Seed everything random."""
        self._rng = np.random.default_rng(seed)

    def render(self, mode: str = "rgb_array") -> np.ndarray:
        """Return a random image."""
        if mode != "rgb_array":
            raise ValueError(f"RandomAlfEnvironment.render: expected mode 'rgb_array', got {mode!r}.")
        return self._rng.integers(0, 256, self._render_size, dtype=np.uint8)

    def _draw(self, spec: TensorSpec) -> np.ndarray:
        if spec.is_bounded():
            return spec.numpy_sample(self._outer, self._rng)
        return self._rng.standard_normal(self._outer + spec.shape).astype(spec.dtype_str)

    def _check(self, spec: TensorSpec, action: Any) -> np.ndarray:
        action = np.asarray(action)
        if action.shape != self._outer + spec.shape:
            raise ValueError(
                f"RandomAlfEnvironment.step: expected an action of shape {self._outer + spec.shape}, got "
                f"{action.shape}."
            )
        if spec.is_bounded() and not ((spec.minimum <= action) & (action <= spec.maximum)).all():
            raise ValueError(f"RandomAlfEnvironment.step: expected an action inside {spec}, got {action}.")
        return action.astype(spec.dtype_str)

    def _reset(self) -> TimeStep:
        self._num_steps = np.zeros(self._outer, np.int64)
        self._step_type = np.full(self._outer, FIRST, np.int32)
        actions = nest.map_structure(lambda spec: spec.numpy_zeros(self._outer), self._action_spec)
        return self._time_step(np.ones(self._outer, np.float32), actions)

    def _step(self, action: Any) -> TimeStep:
        action = nest.map_structure(self._check, self._action_spec, action)
        restart = self._step_type == LAST
        self._num_steps = np.where(restart, 0, self._num_steps + 1)
        ends = (self._rng.random(self._outer) < self._episode_end_probability) & (self._num_steps > self._min_duration)
        timed_out = np.zeros_like(ends) if self._max_duration is None else self._num_steps >= self._max_duration
        self._step_type = np.where(restart, FIRST, np.where(ends | timed_out, LAST, MID)).astype(np.int32)
        discount = np.where(restart, 1.0, np.where(ends & ~timed_out, 0.0, self._discount)).astype(np.float32)

        def previous(spec: TensorSpec, leaf: np.ndarray) -> np.ndarray:
            return np.where(restart.reshape(self._outer + (1,) * spec.ndim), 0, leaf).astype(spec.dtype_str)

        return self._time_step(discount, nest.map_structure(previous, self._action_spec, action))

    def _time_step(self, discount: np.ndarray, prev_action: Any) -> TimeStep:
        observation = nest.map_structure(self._draw, self._observation_spec)
        if self._reward_fn is None:
            reward = self._rng.random(self._outer)
        else:
            reward = self._reward_fn(self._step_type, prev_action, observation)
        time_step = TimeStep(
            step_type=self._step_type.copy(),
            reward=np.where(self._step_type == FIRST, 0.0, reward).astype(np.float32),
            discount=discount,
            observation=observation,
            prev_action=prev_action,
            env_id=self._env_id.copy(),
            env_info={},
        )
        return nest.map_structure(torch.as_tensor, time_step) if self._use_tensor_time_step else time_step
