"""Small environments that cannot be solved without memory."""

from __future__ import annotations

import difflib
from typing import Any, Callable, Sequence

import gymnasium
import numpy as np

import alf.environments.suite_gym as suite_gym
from alf.config_util import configurable
from alf.environments.alf_environment import AlfEnvironment


class TMaze(gymnasium.Env):
    """A corridor that ends in a junction; a sign at its beginning says where to turn.

    The first observation shows the sign. Every step leads one cell on, whatever the action. At the junction action 0
    turns left and action 1 right: reward 1 for the side of the sign, -1 for the other, and the episode ends. All other
    rewards are 0. An episode has ``corridor_length + 1`` actions.

    The observation is ``(sign, junction)``: the sign is -1 (left) or 1 (right) at the beginning and 0 later, the second
    number is 1 at the junction and 0 before it. What is seen at the junction does not tell the side, so every policy
    without memory earns 0 on average, and the best one with memory 1. This is the T-maze of
    https://papers.nips.cc/paper/1953-reinforcement-learning-with-long-short-term-memory
    without the walking, so that it takes memory only.

    Args:
        corridor_length: number of steps from the sign to the junction, at least 1.
    """

    LEFT, RIGHT = 0, 1
    metadata = {"render_modes": ["ansi"]}

    def __init__(self, corridor_length: int = 10):
        if corridor_length < 1:
            raise ValueError(f"TMaze.corridor_length: expected at least 1, got {corridor_length}.")
        self._corridor_length = corridor_length
        self._position = 0
        self._side = self.LEFT
        self.render_mode = "ansi"
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2, ), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def _observation(self) -> np.ndarray:
        sign = (-1.0, 1.0)[self._side] if self._position == 0 else 0.0
        return np.array([sign, self._position == self._corridor_length], np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Return the observation with a new sign."""
        super().reset(seed=seed)
        self._position = 0
        self._side = int(self.np_random.integers(2))
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Walk on, or turn."""
        if self._position < self._corridor_length:
            self._position += 1
            return self._observation(), 0.0, False, False, {}
        return np.zeros(2, np.float32), 1.0 if action == self._side else -1.0, True, False, {}

    def render(self, mode: str = "ansi", close: bool = False) -> Any:
        """Return the maze as text: the sign, the corridor with the walker, the junction."""
        cells = ["."] * self._corridor_length + ["T"]
        cells[self._position] = "x"
        return "LR"[self._side] + " " + "".join(cells)


_GAMES = {game.__name__: game for game in (TMaze, )}


@configurable
def load(
    game: str = "TMaze",
    env_id: int | None = None,
    env_args: dict[str, Any] = dict(),  # noqa: B006, B008, C408 (never written; as in suite_simple)
    discount: float = 1.0,
    gym_env_wrappers: Sequence[Callable] = (),
    alf_env_wrappers: Sequence[Callable] = (),
    max_episode_steps: int = 0,
) -> AlfEnvironment:
    """Return a memory task, wrapped by ``suite_gym.wrap_env``.

    Args:
        game: ``"TMaze"``.
        env_id: index of the environment in a batch.
        env_args: arguments of its class, such as ``dict(corridor_length=20)``.
        discount: discount of every step that is not a termination.
        gym_env_wrappers: called with the Gymnasium environment.
        alf_env_wrappers: called with the AlfEnvironment.
        max_episode_steps: time limit; 0 is none.
    Raises:
        ValueError: if there is no such game; it names the nearest.
    """
    if game not in _GAMES:
        near = difflib.get_close_matches(game, _GAMES, n=1) or sorted(_GAMES)
        raise ValueError(
            f"suite_memory.load.game: expected one of {sorted(_GAMES)}, got {game!r}. Did you mean {near[0]!r}?"
        )
    return suite_gym.wrap_env(
        _GAMES[game](**env_args),
        env_id=env_id,
        discount=discount,
        max_episode_steps=max_episode_steps,
        gym_env_wrappers=gym_env_wrappers,
        alf_env_wrappers=alf_env_wrappers,
    )
