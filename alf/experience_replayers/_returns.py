"""Discounted returns of stored episodes."""

from __future__ import annotations

import numpy as np
import torch

from alf.data_structures import StepType
from alf.experience_replayers._episodes import Episodes, new_steps
from alf.utils.row_storage import RowStorage

_LAST = int(StepType.LAST)


class EpisodicReturns:
    """The return of the rest of the episode for each stored step, brought up to date when it is asked.

    ``G_t = r_{t+1} + gamma * discount_{t+1} * G_{t+1}``, and 0 at the last step: rewards and discounts stand in the row
    that they led to. An episode cut by a time limit counts what it had.

    Args:
        storage: the steps.
        episodes: their episodes.
        paths: dotted paths of step type, reward (``[]``) and discount.
        gamma: discount.
        reward_clip: (minimum, maximum) of rewards, or None.
        default_return: of steps whose episode has not ended.
    """

    def __init__(self, storage: RowStorage, episodes: Episodes, paths: tuple[str, str, str], gamma: float,
                 reward_clip: tuple[float, float] | None, default_return: float):
        self._storage, self._episodes = storage, episodes
        self._step_types, self._rewards, self._discounts = (storage.view(path) for path in paths)
        self._gamma, self._reward_clip, self._default_return = gamma, reward_clip, default_return
        num_environments, self._max_length = self._step_types.shape
        self._returns = np.full((num_environments, self._max_length), default_return, np.float32)
        self._known = np.zeros(num_environments, np.int64)

    def forget(self) -> None:
        """Look at all steps anew."""
        self._known = np.zeros_like(self._known)

    def update(self) -> None:
        """Take in what was stored since the last time."""
        counts = self._storage.counts.numpy()
        if np.array_equal(counts[0], self._known):
            return
        env_ids, positions, valid = new_steps(counts, self._known)
        slots = positions % self._max_length
        envs = np.broadcast_to(env_ids[:, None], positions.shape)
        self._returns[envs[valid], slots[valid]] = self._default_return
        step_types = self._step_types[torch.from_numpy(env_ids[:, None]), torch.from_numpy(slots)].cpu().numpy()
        is_last = valid & (step_types == _LAST)
        if is_last.any():
            begins = self._episodes.begin(envs[is_last], positions[is_last])
            for env, begin, end in zip(envs[is_last], begins, positions[is_last]):
                self._fill(env, np.arange(begin, end + 1) % self._max_length)
        self._known = counts[0].copy()

    def _fill(self, env: int, slots: np.ndarray) -> None:
        """Set the returns of one episode, whose steps are in ``slots``."""
        rewards = self._rewards[env][torch.from_numpy(slots)].cpu().double()
        if self._reward_clip is not None:
            rewards = rewards.clamp(*self._reward_clip)
        discounts = self._discounts[env][torch.from_numpy(slots)].cpu().double() * self._gamma
        returns = [0.0]
        for reward, discount in zip(reversed(rewards.tolist()[1:]), reversed(discounts.tolist()[1:])):
            returns.append(reward + discount * returns[-1])
        self._returns[env, slots] = returns[::-1]

    def get(self, env_ids: np.ndarray, positions: np.ndarray) -> torch.Tensor:
        """Return the returns of stored steps, float32 with the shape of the arguments."""
        return torch.from_numpy(self._returns[env_ids, positions % self._max_length])
