"""StochasticWithRiskyBranch: two branches with different means and very different variances."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class StochasticWithRiskyBranch(gymnasium.Env):
    """Choose once between a safe and a risky branch; two steps make an episode.

    In the start state action 0 leads to the safe branch and action 1 to the risky one; the branch then pays,
    whatever the action, and the episode ends:

    * safe: 1, always;
    * risky: 10 with probability 0.2, else -1; the mean is 1.2.

    A learner of means takes the risky branch, one that avoids risk the safe branch. Observations are one-hot:
    start, safe, risky.

    Args:
        seed: seed of the rewards; None leaves them to ``reset(seed=...)``.
    """

    SAFE_REWARD = 1.0
    RISKY_REWARDS = (10.0, -1.0)
    RISKY_PROBABILITY = 0.2
    metadata = {"render_modes": ["ansi"]}

    def __init__(self, seed: int | None = None):
        self._state = 0
        self.render_mode = "ansi"
        self.observation_space = gymnasium.spaces.Box(0, 1, (3,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        if seed is not None:
            super().reset(seed=seed)

    def _observation(self) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[self._state]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Return the observation of the start state."""
        super().reset(seed=seed)
        self._state = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Choose a branch, or be paid by it."""
        if self._state == 0:
            self._state = 1 + int(action)
            return self._observation(), 0.0, False, False, {}
        if self._state == 1:
            reward = self.SAFE_REWARD
        else:
            reward = self.RISKY_REWARDS[0 if self.np_random.random() < self.RISKY_PROBABILITY else 1]
        return self._observation(), reward, True, False, {}

    def render(self, mode: str = "ansi", close: bool = False) -> Any:
        """Return the name of the state."""
        return ("start", "safe", "risky")[self._state]
