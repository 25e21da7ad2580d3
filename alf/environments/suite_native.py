"""Native batches in place of Gymnasium's classic-control environments: when there is one, and that it is equal."""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable, NamedTuple, Optional, Sequence

import numpy as np
import torch
from gymnasium.envs.classic_control import acrobot, cartpole, continuous_mountain_car, mountain_car, pendulum

import alf.environments.native_batch as native_batch
import alf.environments.suite_gym as suite_gym
from alf.config_util import configurable
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.alf_gym_wrapper import AlfGymWrapper
from alf.environments.alf_wrappers import TimeLimit
from alf.environments.gym_wrappers import ContinuousActionClip, NormalizedAction
from alf.environments.native_batch import NativeBatchEnvironment
from alf.tensor_specs import BoundedTensorSpec

logger = logging.getLogger(__name__)

#: Ids that have a native batch. What the id stands for is looked at as well: an id can be registered anew.
IDS = frozenset(
    [
        "CartPole-v0",
        "CartPole-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Pendulum-v0",
        "Pendulum-v1",
        "Acrobot-v1",
    ]
)

_NAMES: dict[type, str] = {
    cartpole.CartPoleEnv: "CartPole",
    mountain_car.MountainCarEnv: "MountainCar",
    continuous_mountain_car.Continuous_MountainCarEnv: "MountainCarContinuous",
    pendulum.PendulumEnv: "Pendulum",
    acrobot.AcrobotEnv: "Acrobot",
}

_NUM_COMPARED_STEPS = 200
_told: set[str] = set()


class NoNativeBatchError(ValueError):
    """There is no native batch for what was asked for; the message says why."""


class UnusableNativeBatchError(NoNativeBatchError):
    """There should be one, and it was not built or does not do what the installed Gymnasium does."""


class Plan(NamedTuple):
    """What a native batch has to be like."""

    name: str  # of the environment in alf._envs
    observation_spec: BoundedTensorSpec
    action_spec: BoundedTensorSpec
    discount: float
    max_episode_steps: int  # 0: no limit

    def make(self, batch_size: int, first_env_id: int = 0) -> NativeBatchEnvironment:
        """Return a batch like that."""
        return NativeBatchEnvironment(
            self.name,
            self.observation_spec,
            self.action_spec,
            batch_size,
            self.discount,
            self.max_episode_steps,
            first_env_id,
        )


def find_plan(environment_name: Any, env_load_fn: Callable = suite_gym.load) -> Plan:
    """Return what a native batch has to be like to equal environments made by ``env_load_fn(environment_name)``.

    One environment is made and looked at, so that whatever is configured for it counts. It and a native one make some
    steps, which have to be equal bit for bit.

    Args:
        environment_name: a Gymnasium id.
        env_load_fn: ``suite_gym.load``, or a partial of it.
    Raises:
        NoNativeBatchError: if there is none; it says why.
        UnusableNativeBatchError: if that is because it was not built, or differs.
    """
    function = env_load_fn
    while isinstance(function, functools.partial) and not function.args:
        function = function.func
    if function is not suite_gym.load:
        raise NoNativeBatchError("env_load_fn is not suite_gym.load")
    if not isinstance(environment_name, str) or environment_name not in IDS:
        raise NoNativeBatchError(f"there is none for {environment_name!r}, only for {', '.join(sorted(IDS))}")
    if not native_batch.is_built():
        raise UnusableNativeBatchError(
            "the extension alf._envs is missing. Install a C++17 compiler and torch >= 2.10, and reinstall alf"
        )
    with env_load_fn(environment_name, env_id=0) as original:
        plan = _read(original)
        _compare(plan, original)
    return plan


def _read(env: AlfEnvironment) -> Plan:
    """Return what a native batch has to be like to equal ``env``, if that has none but the usual wrappers."""
    max_episode_steps, wrapper = 0, env
    if type(wrapper) is TimeLimit:
        max_episode_steps, wrapper = wrapper.duration, wrapper.wrapped_env()
    if type(wrapper) is not AlfGymWrapper:
        raise NoNativeBatchError(
            f"it cannot do what the wrapper {type(wrapper).__name__} does. To get one, leave that out of "
            "alf_env_wrappers; what wraps whole batches may go into create_environment.batched_wrappers"
        )
    gym_env = wrapper.gym
    original = gym_env.unwrapped
    if type(original) not in _NAMES:
        raise NoNativeBatchError(f"the id is registered for {type(original).__name__}")
    usual: list[type] = []
    if not env.action_spec().is_discrete:
        usual = [ContinuousActionClip] if original.action_space.high == 1 else [ContinuousActionClip, NormalizedAction]
        space = gym_env.action_space
        if (space.low != -1).any() or (space.high != 1).any():
            raise NoNativeBatchError(f"actions are not mapped from [-1, 1] but from {space}")
    layers = []
    while gym_env is not original:
        layers.append(type(gym_env))
        gym_env = gym_env.env
    if layers != usual:
        raise NoNativeBatchError(
            f"it cannot do what the wrappers {[layer.__name__ for layer in layers]} do, usual are "
            f"{[layer.__name__ for layer in usual]}. To get one, leave the others out of gym_env_wrappers"
        )
    if _constants(original) != _constants(type(original)()):
        raise NoNativeBatchError(f"the constants of {type(original).__name__} are not the usual ones")
    if not wrapper.auto_reset or env.env_info_spec() != {}:
        raise NoNativeBatchError("episodes do not start by themselves, or steps report an env_info")
    return Plan(
        _NAMES[type(original)], env.observation_spec(), env.action_spec(), wrapper._discount, max_episode_steps
    )


