"""Robots that reach goals: the Fetch and hand environments of gymnasium-robotics."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any, Callable, Sequence

import gymnasium
import numpy as np

import alf.environments._registry as _registry
import alf.environments.suite_gym as suite_gym
from alf._install import how_to_install
from alf.config_util import configurable
from alf.environments._mujoco_compat import draw_without_screen
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.process_environment import ProcessEnvironment


class SparseReward(gymnasium.Wrapper):
    """Turns rewards of -1 (not there) and 0 (there) into 0 and 1.

    Args:
        env: a Gymnasium environment with such rewards.
    """

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Step; the reward is 1 more."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward) + 1.0, terminated, truncated, info


@configurable
class SuccessWrapper(gymnasium.Wrapper):
    """Reports ``info["is_success"]`` late in the episode only, and 0 before.

    What is reported in ``env_info`` is summed over an episode. With ``since_episode_steps`` equal to the length of an
    episode the mean of the sums is the rate of episodes that end at the goal.

    Args:
        env: a Gymnasium environment that reports ``is_success`` in every step.
        since_episode_steps: number of the step in an episode (from 1) from which success counts.
    """

    def __init__(self, env: gymnasium.Env, since_episode_steps: int):
        super().__init__(env)
        self._since_episode_steps = since_episode_steps
        self._episode_steps = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        """Start an episode."""
        self._episode_steps = 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        """Step; success counts if it is late enough."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._episode_steps += 1
        counts = self._episode_steps >= self._since_episode_steps
        info = {**info, "is_success": float(info["is_success"]) if counts else 0.0}
        return observation, reward, terminated, truncated, info


@configurable
class ObservationClipWrapper(gymnasium.ObservationWrapper):
    """Clips every part of the observation: a simulation that went wrong shows enormous velocities.

    Args:
        env: a Gymnasium environment whose observation is an array or a dictionary of arrays.
        min_v: least value.
        max_v: largest value.
    """

    def __init__(self, env: gymnasium.Env, min_v: float = -200.0, max_v: float = 200.0):
        super().__init__(env)
        self._min_v = min_v
        self._max_v = max_v

    def observation(self, observation: Any) -> Any:
        """Return the clipped observation."""
        if isinstance(observation, dict):
            return {name: np.clip(part, self._min_v, self._max_v) for name, part in observation.items()}
        return np.clip(observation, self._min_v, self._max_v)


class _ConcatDesiredGoal(gymnasium.ObservationWrapper):
    """Observes ``observation`` and ``desired_goal`` side by side in one array."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        parts = [env.observation_space[name] for name in ("observation", "desired_goal")]
        low, high = (np.concatenate([getattr(part, bound) for part in parts]) for bound in ("low", "high"))
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=parts[0].dtype)

    def observation(self, observation: dict) -> np.ndarray:
        return np.concatenate([observation["observation"], observation["desired_goal"]])


def is_available() -> bool:
    """Return whether gymnasium-robotics is installed."""
    return importlib.util.find_spec("gymnasium_robotics") is not None


@configurable
def load(
    environment_name: str,
    env_id: int | None = None,
    concat_desired_goal: bool = True,
    discount: float = 1.0,
    max_episode_steps: int | None = None,
    sparse_reward: bool = False,
    use_success_wrapper: bool = True,
    gym_env_wrappers: Sequence[Callable] = (),
    alf_env_wrappers: Sequence[Callable] = (),
    wrap_with_process: bool = False,
) -> AlfEnvironment | ProcessEnvironment:
    """Return an environment of gymnasium-robotics, wrapped by ``suite_gym.wrap_env``.

    Observations are dictionaries with ``observation``, ``achieved_goal`` and ``desired_goal``, as hindsight
    experience replay needs them, or one array. Fetch tasks never terminate: an episode ends at the time limit, with
    discount 1. ``env_info`` has ``is_success``.

    Args:
        environment_name: such as ``"FetchReach-v4"`` or ``"FetchPushDense-v4"``. Older versions resolve to v4 with one
            warning: in v2 and v3 the robot does not start where the task says
            (https://github.com/Farama-Foundation/Gymnasium-Robotics/issues/251), v0 and v1 need the retired mujoco-py.
        env_id: index of the environment in a batch.
        concat_desired_goal: observe one array, ``observation`` and ``desired_goal`` side by side, instead of the
            dictionary.
        discount: discount of every step that is not a termination.
        max_episode_steps: time limit; None takes that of the registered spec (50 for Fetch tasks).
        sparse_reward: rewards 0 and 1 instead of -1 and 0; see :class:`SparseReward`.
        use_success_wrapper: count success only in the last step of an episode; see :class:`SuccessWrapper`.
        gym_env_wrappers: called with the Gymnasium environment, after the wrappers of this suite.
        alf_env_wrappers: called with the AlfEnvironment, one after another.
        wrap_with_process: let the environment live in a process of its own, which is started.
    Raises:
        ImportError: if gymnasium-robotics is missing; it names the extra to install.
        ValueError: if there is no such environment, or it has no goals.
    """
    if wrap_with_process:
        constructor = functools.partial(
            load,
            environment_name,
            concat_desired_goal=concat_desired_goal,
            discount=discount,
            max_episode_steps=max_episode_steps,
            sparse_reward=sparse_reward,
            use_success_wrapper=use_success_wrapper,
            gym_env_wrappers=gym_env_wrappers,
            alf_env_wrappers=alf_env_wrappers,
        )
        process = ProcessEnvironment(constructor, env_id=env_id)
        process.start()
        return process

    if not is_available():
        raise ImportError(
            f"suite_robotics needs gymnasium-robotics, which is not installed: {how_to_install('robotics')}."
        )
    draw_without_screen()
    spec = _registry.find_spec(environment_name)
    gym_env = _registry.make(spec)
    space = gym_env.observation_space
    if not (isinstance(space, gymnasium.spaces.Dict) and {"achieved_goal", "desired_goal"} <= set(space.spaces)):
        raise ValueError(
            f"suite_robotics.load.environment_name: expected a task with goals, such as 'FetchReach-v4', but "
            f"{spec.id!r} observes {space}. Use suite_gym.load for it."
        )
    if max_episode_steps is None:
        max_episode_steps = spec.max_episode_steps or 0
    wrappers: list[Callable] = []
    if sparse_reward:
        wrappers.append(SparseReward)
    if use_success_wrapper:
        wrappers.append(functools.partial(SuccessWrapper, since_episode_steps=max_episode_steps))
    wrappers.append(ObservationClipWrapper)
    if concat_desired_goal:
        wrappers.append(_ConcatDesiredGoal)
    return suite_gym.wrap_env(
        gym_env,
        env_id=env_id,
        discount=discount,
        max_episode_steps=max_episode_steps,
        gym_env_wrappers=[*wrappers, *gym_env_wrappers],
        alf_env_wrappers=alf_env_wrappers,
    )
