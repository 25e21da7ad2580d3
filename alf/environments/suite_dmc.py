"""The DeepMind control suite by domain and task."""

from __future__ import annotations

import importlib.util
from typing import Callable, Sequence

import alf.environments.suite_gym as suite_gym
from alf.config_util import configurable
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.dmc_gym_wrapper import DMCGYMWrapper


def is_available() -> bool:
    """Return whether dm_control is installed."""
    return importlib.util.find_spec("dm_control") is not None


@configurable
def load(
    environment_name: str = "cheetah:run",
    from_pixels: bool = True,
    image_size: int = 100,
    env_id: int | None = None,
    discount: float = 1.0,
    visualize_reward: bool = False,
    max_episode_steps: int | None = 1000,
    control_timestep: float | None = None,
    gym_env_wrappers: Sequence[Callable] = (),
    alf_env_wrappers: Sequence[Callable] = (),
) -> AlfEnvironment:
    """Return a task of the DeepMind control suite, wrapped by ``suite_gym.wrap_env``.

    Args:
        environment_name: ``"domain:task"``, such as ``"cartpole:swingup"``.
        from_pixels: observe images, uint8 ``[3, image_size, image_size]``, instead of the state, one array.
        image_size: height and width of images, those of ``render()`` too.
        env_id: index of the environment in a batch.
        discount: discount of every step that is not a termination.
        visualize_reward: let colours in images show the reward.
        max_episode_steps: time limit; the one of the task (1000 steps of its own length) holds too. None or 0: that
            alone.
        control_timestep: seconds between actions; None: those of the task.
        gym_env_wrappers: called with the Gymnasium environment, one after another.
        alf_env_wrappers: called with the AlfEnvironment, one after another.
    Raises:
        ImportError: if dm_control is missing; it names the extra to install.
        ValueError: if there is no such task; it names the nearest.
    """
    domain_name, colon, task_name = environment_name.partition(":")
    if not colon:
        raise ValueError(
            f"suite_dmc.load.environment_name: expected 'domain:task', such as 'cheetah:run', got {environment_name!r}."
        )
    gym_env = DMCGYMWrapper(
        domain_name,
        task_name,
        visualize_reward=visualize_reward,
        from_pixels=from_pixels,
        height=image_size,
        width=image_size,
        control_timestep=control_timestep,
    )
    return suite_gym.wrap_env(
        gym_env,
        env_id=env_id,
        discount=discount,
        max_episode_steps=max_episode_steps or 0,
        gym_env_wrappers=gym_env_wrappers,
        alf_env_wrappers=alf_env_wrappers,
    )
