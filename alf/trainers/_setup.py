"""Environment and algorithm of a run, for acting without training."""

import contextlib
from typing import Iterator, List, Optional, Tuple

import torch

from alf.algorithms.config import TrainerConfig
from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.config_helpers import close_env, parse_config, use_env
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.utils import create_environment
from alf.trainers.evaluator import create_algorithm
from alf.utils import common


@contextlib.contextmanager
def acting_algorithm(root_dir: str, conf_file: str, conf_params: Optional[List[str]], num_environments: int,
                     random_seed: Optional[int]) -> Iterator[Tuple[AlfEnvironment, RLAlgorithm]]:
    """Context with the environment of a run, made for evaluation, and its algorithm, not yet loaded.

    Args:
        root_dir: directory of the run.
        conf_file: path of the conf.
        conf_params: ``name=expression`` strings that win over the conf.
        num_environments: how many to step in parallel; one is stepped in this process, so that it can be shown.
        random_seed: of policy and environments; None: a new one every time.
    """
    torch.set_num_threads(1)
    try:
        parse_config(conf_file, conf_params, create_env=False)
        seed = common.set_random_seed(random_seed)
        config = TrainerConfig(root_dir=root_dir, conf_file=conf_file, random_seed=seed)
        env = create_environment(
            for_evaluation=True,
            eval_batch_size_per_env=num_environments,
            seed=seed)
        use_env(env)
        yield env, create_algorithm(config, env)
    finally:
        close_env()
