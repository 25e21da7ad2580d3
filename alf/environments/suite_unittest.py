"""Tiny batched environments with known values and known optimal policies, for tests of algorithms."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._rows import FIRST, LAST, MID
from alf.environments.alf_environment import AlfEnvironment
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


class ActionType(enum.Enum):
    """What kind of action a unittest environment takes."""

    Discrete = 1
    Continuous = 2


class UnittestEnv(AlfEnvironment):
    """Base: all rows start and end their episodes together; subclasses say what is seen and rewarded.

    An episode has ``episode_length`` time steps, FIRST and LAST among them; LAST has discount 0.

    Args:
        batch_size: number of rows.
        episode_length: number of time steps in an episode, at least 2.
        obs_dim: size of the observation.
        action_type: ``ActionType.Discrete``: 0 or 1, shape ``()``; ``ActionType.Continuous``: ``[0, 1]``,
            shape ``(1,)``.
        nested_observation: whether the observation is ``dict(obs0=..., obs1=...)``, twice the same, instead
            of one tensor.
        reward_dim: 1 for scalar rewards, else every component is the same.
    """

    def __init__(
        self,
        batch_size: int,
        episode_length: int,
        obs_dim: int = 1,
        action_type: ActionType = ActionType.Discrete,
        nested_observation: bool = False,
        reward_dim: int = 1,
    ):
        if batch_size < 1 or episode_length < 2:
            raise ValueError(
                f"{type(self).__name__}: expected batch_size >= 1 and episode_length >= 2, got "
                f"{batch_size} and {episode_length}."
            )
        self._batch_size = batch_size
        self._episode_length = episode_length
        self._obs_dim = obs_dim
        self._nested_observation = nested_observation
        self._reward_dim = reward_dim
        self._position = 0  # in the episode
        self._generator = torch.Generator()
        self._generator.manual_seed(0)
        self._action_spec = self._make_action_spec(action_type)

    def _make_action_spec(self, action_type: ActionType) -> Any:
        if action_type == ActionType.Discrete:
            return BoundedTensorSpec((), torch.int64, 0, 1)
        return BoundedTensorSpec((1,), torch.float32, 0, 1)

    @property
    def is_tensor_based(self) -> bool:
        """True."""
        return True

    @property
    def batched(self) -> bool:
        """True."""
        return True

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self._batch_size

    def env_info_spec(self) -> dict:
        """Return ``{}``."""
        return {}

    def action_spec(self) -> Any:
        """Return the spec of the action."""
        return self._action_spec

    def observation_spec(self) -> Any:
        """Return the spec of the observation."""
        spec = TensorSpec((self._obs_dim,))
        return dict(obs0=spec, obs1=spec) if self._nested_observation else spec

    def reward_spec(self) -> TensorSpec:
        """Return the spec of the reward."""
        return TensorSpec(() if self._reward_dim == 1 else (self._reward_dim,))

    def seed(self, seed: int) -> None:
        """Seed the observations."""
        self._generator.manual_seed(int(np.ravel(seed)[0]))

    def _random_bits(self) -> torch.Tensor:
        """Return 0 or 1, float32 ``[batch_size, obs_dim]``."""
        bits = torch.randint(0, 2, (self._batch_size, 1), generator=self._generator)
        return bits.float().expand(-1, self._obs_dim).contiguous()

    def _observe(self, position: int) -> torch.Tensor:
        """Return the observation ``[batch_size, obs_dim]`` at ``position`` of the episode."""
        raise NotImplementedError(f"{type(self).__name__} must define _observe.")

    def _reward(self, position: int, action: Any) -> torch.Tensor:
        """Return the reward ``[batch_size]`` of ``action``, which was chosen at ``position - 1``."""
        raise NotImplementedError(f"{type(self).__name__} must define _reward.")

    def _reset(self) -> TimeStep:
        self._position = 0
        zeros = nest.map_structure(lambda spec: spec.zeros((self._batch_size,)), self._action_spec)
        return self._time_step(FIRST, torch.zeros(self._batch_size), 1.0, zeros)

    def _step(self, action: Any) -> TimeStep:
        if self._position == self._episode_length - 1:
            return self._reset()
        self._position += 1
        reward = self._reward(self._position, action)
        action = nest.map_structure(lambda part: part.detach().clone(), action)
        if self._position == self._episode_length - 1:
            return self._time_step(LAST, reward, 0.0, action)
        return self._time_step(MID, reward, 1.0, action)

    def _time_step(self, step_type: int, reward: torch.Tensor, discount: float, prev_action: Any) -> TimeStep:
        size = (self._batch_size,)
        observation = self._observe(self._position)
        if self._reward_dim > 1:
            reward = reward.unsqueeze(-1).repeat(1, self._reward_dim)
        return TimeStep(
            step_type=torch.full(size, step_type, dtype=torch.int32),
            reward=reward,
            discount=torch.full(size, discount),
            observation=dict(obs0=observation, obs1=observation) if self._nested_observation else observation,
            prev_action=prev_action,
            env_id=torch.arange(self._batch_size, dtype=torch.int32),
            env_info={},
        )


class ValueUnittestEnv(UnittestEnv):
    """Every reward and every observation is 1; with discount g and no end the value is ``1 / (1 - g)``.

    Within an episode the value at position p is the sum of ``g ** k`` for k below ``episode_length - 1 - p``.
    """

    def _observe(self, position: int) -> torch.Tensor:
        return torch.ones(self._batch_size, self._obs_dim)

    def _reward(self, position: int, action: Any) -> torch.Tensor:
        return torch.ones(self._batch_size)


class PolicyUnittestEnv(UnittestEnv):
    """Rewards an action by how near it is to the bit just observed: ``1 - |action - bit|``.

    The optimal policy repeats the observation and earns 1 in every step.
    """

    def _observe(self, position: int) -> torch.Tensor:
        self._bits = self._random_bits()
        return self._bits

    def _reward(self, position: int, action: Any) -> torch.Tensor:
        return _closeness(action, self._bits[:, 0])


class MixedPolicyUnittestEnv(UnittestEnv):
    """:class:`PolicyUnittestEnv` with an action ``[discrete, continuous]``, rewarded for both in halves.

    Args:
        batch_size: number of rows.
        episode_length: number of time steps in an episode.
        obs_dim: size of the observation.
    """

    def __init__(self, batch_size: int, episode_length: int, obs_dim: int = 1):
        super().__init__(batch_size, episode_length, obs_dim)

    def _make_action_spec(self, action_type: ActionType) -> Any:
        return [BoundedTensorSpec((), torch.int64, 0, 1), BoundedTensorSpec((1,), torch.float32, 0, 1)]

    def _observe(self, position: int) -> torch.Tensor:
        self._bits = self._random_bits()
        return self._bits

    def _reward(self, position: int, action: Any) -> torch.Tensor:
        return 0.5 * (_closeness(action[0], self._bits[:, 0]) + _closeness(action[1], self._bits[:, 0]))


class RNNPolicyUnittestEnv(UnittestEnv):
    """Shows a bit (as -1 or 1) at FIRST only, and later rewards the actions that remember it.

    Observations after FIRST are 0. Actions chosen at position ``gap`` and later earn ``1 - |action - bit|``,
    earlier ones nothing. A policy without memory earns 0.5 in a rewarded step, the optimal one 1.

    Args:
        batch_size: number of rows.
        episode_length: number of time steps in an episode, greater than ``gap + 1``.
        gap: number of steps without reward.
        action_type: see :class:`UnittestEnv`.
        obs_dim: size of the observation.
    """

    def __init__(
        self,
        batch_size: int,
        episode_length: int,
        gap: int = 3,
        action_type: ActionType = ActionType.Discrete,
        obs_dim: int = 1,
    ):
        if episode_length <= gap + 1:
            raise ValueError(
                f"RNNPolicyUnittestEnv.episode_length: expected more than gap + 1 = {gap + 1}, got {episode_length}."
            )
        super().__init__(batch_size, episode_length, obs_dim, action_type)
        self._gap = gap

    def _observe(self, position: int) -> torch.Tensor:
        if position == 0:
            self._bits = self._random_bits()
            return 2 * self._bits - 1
        return torch.zeros(self._batch_size, self._obs_dim)

    def _reward(self, position: int, action: Any) -> torch.Tensor:
        if position <= self._gap:
            return torch.zeros(self._batch_size)
        return _closeness(action, self._bits[:, 0])


def _closeness(action: torch.Tensor, bit: torch.Tensor) -> torch.Tensor:
    """Return ``1 - |action - bit|``, ``[B]``."""
    return 1 - (action.detach().reshape(len(bit), -1)[:, 0].to(bit) - bit).abs()
