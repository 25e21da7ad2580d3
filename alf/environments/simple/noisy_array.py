"""NoisyArray: a corridor with a source of noise that distracts agents which look for novelty."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class NoisyArray(gymnasium.Env):
    """Walk ``K`` cells from the left end to the right end; reward 1 on arrival, which ends the episode.

    Actions: 0 left, 1 right, 2 look at the noise. The observation is two one-hot vectors side by side: the
    position (``K`` numbers) and a symbol (``M`` numbers), which is drawn anew after action 2 and absent (all
    zeros) otherwise.

    Args:
        K: number of cells, at least 2.
        M: number of different symbols.
        auto_noise: draw a symbol after every action.
    """

    LEFT, RIGHT, NOISE = 0, 1, 2
    metadata = {"render_modes": ["ansi"]}

    def __init__(self, K: int = 11, M: int = 100, auto_noise: bool = False):
        if K < 2 or M < 1:
            raise ValueError(f"NoisyArray: expected K >= 2 and M >= 1, got K={K}, M={M}.")
        self._num_cells = K
        self._num_symbols = M
        self._auto_noise = auto_noise
        self._position = 0
        self.render_mode = "ansi"
        self.observation_space = gymnasium.spaces.Box(0, 1, (K + M,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)

    def _observation(self, with_noise: bool) -> np.ndarray:
        observation = np.zeros(self._num_cells + self._num_symbols, np.float32)
        observation[self._position] = 1.0
        if with_noise:
            observation[self._num_cells + int(self.np_random.integers(self._num_symbols))] = 1.0
        return observation

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Return the observation at the left end."""
        super().reset(seed=seed)
        self._position = 0
        return self._observation(self._auto_noise), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move, or look."""
        if action == self.LEFT:
            self._position = max(self._position - 1, 0)
        elif action == self.RIGHT:
            self._position += 1
        arrived = self._position == self._num_cells - 1
        observation = self._observation(self._auto_noise or action == self.NOISE)
        return observation, float(arrived), arrived, False, {}

    def render(self, mode: str = "ansi", close: bool = False) -> Any:
        """Return the corridor as text."""
        cells = ["."] * self._num_cells
        cells[self._position] = "x"
        return "".join(cells)
