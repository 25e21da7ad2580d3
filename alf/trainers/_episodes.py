"""Whole episodes with a policy."""

from typing import Any, Callable, List, NamedTuple, Optional

import numpy as np
import torch

from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.data_structures import StepType, TimeStep
from alf.environments.alf_environment import AlfEnvironment
from alf.utils import common

_FIRST, _LAST = int(StepType.FIRST), int(StepType.LAST)


class Episode(NamedTuple):
    """Result of one episode."""
    env_id: int
    length: int  # environment steps
    episode_return: Any  # float, or a list of floats for a vector reward


class EpisodeCounter:
    """Counts episodes so that short ones are not preferred: each environment has its share of them.

    Args:
        num_envs: number of environments.
        num_episodes: number of episodes to count.
    """

    def __init__(self, num_envs: int, num_episodes: int):
        self._quotas = np.full(num_envs, num_episodes // num_envs)
        self._quotas[:num_episodes % num_envs] += 1
        self._returns: Any = 0.0
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self.episodes: List[Episode] = []

    @property
    def done(self) -> bool:
        """Whether all episodes have ended."""
        return not self._quotas.any()

    def count(self, step_type: np.ndarray, reward: np.ndarray) -> np.ndarray:
        """Take in one step of all environments and return which of them count, bool ``[B]``.

        Args:
            step_type: ``[B]``.
            reward: ``[B]`` or ``[B, R]``.
        """
        active = self._quotas > 0
        first = step_type == _FIRST
        # The reward at FIRST belongs to no action.
        keep = (~first).reshape(-1, *(1, ) * (reward.ndim - 1))
        self._returns = (self._returns + reward.astype(np.float64)) * keep
        self._lengths = (self._lengths + 1) * ~first
        for i in np.flatnonzero(active & (step_type == _LAST)):
            self.episodes.append(Episode(int(i), int(self._lengths[i]), self._returns[i].tolist()))
            self._quotas[i] -= 1
        return active


@torch.no_grad()
def run_episodes(env: AlfEnvironment,
                 algorithm: RLAlgorithm,
                 num_episodes: int,
                 observe: Optional[Callable[[TimeStep, np.ndarray], None]] = None,
                 give_up: Callable[[], bool] = lambda: False) -> List[Episode]:
    """Return the results of ``num_episodes`` episodes of ``predict_step``, from their beginnings.

    Args:
        env: batched environment with tensors.
        algorithm: acts by ``predict_step``.
        num_episodes: how many.
        observe: called with each time step ``[B, ...]`` and which of its rows count, bool ``[B]``.
        give_up: asked before each step; if true, only the episodes that have ended by then are returned.
    """
    counter = EpisodeCounter(env.batch_size, num_episodes)
    zero_state = algorithm.get_initial_predict_state(env.batch_size)
    state, transform_state = zero_state, algorithm.get_initial_transform_state(env.batch_size)
    was_training = algorithm.training
    algorithm.eval()
    with common.eval_context():
        time_step = env.reset()
        while True:
            active = counter.count(time_step.step_type.cpu().numpy(), time_step.reward.cpu().numpy())
            if observe is not None:
                observe(time_step, active)
            if counter.done or give_up():
                break
            inputs, transform_state = algorithm.transform_timestep(time_step, transform_state)
            state = common.reset_state_if_necessary(state, zero_state, time_step.is_first())
            step = algorithm.predict_step(inputs, state)
            state = step.state
            time_step = env.step(step.output)
    algorithm.train(was_training)
    return counter.episodes
