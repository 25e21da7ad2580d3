"""Gymnasium environments by id."""

from __future__ import annotations

import importlib.util
from typing import Any, Callable, Sequence

import gymnasium

import alf.environments._registry as _registry
import alf.environments.alf_wrappers as alf_wrappers
import alf.environments.gym_wrappers as gym_wrappers
from alf.config_util import configurable
from alf.environments._legacy_gym import LegacyGymAdapter, is_legacy_env
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.alf_gym_wrapper import AlfGymWrapper
from alf.environments.gym_wrappers._actions import has_continuous_actions
from alf.environments.gym_wrappers._frames import has_images


@configurable
def load(
    environment_name: str,
    env_id: int | None = None,
    discount: float = 1.0,
    max_episode_steps: int | None = None,
    gym_env_wrappers: Sequence[Callable] = (),
    alf_env_wrappers: Sequence[Callable] = (),
    image_channel_first: bool = True,
) -> AlfEnvironment:
    """Return the environment registered as ``environment_name``, wrapped by :func:`wrap_env`.

    Ids that Gymnasium has retired (``"Pendulum-v0"``, ``"HalfCheetah-v2"``, ``"PongNoFrameskip-v4"``) resolve
    to their successors with one warning. Ids that only an installed ``gym`` package knows are made by it.

    Args:
        environment_name: a Gymnasium id, or ``"module:id"`` where importing the module registers the id.
        env_id: index of the environment in a batch.
        discount: discount of every step that is not a termination.
        max_episode_steps: time limit; None takes that of the registered spec, 0 is none.
        gym_env_wrappers: called with the Gymnasium environment, one after another.
        alf_env_wrappers: called with the AlfEnvironment, one after another.
        image_channel_first: move the channels of images to the front.
    Raises:
        ValueError: if there is no such id; it names the nearest.
        ImportError: if a package is missing; it names the extra to install.
    """
    try:
        spec = _registry.find_spec(environment_name)
    except ValueError:
        gym_env = _make_with_old_gym(environment_name)
        if gym_env is None:
            raise
        default_steps = getattr(getattr(gym_env, "spec", None), "max_episode_steps", None)
    else:
        gym_env = _registry.make(spec)
        default_steps = spec.max_episode_steps
    if max_episode_steps is None:
        max_episode_steps = default_steps or 0
    return wrap_env(
        gym_env,
        env_id=env_id,
        discount=discount,
        max_episode_steps=max_episode_steps,
        gym_env_wrappers=gym_env_wrappers,
        alf_env_wrappers=alf_env_wrappers,
        image_channel_first=image_channel_first,
    )


def _make_with_old_gym(environment_name: str) -> Any:
    """Return the environment of that id from the ``gym`` package, or None if it does not know it either."""
    if importlib.util.find_spec("gym") is None:
        return None
    import gym

    try:
        spec = gym.spec(environment_name)
    except gym.error.Error:
        return None
    env = gym.make(environment_name)
    # The limit is applied by our TimeLimit; the adapter removes the checker that NumPy 2 breaks.
    while type(env).__name__ in ("TimeLimit", "OrderEnforcing", "PassiveEnvChecker"):
        env = env.env
    env.spec = spec
    return env


@configurable
def wrap_env(
    gym_env: gymnasium.Env,
    env_id: int | None = None,
    discount: float = 1.0,
    max_episode_steps: int = 0,
    gym_env_wrappers: Sequence[Callable] = (),
    time_limit_wrapper: Callable = alf_wrappers.TimeLimit,
    normalize_action: bool = True,
    clip_action: bool = True,
    alf_env_wrappers: Sequence[Callable] = (),
    image_channel_first: bool = True,
    auto_reset: bool = True,
) -> AlfEnvironment:
    """Return a Gymnasium environment as an AlfEnvironment with the usual conventions.

    From the inside out: ``gym_env_wrappers``, images with channels first, continuous actions from [-1, 1],
    clipped to that range, AlfGymWrapper, time limit, ``alf_env_wrappers``. Wrappers that would change nothing
    are left out.

    Args:
        gym_env: a Gymnasium environment, or one of the old gym package.
        env_id: index of the environment in a batch.
        discount: discount of every step that is not a termination.
        max_episode_steps: time limit; 0 is none.
        gym_env_wrappers: called with the Gymnasium environment, one after another.
        time_limit_wrapper: called with the environment and ``max_episode_steps``.
        normalize_action: map continuous actions from [-1, 1] to the bounds of the environment.
        clip_action: clip continuous actions to the bounds of the action spec.
        alf_env_wrappers: called with the AlfEnvironment, one after another.
        image_channel_first: move the channels of images to the front.
        auto_reset: start a new episode on the step after LAST.
    """
    if is_legacy_env(gym_env):
        gym_env = LegacyGymAdapter(gym_env)
    for wrapper in gym_env_wrappers:
        gym_env = wrapper(gym_env)
    if image_channel_first and has_images(gym_env.observation_space):
        gym_env = gym_wrappers.ImageChannelFirst(gym_env)
    if has_continuous_actions(gym_env.action_space):
        if normalize_action and not _is_normalized(gym_env.action_space):
            gym_env = gym_wrappers.NormalizedAction(gym_env)
        if clip_action:
            gym_env = gym_wrappers.ContinuousActionClip(gym_env)
    env: AlfEnvironment = AlfGymWrapper(gym_env, env_id=env_id, discount=discount, auto_reset=auto_reset)
    if max_episode_steps < 0:
        raise ValueError(f"wrap_env.max_episode_steps: expected >= 0, got {max_episode_steps}.")
    if max_episode_steps > 0:
        env = time_limit_wrapper(env, max_episode_steps)
    for wrapper in alf_env_wrappers:
        env = wrapper(env)
    return env


def _is_normalized(space: gymnasium.Space) -> bool:
    return isinstance(space, gymnasium.spaces.Box) and bool((space.low == -1).all() and (space.high == 1).all())