def _constants(env: Any) -> dict:
    """Return the numbers that an environment was made with."""
    return {name: value for name, value in vars(env).items() if isinstance(value, (bool, int, float, str))}


def _compare(plan: Plan, original: AlfEnvironment) -> None:
    """Raise NoNativeBatchError unless the original and a native batch of one make equal steps."""
    rng = np.random.default_rng(0)
    batch, spec = plan.make(1), plan.action_spec
    batch.seed(1)
    original.seed(1)
    for t in range(_NUM_COMPARED_STEPS):
        if t == 0:
            expected, found = original.reset(), batch.reset()
        else:
            action = spec.numpy_sample((), rng)
            expected, found = original.step(action), batch.step(torch.as_tensor(action)[None])
        for field in ("step_type", "reward", "discount", "observation", "prev_action"):
            if not np.array_equal(getattr(expected, field), getattr(found, field)[0].cpu()):
                raise UnusableNativeBatchError(
                    f"its {field} is not that of the installed Gymnasium in step {t}: "
                    f"{getattr(found, field)[0].tolist()} against {getattr(expected, field).tolist()}"
                )


def pick(environment_name: Any, env_load_fn: Callable, native: bool | str, obstacle: str) -> Optional[Plan]:
    """Return the plan of the native batch that is to take the place of Gymnasium's environments, or None.

    What was picked is told on the console, and why a known environment cannot be native.

    Args:
        environment_name: a Gymnasium id.
        env_load_fn: what would make each of the environments.
        native: ``"auto"``: if there is one that equals them; False: never; True: always.
        obstacle: what is asked for beside and a native batch cannot do; empty if there is nothing.
    Raises:
        ValueError: if ``native`` is True and there is none, or if it is something else.
    """
    if native is False:
        return None
    if native is not True and native != "auto":
        raise ValueError(f"create_environment.native: expected 'auto', True or False, got {native!r}.")
    try:
        if obstacle:
            raise NoNativeBatchError(obstacle)
        plan = find_plan(environment_name, env_load_fn)
    except NoNativeBatchError as error:
        if native is True:
            raise ValueError(
                f"create_environment.native=True: there can be no native batch of {environment_name!r}: {error}. "
                "Change that, or set native='auto'."
            ) from None
        if isinstance(environment_name, str) and environment_name in IDS:
            level = logging.WARNING if isinstance(error, UnusableNativeBatchError) else logging.INFO
            _tell_once(level, f"{environment_name} is stepped by Gymnasium and not by a native batch: {error}.")
        return None
    logger.info(
        "%s: native batch, equal to Gymnasium step for step (create_environment.native=False: Gymnasium).",
        environment_name,
    )
    return plan


def _tell_once(level: int, text: str) -> None:
    if text not in _told:
        _told.add(text)
        logger.log(level, text)


@configurable
def load(
    environment_name: str,
    env_id: int | None = None,
    batch_size: int = 1,
    discount: float = 1.0,
    max_episode_steps: int | None = None,
    alf_env_wrappers: Sequence[Callable] = (),
) -> AlfEnvironment:
    """Return a native batch of a classic-control environment.

    ``create_environment`` picks native batches by itself; this is for confs that want nothing else, and for use
    without it.

    Args:
        environment_name: a Gymnasium id, one of ``IDS``.
        env_id: index of the batch where there are several.
        batch_size: number of environments.
        discount: discount of every step that is not a termination.
        max_episode_steps: time limit; None takes that of the registered spec, 0 is none.
        alf_env_wrappers: called with the batched environment.
    Raises:
        ValueError: if there is no such batch, or it does not equal the installed Gymnasium; it says why.
    """
    load_original = functools.partial(suite_gym.load, discount=discount, max_episode_steps=max_episode_steps)
    try:
        plan = find_plan(environment_name, load_original)
    except NoNativeBatchError as error:
        raise ValueError(f"suite_native.load.environment_name: {environment_name!r}: {error}.") from None
    env: AlfEnvironment = plan.make(batch_size, (env_id or 0) * batch_size)
    for wrapper in alf_env_wrappers:
        env = wrapper(env)
    return env


#: Tells create_environment that one call makes a whole batch.
load.batched = True
