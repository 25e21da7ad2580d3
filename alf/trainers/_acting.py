"""Environment and algorithm of a run, for acting without training."""

import contextlib
import warnings
from typing import Iterator, List, NamedTuple, Optional

import torch

from alf.algorithms.config import TrainerConfig
from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.config_helpers import (
    arguments_of_halves,
    close_env,
    environment_made_by,
    get_data_transformer,
    get_env,
    parse_config,
)
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.utils import create_environment
from alf.utils import common


class Acting(NamedTuple):
    """What is needed to act as a conf says."""
    config: TrainerConfig
    env: AlfEnvironment  # made for evaluation, unless those of the training were asked for
    algorithm: RLAlgorithm  # its parameters are not loaded


@contextlib.contextmanager
def acting(root_dir: str, conf_file: str, conf_params: Optional[List[str]],
           num_environments: Optional[int], random_seed: Optional[int]) -> Iterator[Acting]:
    """Context with the environment of a run, by default made for evaluation, and its algorithm, not yet loaded.

    Args:
        root_dir: directory of the run.
        conf_file: path of the conf.
        conf_params: ``name=expression`` strings that win over the conf.
        num_environments: how many to step in parallel; one is stepped in this process, so that it can be shown. None:
            those of the training.
        random_seed: of policy and environments; None: a new one every time.
    """
    torch.set_num_threads(1)
    seed = common.set_random_seed(random_seed)

    def make_env() -> AlfEnvironment:
        if num_environments is None:
            return create_environment(seed=seed, **arguments_of_halves())
        return create_environment(for_evaluation=True, eval_batch_size_per_env=num_environments, seed=seed)

    try:
        with environment_made_by(make_env), warnings.catch_warnings():
            # That the command line of the training won over its conf was told there.
            warnings.filterwarnings("ignore", message=".* for good by ")
            parse_config(conf_file, conf_params)
        config = TrainerConfig(root_dir=root_dir, conf_file=conf_file, random_seed=seed)
        yield Acting(config, get_env(), _create_algorithm(config, get_env()))
    finally:
        close_env()


def _create_algorithm(config: TrainerConfig, env: AlfEnvironment) -> RLAlgorithm:
    algorithm = config.algorithm_ctor(
        observation_spec=get_data_transformer().transformed_observation_spec,
        action_spec=env.action_spec(),
        reward_spec=env.reward_spec(),
        env=None,
        config=config)
    algorithm._data_transformer = get_data_transformer()
    return algorithm
