"""Wrappers that change observations and rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from alf.config_util import configurable
from alf.data_structures import TimeStep
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.alf_wrappers._base import AlfEnvironmentBaseWrapper
from alf.tensor_specs import TensorSpec


@configurable
class ActionObservationWrapper(AlfEnvironmentBaseWrapper):
    """Adds the previous action to the observation: ``dict(observation=..., prev_action=...)``.

    Args:
        env: the environment.
    """

    def __init__(self, env: AlfEnvironment):
        super().__init__(env)
        self._observation_spec = dict(observation=env.observation_spec(), prev_action=env.action_spec())

    def observation_spec(self) -> dict:
        """Return the specs of ``observation`` and ``prev_action``."""
        return self._observation_spec

    def time_step_spec(self) -> TimeStep:
        """Return the TimeStep of specs."""
        return super().time_step_spec()

    def _add_action(self, time_step: TimeStep) -> TimeStep:
        return time_step._replace(
            observation=dict(observation=time_step.observation, prev_action=time_step.prev_action)
        )

    def _reset(self) -> TimeStep:
        return self._add_action(self._env.reset())

    def _step(self, action: Any) -> TimeStep:
        return self._add_action(self._env.step(action))


@configurable
class ScalarRewardWrapper(AlfEnvironmentBaseWrapper):
    """Makes one number of a reward of several dimensions: their weighted sum.

    Args:
        env: an environment whose reward has one dimension.
        reward_weights: weight of each component; None takes the first component.
    """

    def __init__(self, env: AlfEnvironment, reward_weights: Any = None):
        super().__init__(env)
        shape = env.reward_spec().shape
        if len(shape) != 1:
            raise ValueError(f"ScalarRewardWrapper.env: expected a reward of shape (n,), got {shape}.")
        if reward_weights is None:
            reward_weights = [1.0] + [0.0] * (shape[0] - 1)
        if len(reward_weights) != shape[0]:
            raise ValueError(
                f"ScalarRewardWrapper.reward_weights: expected {shape[0]} numbers, got "
                f"{len(reward_weights)}: {reward_weights}."
            )
        weights = np.asarray(reward_weights, np.float32)
        self._weights = torch.as_tensor(weights) if env.is_tensor_based else weights

    def reward_spec(self) -> TensorSpec:
        """Return the spec of a scalar reward."""
        return TensorSpec(())

    def time_step_spec(self) -> TimeStep:
        """Return the TimeStep of specs."""
        return super().time_step_spec()

    def _average(self, time_step: TimeStep) -> TimeStep:
        reward = time_step.reward @ self._weights
        return time_step._replace(reward=reward if self.is_tensor_based else np.asarray(reward, np.float32))

    def _reset(self) -> TimeStep:
        return self._average(self._env.reset())

    def _step(self, action: Any) -> TimeStep:
        return self._average(self._env.step(action))


class GoalReplayEnvWrapper(AlfEnvironmentBaseWrapper):
    """Base of wrappers that know how to give a stored trajectory another goal (hindsight replay).

    A subclass implements both methods; the environment itself is passed on unchanged.

    Args:
        env: the environment.
    """

    def get_trajectory_with_goal(self, trajectory: Any, goal: Any) -> Any:
        """Return ``trajectory`` (nest ``[B, T, ...]``) with goal and rewards changed to ``goal``."""
        raise NotImplementedError(f"{type(self).__name__} must define get_trajectory_with_goal.")

    def get_goal_from_trajectory(self, trajectory: Any) -> Any:
        """Return the goal that ``trajectory`` (nest ``[B, T, ...]``) reached."""
        raise NotImplementedError(f"{type(self).__name__} must define get_goal_from_trajectory.")
