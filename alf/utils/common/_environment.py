"""The environment of the conf, which is created when a conf first asks for its specs."""

import math
from typing import Callable, Optional, Union

from alf.config_util import configurable
from alf.nest import Nest, get_field
from alf.utils.per_process_context import PerProcessContext

_env = None
_env_factory = None
_transformed_observation_spec = None


def set_global_env(env) -> None:
    """Make ``env`` the environment whose specs :func:`get_observation_spec` and the like report; None forgets it."""
    global _env, _transformed_observation_spec
    _env = env
    _transformed_observation_spec = None


def set_env_factory(factory: Optional[Callable]) -> None:
    """Let :func:`get_env` create the environment by ``factory()`` when there is none yet."""
    global _env_factory
    _env_factory = factory


def has_env() -> bool:
    """Return whether the global environment exists already."""
    return _env is not None


def get_env():
    """Return the global environment; the first call creates it.

    Raises:
        RuntimeError: if there is none and nobody said how to create it.
    """
    if _env is None:
        if _env_factory is None:
            raise RuntimeError("get_env: there is no environment yet. Call alf.get_env() from a conf file, or "
                               "alf.utils.common.set_global_env(env) in a program of your own.")
        _env_factory()
    return _env


def set_transformed_observation_spec(spec: Union[Nest, Callable[[], Nest]]) -> None:
    """Tell what the observations look like after the data transformers of the trainer.

    Args:
        spec: nest of specs, or a function that returns it, called when it is first asked for.
    """
    global _transformed_observation_spec
    _transformed_observation_spec = spec


@configurable
def get_raw_observation_spec(field: Optional[str] = None) -> Nest:
    """Return the spec of the observations of the global environment, or of the part at the dotted path ``field``."""
    spec = get_env().observation_spec()
    return spec if field is None else get_field(spec, field)


@configurable
def get_observation_spec(field: Optional[str] = None) -> Nest:
    """Return the spec of the observations after data transformers, or of the part at the dotted path ``field``."""
    global _transformed_observation_spec
    env = get_env()  # first: creating it sets the transformed spec
    if callable(_transformed_observation_spec):
        _transformed_observation_spec = _transformed_observation_spec()
    spec = env.observation_spec() if _transformed_observation_spec is None else _transformed_observation_spec
    return spec if field is None else get_field(spec, field)


@configurable
def get_action_spec() -> Nest:
    """Return the spec of the actions of the global environment."""
    return get_env().action_spec()


@configurable
def get_reward_spec() -> Nest:
    """Return the spec of the rewards of the global environment."""
    return get_env().reward_spec()


@configurable
def active_action_target_entropy(active_action_portion: float = 0.2, min_entropy: float = 0.3) -> float:
    """Return the entropy of a uniform choice among a fraction of the discrete actions of the environment.

    Args:
        active_action_portion: the fraction, above 0 and at most 1.
        min_entropy: the least that is returned.
    Raises:
        ValueError: if the fraction is out of range or the action is not one discrete number.
    """
    if not 0 < active_action_portion <= 1:
        raise ValueError("active_action_target_entropy.active_action_portion: expected above 0 and at most 1, got "
                         f"{active_action_portion}.")
    spec = get_action_spec()
    if not getattr(spec, "is_discrete", False) or spec.numel != 1:
        raise ValueError(f"active_action_target_entropy: expected one discrete action, got {spec}.")
    num_actions = int(spec.maximum) - int(spec.minimum) + 1
    return max(math.log(num_actions * active_action_portion), min_entropy)


def get_initial_time_step(env, first_env_id: int = 0):
    """Return the current time step of ``env``, its environments numbered from ``first_env_id``."""
    time_step = env.current_time_step()
    return time_step if first_env_id == 0 else time_step._replace(env_id=time_step.env_id + first_env_id)


def compute_summary_or_eval_interval(config, summary_or_eval_calls: int = 100) -> int:
    """Return after how many iterations to act so as to act ``summary_or_eval_calls`` times in all.

    Args:
        config: the TrainerConfig; ``num_iterations`` decides, or else ``num_env_steps``.
        summary_or_eval_calls: how often.
    """
    if config.num_iterations > 0:
        num_iterations = config.num_iterations
    else:
        if config.unroll_length == 0:
            raise ValueError("TrainerConfig.num_evals and num_summaries: expected None with unroll_length=0, unless "
                             "num_iterations is set, got a number. Set eval_interval and summary_interval.")
        num_envs = get_env().batch_size * PerProcessContext().num_processes
        num_iterations = config.num_env_steps / (num_envs * config.unroll_length)
    return max(1, int(num_iterations / summary_or_eval_calls))
