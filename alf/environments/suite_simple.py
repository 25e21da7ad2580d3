"""Small environments of this project by name."""

from __future__ import annotations

import difflib
import functools
from typing import Any, Callable, Sequence

import alf.environments.gym_wrappers as gym_wrappers
import alf.environments.suite_gym as suite_gym
from alf.config_util import configurable
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.simple.noisy_array import NoisyArray
from alf.environments.simple.stochastic_with_risky_branch import StochasticWithRiskyBranch

_GAMES = {game.__name__: game for game in (NoisyArray, StochasticWithRiskyBranch)}


@configurable
def load(
    game: str,
    env_id: int | None = None,
    env_args: dict[str, Any] = dict(),  # noqa: B006, B008, C408 (never written; the published default)
    discount: float = 1.0,
    frame_skip: int | None = None,
    frame_stack: int | None = None,
    gym_env_wrappers: Sequence[Callable] = (),
    alf_env_wrappers: Sequence[Callable] = (),
    max_episode_steps: int = 0,
) -> AlfEnvironment:
    """Return a small environment, wrapped by ``suite_gym.wrap_env``.

    Args:
        game: ``"NoisyArray"`` or ``"StochasticWithRiskyBranch"``.
        env_id: index of the environment in a batch.
        env_args: arguments of its class.
        discount: discount of every step that is not a termination.
        frame_skip: how often an action is repeated; None for once.
        frame_stack: number of observations stacked; None for one.
        gym_env_wrappers: called with the Gymnasium environment, after skipping and stacking.
        alf_env_wrappers: called with the AlfEnvironment.
        max_episode_steps: time limit; 0 is none.
    Raises:
        ValueError: if there is no such game; it names the nearest.
    """
    if game not in _GAMES:
        near = difflib.get_close_matches(game, _GAMES, n=1) or sorted(_GAMES)
        raise ValueError(
            f"suite_simple.load.game: expected one of {sorted(_GAMES)}, got {game!r}. Did you mean {near[0]!r}?"
        )
    wrappers: list[Callable] = []
    if frame_skip:
        wrappers.append(functools.partial(gym_wrappers.FrameSkip, skip=frame_skip))
    if frame_stack:
        wrappers.append(functools.partial(gym_wrappers.FrameStack, stack_size=frame_stack))
    return suite_gym.wrap_env(
        _GAMES[game](**env_args),
        env_id=env_id,
        discount=discount,
        max_episode_steps=max_episode_steps,
        gym_env_wrappers=[*wrappers, *gym_env_wrappers],
        alf_env_wrappers=alf_env_wrappers,
    )
