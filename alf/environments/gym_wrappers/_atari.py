"""Frame skipping, and the preprocessing of Atari games of https://www.nature.com/articles/nature14236."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from alf.config_util import configurable
from alf.environments.gym_wrappers._base import require_cv2


@configurable
class FrameSkip(gymnasium.Wrapper):
    """Repeats every action and sums the rewards; the observation is that of the last repetition.

    Args:
        env: a Gymnasium environment.
        skip: how often an action is applied; fewer times where the episode ends.
    """

    state_attributes = ()

    def __init__(self, env: gymnasium.Env, skip: int):
        if skip < 1:
            raise ValueError(f"FrameSkip.skip: expected >= 1, got {skip}.")
        super().__init__(env)
        self._skip = skip

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        """Apply ``action`` ``skip`` times."""
        total_reward = 0.0
        for _ in range(self._skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total_reward += reward
            if terminated or truncated:
                break
        return observation, total_reward, terminated, truncated, info

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        """Reset the environment."""
        return self.env.reset(**kwargs)


@configurable
class DMAtariPreprocessing(gymnasium.Wrapper):
    """Preprocesses an Atari game as DQN did: no-op starts, frame skip, maximum of two frames, small images.

    A game that waits for FIRE is started with it. Observations are uint8 ``[screen_size, screen_size, 1]``
    (or 3 channels). Stacking frames is left to ``FrameStack`` or the data transformer ``FrameStacker``.

    Args:
        env: an Atari environment without frame skip of its own (``frameskip=1``).
        frame_skip: number of emulator frames for each action.
        noop_max: an episode starts with 1 to ``noop_max`` no-ops; 0 for none.
        screen_size: height and width of the observation.
        gray_scale: whether images are grey.
    """

    state_attributes = ("_rng",)

    def __init__(
        self,
        env: gymnasium.Env,
        frame_skip: int = 4,
        noop_max: int = 30,
        screen_size: int = 84,
        gray_scale: bool = True,
    ):
        super().__init__(env)
        game = env.unwrapped
        if not hasattr(game, "ale"):
            raise ValueError(f"DMAtariPreprocessing.env: expected an Atari environment of ale-py, got {env}.")
        if getattr(game, "_frameskip", 1) != 1:
            raise ValueError(
                "DMAtariPreprocessing.env: expected an environment without frame skip of its own, got "
                f"frameskip={game._frameskip}. Use an id like 'PongNoFrameskip-v4'."
            )
        if frame_skip < 1 or noop_max < 0:
            raise ValueError(
                f"DMAtariPreprocessing: expected frame_skip >= 1 and noop_max >= 0, got {frame_skip} and {noop_max}."
            )
        self._ale = game.ale
        self._frame_skip = frame_skip
        self._noop_max = noop_max
        self._gray_scale = gray_scale
        self._size = (screen_size, screen_size)
        cv2 = require_cv2()
        self._resize, self._interpolation = cv2.resize, cv2.INTER_AREA
        # A bare game is stepped through the emulator itself: its own `step` renders each skipped frame.
        bare = env is game and hasattr(game, "_action_set") and not getattr(game, "continuous", False)
        self._action_set = list(game._action_set) if bare else None
        meanings = game.get_action_meanings()
        self._fire_actions = [1] if len(meanings) > 1 and meanings[1] == "FIRE" else []
        height, width = self._ale.getScreenDims()
        channels = () if gray_scale else (3,)
        self._frames = [np.empty((height, width) + channels, np.uint8) for _ in range(2)]
        self._rng = np.random.default_rng()
        self.observation_space = gymnasium.spaces.Box(0, 255, self._size + (1 if gray_scale else 3,), np.uint8)

    def _grab(self, frame: np.ndarray) -> None:
        if self._gray_scale:
            self._ale.getScreenGrayscale(frame)
        else:
            self._ale.getScreenRGB(frame)

    def _observation(self, frame: np.ndarray) -> np.ndarray:
        small = self._resize(frame, self._size, interpolation=self._interpolation)
        return small[:, :, None] if self._gray_scale else small

    def _frame_step(self, action: int) -> tuple[float, bool, bool]:
        """Advance one emulator frame; return ``(reward, terminated, truncated)``."""
        if self._action_set is None:
            _, reward, terminated, truncated, _ = self.env.step(action)
            return reward, terminated, truncated
        reward = self._ale.act(self._action_set[action])
        return reward, self._ale.game_over(with_truncation=False), self._ale.game_truncated()

    def _info(self) -> dict:
        return {"lives": self._ale.lives()}

    def fire(self) -> None:
        """Press FIRE where the game waits for it."""
        for action in self._fire_actions:
            _, terminated, truncated = self._frame_step(action)
            if terminated or truncated:
                self.env.reset()

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict]:
        """Start a game with FIRE and no-ops; return the first observation and the info."""
        if kwargs.get("seed") is not None:
            self._rng = np.random.default_rng(kwargs["seed"])
        self.env.reset(**kwargs)
        self.fire()
        num_noops = int(self._rng.integers(1, self._noop_max + 1)) if self._noop_max else 0
        for _ in range(num_noops):
            _, terminated, truncated = self._frame_step(0)
            if terminated or truncated:
                self.env.reset()
                self.fire()
        self._grab(self._frames[0])
        return self._observation(self._frames[0]), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Apply ``action`` for ``frame_skip`` frames; the observation is the maximum of the last two."""
        first, second = self._frames
        total_reward = 0.0
        num_grabbed = 0
        for frame in range(self._frame_skip):
            reward, terminated, truncated = self._frame_step(action)
            total_reward += reward
            if terminated or truncated or frame == self._frame_skip - 1:
                self._grab(second)
                num_grabbed += 1
                break
            if frame == self._frame_skip - 2:
                self._grab(first)
                num_grabbed += 1
        if num_grabbed == 2:
            np.maximum(first, second, out=second)
        return self._observation(second), total_reward, terminated, truncated, self._info()
