"""What conf files use beside `alf.config`: specs of the environment, which is created when they are first asked for."""

import ast
import contextlib
import json
import math
import os
import shlex
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch

from alf import config_util
from alf.algorithms import config as trainer_config  # noqa: F401  (defines the address TrainerConfig)
from alf.algorithms.data_transformer import create_data_transformer
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.utils import create_environment
from alf.nest import Nest
from alf.utils import common
from alf.utils.per_process_context import PerProcessContext

__all__ = [
    "adjust_config_by_multi_process_divider", "arguments_of_halves", "close_env", "environment_made_by",
    "get_action_spec", "get_data_transformer", "get_env", "get_observation_spec", "get_raw_observation_spec",
    "get_reward_spec", "parse_config", "random_seed", "share_of_process", "use_env", "use_random_seed"
]

_data_transformer = None
_random_seed: Optional[int] = None


def arguments_of_halves() -> Dict[str, int]:
    """Return the arguments of ``create_environment`` that ``TrainerConfig.unroll_halves`` asks for."""
    return {"num_parts": 2} if config_util.get_config_value("TrainerConfig.unroll_halves") else {}


def _create_env() -> None:
    """Create the global environment as configured."""
    arguments = arguments_of_halves()
    if PerProcessContext().num_processes > 1:
        name = "create_environment.num_parallel_environments"
        arguments["num_parallel_environments"] = share_of_process(name, config_util.get_config_value(name))
    use_env(create_environment(seed=common.set_random_seed(random_seed()), **arguments))


common.set_env_factory(_create_env)


def use_env(env: AlfEnvironment) -> None:
    """Make ``env`` the environment of the conf; the data transformers of the trainer are those for it."""
    global _data_transformer
    common.set_global_env(env)
    _data_transformer = None
    common.set_transformed_observation_spec(lambda: get_data_transformer().transformed_observation_spec)


@contextlib.contextmanager
def environment_made_by(make: Callable[[], AlfEnvironment]) -> Iterator[None]:
    """Context in which the environment of the conf is ``make()``, not that of training.

    For evaluation and play, where a conf that asks for specs must not start all environments of the training.
    """
    common.set_env_factory(lambda: use_env(make()))
    try:
        yield
    finally:
        common.set_env_factory(_create_env)


def share_of_process(name: str, number: int) -> int:
    """Return the share of this process in what all that train together have, rounded up; that there is more is told.

    Args:
        name: of the config that says the number.
        number: for all processes.
    """
    num_processes = PerProcessContext().num_processes
    share = math.ceil(number / num_processes)
    if share * num_processes != number and PerProcessContext().ddp_rank == 0:
        common.warning("%s=%d cannot be divided among %d processes: each has %d, which makes %d.", name, number,
                       num_processes, share, share * num_processes)
    return share


def random_seed() -> int:
    """Return ``TrainerConfig.random_seed``; if it is None, a seed drawn once for this run.

    Of processes that train together, each but the first has one of its own, which follows from that.
    """
    seed = config_util.get_config_value("TrainerConfig.random_seed")
    if seed is None:
        if _random_seed is None:
            use_random_seed(drawn_seed())
        seed = _random_seed
    rank = PerProcessContext().ddp_rank
    return seed if rank <= 0 else int(np.random.SeedSequence([seed, rank]).generate_state(1)[0] >> 1)


def drawn_seed() -> int:
    """Return a seed, another one each time."""
    return int.from_bytes(os.urandom(4), "little") & 0x7fffffff


def use_random_seed(seed: int) -> None:
    """Let :func:`random_seed` return ``seed`` where the conf sets none: a run that resumes keeps the one it drew."""
    global _random_seed
    _random_seed = seed


def get_env():
    """Return the environment of the conf; the first call creates it, and what configures it cannot change any more."""
    return common.get_env()


def get_data_transformer():
    """Return the data transformers of the trainer; the first call makes them, and the environment if there is none."""
    global _data_transformer
    env = common.get_env()
    if _data_transformer is None:
        transformer_ctor = config_util.get_config_value("TrainerConfig.data_transformer_ctor")
        _data_transformer = create_data_transformer(transformer_ctor, env.observation_spec())
    return _data_transformer


def close_env() -> None:
    """Close the environment of the conf, if there is one."""
    global _data_transformer, _random_seed
    if common.has_env():
        common.get_env().close()
    common.set_global_env(None)
    _data_transformer = None
    _random_seed = None


def get_raw_observation_spec(field: Optional[str] = None) -> Nest:
    """Return the spec of the observations before data transformers, or of the part at the dotted path ``field``."""
    return common.get_raw_observation_spec(field)


def get_observation_spec(field: Optional[str] = None) -> Nest:
    """Return the spec of the observations after data transformers, or of the part at the dotted path ``field``."""
    return common.get_observation_spec(field)


def get_action_spec() -> Nest:
    """Return the spec of the actions."""
    return common.get_action_spec()


def get_reward_spec() -> Nest:
    """Return the spec of the rewards."""
    return common.get_reward_spec()


def adjust_config_by_multi_process_divider(ddp_rank: int, multi_process_divider: int = 1) -> None:
    """Divide the sizes of a run among processes that train together.

    The number of environments, the mini batch size, the environment steps and the initial steps become their share,
    rounded up; only the first process evaluates.

    Args:
        ddp_rank: number of this process.
        multi_process_divider: number of processes.
    """
    if multi_process_divider <= 1:
        return
    for name in ("create_environment.num_parallel_environments", "TrainerConfig.mini_batch_size",
                 "TrainerConfig.num_env_steps", "TrainerConfig.initial_collect_steps"):
        value = config_util.get_config_value(name)
        if value:
            config_util.config1(name, math.ceil(value / multi_process_divider), raise_if_used=False)
    if ddp_rank > 0:
        config_util.config1("TrainerConfig.evaluate", False, raise_if_used=False)


def parse_conf_param(conf_param: str) -> Tuple[str, Any, str]:
    """Return name, value and expression of ``name=expression``.

    Raises:
        ValueError: if it has no ``=`` or the expression cannot be evaluated.
    """
    name, equals, expression = conf_param.partition("=")
    name, expression = name.strip(), expression.strip()
    if not equals or not name:
        raise ValueError(f"--conf_param: expected 'name=value', got {conf_param!r}.")
    try:
        return name, ast.literal_eval(expression), expression
    except (ValueError, SyntaxError):
        pass
    try:
        return name, eval(expression, {"alf": sys.modules["alf"], "torch": torch, "math": math}), expression
    except Exception as error:
        raise ValueError(f"--conf_param: the value of {name} is not a Python expression: {expression!r} "
                         f"({type(error).__name__}: {error}). If it is a string, quote it: "
                         f"--conf_param {_quoted(name, expression)}") from error


def _quoted(name: str, text: str) -> str:
    """Return how a shell must be told to set a config to a string."""
    return shlex.quote(f"{name}={json.dumps(text, ensure_ascii=False)}")


def parse_config(conf_file: str, conf_params: Optional[List[str]]) -> None:
    """Load a conf, with values that win over those in the file, and create its environment.

    Args:
        conf_file: path of the conf.
        conf_params: ``name=value`` strings; a value is a Python expression that may use ``alf``, ``torch``, ``math``.
    Raises:
        ValueError: if a name does not exist or a value is not an expression.
    """
    parsed = [parse_conf_param(param) for param in conf_params or ()]
    config_util.pre_config({name: value for name, value, _ in parsed},
                           origin="--conf_param",
                           sources={name: source for name, _, source in parsed})
    config_util.load_config(conf_file)
    config_util.validate_pre_configs()
    get_env()
