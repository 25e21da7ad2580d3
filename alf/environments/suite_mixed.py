"""A small task whose actions have a discrete and a continuous part."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import gymnasium
import numpy as np

import alf.environments.suite_gym as suite_gym
from alf.config_util import configurable
from alf.environments.alf_environment import AlfEnvironment


class ModePoint(gymnasium.Env):
    """A point on a plane that chooses a mode and an amount: move along x, move along y, or stop.

    The point and its target are drawn uniformly from the square [-1, 1] x [-1, 1]. A step along an axis is
    ``MAX_STEP * amount`` long and earns by how much it brings the point closer to the target (sum of the distances
    along the axes). ``STOP`` ends the episode and earns 1 within ``RADIUS`` of the target along both axes, else -1;
    the amount does not matter then. An episode without discount so earns the first distance, 4/3 in the mean, less
    what is left of it, plus 1 if it stops in the right place: about 2.3 for a policy that always gets there. No mode
    alone and no amount alone gets there.

    The action is ``dict(amount=..., mode=...)``: float32 ``[1]`` in [-1, 1], and 0, 1 or 2. The observation is float32
    ``[4]``: position and target. ``info["is_success"]`` is 1 in the step that stops in the right place.
    """

    MOVE_X, MOVE_Y, STOP = 0, 1, 2
    MAX_STEP = 0.5
    RADIUS = 0.2
    metadata = {"render_modes": ["ansi"]}

    def __init__(self):
        self.render_mode = "ansi"
        self.observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = gymnasium.spaces.Dict(
            dict(
                amount=gymnasium.spaces.Box(-1, 1, (1,), np.float32),
                mode=gymnasium.spaces.Discrete(3),
            )
        )
        self._position = np.zeros(2)
        self._target = np.zeros(2)

    def _observation(self) -> np.ndarray:
        return np.concatenate([self._position, self._target]).astype(np.float32)

    def _distances(self) -> np.ndarray:
        return np.abs(self._position - self._target)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Draw a point and a target."""
        super().reset(seed=seed)
        self._position, self._target = self.np_random.uniform(-1, 1, (2, 2))
        return self._observation(), dict(is_success=0.0)

    def step(self, action: dict[str, Any]) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move or stop."""
        mode = int(action["mode"])
        if mode == self.STOP:
            is_success = bool((self._distances() <= self.RADIUS).all())
            return self._observation(), 1.0 if is_success else -1.0, True, False, dict(is_success=float(is_success))
        before = self._distances().sum()
        moved = self._position[mode] + self.MAX_STEP * float(action["amount"][0])
        self._position[mode] = np.clip(moved, -1, 1)
        return self._observation(), float(before - self._distances().sum()), False, False, dict(is_success=0.0)

    def render(self) -> str:
        """Return position and target as text."""
        return "position ({:.2f}, {:.2f}), target ({:.2f}, {:.2f})".format(*self._position, *self._target)


@configurable
def load(
    environment_name: str = "ModePoint",
    env_id: int | None = None,
    discount: float = 1.0,
    max_episode_steps: int = 20,
    gym_env_wrappers: Sequence[Callable] = (),
    alf_env_wrappers: Sequence[Callable] = (),
) -> AlfEnvironment:
    """Return a task with mixed actions, wrapped by ``suite_gym.wrap_env``.

    Args:
        environment_name: ``"ModePoint"``, the only one: :class:`ModePoint`.
        env_id: index of the environment in a batch.
        discount: discount of every step that is not a termination.
        max_episode_steps: time limit; 0 is none.
        gym_env_wrappers: called with the Gymnasium environment, one after another.
        alf_env_wrappers: called with the AlfEnvironment, one after another.
    Raises:
        ValueError: if there is no such task.
    """
    if environment_name != ModePoint.__name__:
        raise ValueError(f"suite_mixed.load.environment_name: expected 'ModePoint', got {environment_name!r}.")
    return suite_gym.wrap_env(
        ModePoint(),
        env_id=env_id,
        discount=discount,
        max_episode_steps=max_episode_steps,
        gym_env_wrappers=gym_env_wrappers,
        alf_env_wrappers=alf_env_wrappers,
    )
