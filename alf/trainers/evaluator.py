"""Evaluation: whole episodes with the policy as it is now, in this process or, while training goes on, in another."""

import multiprocessing
import os
import traceback
from typing import Any, Dict, List, NamedTuple

import numpy as np
import torch
from absl import logging

from alf import config_util, summary
from alf.algorithms.config import TrainerConfig
from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.config_helpers import get_data_transformer, parse_config, use_env
from alf.data_structures import StepType
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.utils import create_environment
from alf.metrics import (AverageEpisodeLengthMetric, AverageReturnMetric, EnvironmentSteps, NumberOfEpisodes,
                         StepMetric)
from alf.utils import common, spec_utils
from alf.utils.summary_utils import record_time

_FIRST, _LAST = int(StepType.FIRST), int(StepType.LAST)


class Episode(NamedTuple):
    """Result of one episode."""
    env_id: int
    length: int  # environment steps
    episode_return: Any  # float, or a list of floats for a vector reward


class EpisodeCounter:
    """Counts episodes so that short ones are not preferred: each environment contributes the same number, give or take one.

    Args:
        num_envs: number of environments.
        num_episodes: number of episodes to count.
    """

    def __init__(self, num_envs: int, num_episodes: int):
        self._quotas = np.full(num_envs, num_episodes // num_envs)
        self._quotas[:num_episodes % num_envs] += 1
        self._returns: Any = 0.0
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self.episodes: List[Episode] = []

    @property
    def done(self) -> bool:
        """Whether all episodes have ended."""
        return not self._quotas.any()

    def count(self, step_type: np.ndarray, reward: np.ndarray) -> np.ndarray:
        """Take in one step of all environments and return which of them count, bool ``[B]``.

        Args:
            step_type: ``[B]``.
            reward: ``[B]`` or ``[B, R]``.
        """
        active = self._quotas > 0
        first = step_type == _FIRST
        keep = (~first).reshape(-1, *(1, ) * (reward.ndim - 1))
        # The reward at FIRST belongs to no action.
        self._returns = (self._returns + reward.astype(np.float64)) * keep
        self._lengths = (self._lengths + 1) * ~first
        for i in np.flatnonzero(active & (step_type == _LAST)):
            self.episodes.append(Episode(int(i), int(self._lengths[i]), self._returns[i].tolist()))
            self._quotas[i] -= 1
        return active


@torch.no_grad()
def run_episodes(env: AlfEnvironment, algorithm: RLAlgorithm, num_episodes: int, observe=None) -> List[Episode]:
    """Return the results of ``num_episodes`` episodes of ``predict_step``, from their beginnings.

    Args:
        env: batched environment with tensors.
        algorithm: acts by ``predict_step``.
        num_episodes: how many.
        observe: called with each time step ``[B, ...]`` and which of its rows count, bool ``[B]``.
    """
    counter = EpisodeCounter(env.batch_size, num_episodes)
    zero_state = algorithm.get_initial_predict_state(env.batch_size)
    state, transform_state = zero_state, algorithm.get_initial_transform_state(env.batch_size)
    training = algorithm.training
    algorithm.eval()
    with common.eval_context():
        time_step = env.reset()
        while True:
            active = counter.count(time_step.step_type.numpy(), time_step.reward.numpy())
            if observe is not None:
                observe(time_step, active)
            if counter.done:
                break
            inputs, transform_state = algorithm.transform_timestep(time_step, transform_state)
            state = common.reset_state_if_necessary(state, zero_state, time_step.is_first())
            step = algorithm.predict_step(inputs, state)
            state = step.state
            time_step = env.step(step.output)
    algorithm.train(training)
    return counter.episodes


def evaluate(env: AlfEnvironment, algorithm: RLAlgorithm, num_episodes: int) -> List[StepMetric]:
    """Return metrics over ``num_episodes`` episodes of ``predict_step``.

    Args:
        env: batched environment with tensors.
        algorithm: acts by ``predict_step``.
        num_episodes: how many.
    """
    example = spec_utils.zeros_from_spec(env.time_step_spec(), env.batch_size)
    metrics = [
        AverageReturnMetric(example_time_step=example, buffer_size=num_episodes),
        AverageEpisodeLengthMetric(example_time_step=example, buffer_size=num_episodes),
        EnvironmentSteps(),
        NumberOfEpisodes(),
    ]

    def observe(time_step, active):
        # To a metric, a row that is always at FIRST has no steps and no episodes.
        step_type = torch.where(torch.as_tensor(active), time_step.step_type, torch.full_like(time_step.step_type, _FIRST))
        for metric in metrics:
            metric(time_step._replace(step_type=step_type))

    run_episodes(env, algorithm, num_episodes, observe)
    return metrics


def _summarize(metrics: List[StepMetric], step: int, step_metric_values: Dict[str, int], writer) -> None:
    with summary.push_summary_writer(writer), summary.record_if(lambda: True):
        for metric in metrics[:2]:
            metric.gen_summaries(train_step=step, other_steps=step_metric_values)
    common.log_metrics(metrics, prefix="evaluation")


class SyncEvaluator:
    """Evaluates in this process; training waits.

    Args:
        env: batched environment with tensors.
        config: the settings of the run.
    """

    def __init__(self, env: AlfEnvironment, config: TrainerConfig):
        self._env = env
        self._config = config
        self._writer = summary.create_summary_writer(os.path.join(config.root_dir, "eval"))

    def eval(self, algorithm: RLAlgorithm, step_metric_values: Dict[str, int]) -> List[StepMetric]:
        """Evaluate, write the results to ``<root_dir>/eval``, and return them.

        Args:
            algorithm: acts by ``predict_step``.
            step_metric_values: steps to plot against, by name: ``EnvironmentSteps``, ``NumberOfEpisodes``.
        """
        with record_time("time/evaluation"):
            metrics = evaluate(self._env, algorithm, self._config.num_eval_episodes)
        _summarize(metrics, summary.get_global_counter(), step_metric_values, self._writer)
        return metrics

    def close(self) -> None:
        """Close environment and files."""
        self._env.close()
        self._writer.close()


def create_eval_environment(config: TrainerConfig) -> AlfEnvironment:
    """Return the environment of the conf, made for evaluation, with ``num_eval_environments`` in parallel."""
    return create_environment(
        for_evaluation=True,
        eval_batch_size_per_env=config.num_eval_environments,
        seed=None if config.random_seed is None else config.random_seed + 13579)


class _Job(NamedTuple):
    state: Dict[str, Any]  # parameters and buffers, NumPy arrays
    global_counter: int
    step_metric_values: Dict[str, int]


def create_algorithm(config: TrainerConfig, env: AlfEnvironment) -> RLAlgorithm:
    """Return the algorithm of the conf for acting in ``env`` without training."""
    algorithm = config.algorithm_ctor(
        observation_spec=get_data_transformer().transformed_observation_spec,
        action_spec=env.action_spec(),
        reward_spec=env.reward_spec(),
        env=None,
        config=config)
    algorithm._data_transformer = get_data_transformer()
    return algorithm


def _eval_process(conf_file: str, pre_configs: Dict[str, Any], root_dir: str, seed: int, jobs, results) -> None:
    """Body of the evaluation process: load the conf again, then evaluate whatever parameters arrive."""
    try:
        torch.set_num_threads(1)
        config_util.pre_config(pre_configs)
        parse_config(conf_file, [], create_env=False)
        config = TrainerConfig(root_dir=root_dir, conf_file=conf_file, random_seed=seed)
        env = create_eval_environment(config)
        use_env(env)
        algorithm = create_algorithm(config, env)
        evaluator = SyncEvaluator(env, config)
        while True:
            job = jobs.get()
            if job is None:
                break
            torch.nn.Module.load_state_dict(
                algorithm, {name: torch.as_tensor(value) for name, value in job.state.items()})
            summary.set_global_counter(job.global_counter)
            evaluator.eval(algorithm, job.step_metric_values)
            results.put(None)
        evaluator.close()
        results.put(None)
    except BaseException:
        results.put(traceback.format_exc())
        raise


class Evaluator:
    """Evaluates in a process of its own while training goes on; a new evaluation waits for the one before.

    Args:
        config: the settings of the run.
        conf_file: path of the conf, which the process loads again.
    """

    def __init__(self, config: TrainerConfig, conf_file: str):
        context = multiprocessing.get_context("spawn")
        self._jobs, self._results = context.Queue(), context.Queue()
        self._running = False
        pre_configs = dict(config_util.get_handled_pre_configs())
        self._process = context.Process(
            target=_eval_process,
            args=(conf_file, pre_configs, config.root_dir, config.random_seed, self._jobs, self._results),
            name="alf-evaluator",
            daemon=False)
        self._process.start()

    def _wait(self) -> None:
        if not self._running:
            return
        while True:
            try:
                failure = self._results.get(timeout=1.0)
                break
            except Exception:
                if not self._process.is_alive():
                    raise RuntimeError(f"The evaluation process died with exit code {self._process.exitcode}.") from None
        self._running = False
        if failure is not None:
            raise RuntimeError(f"The evaluation process failed:\n{failure}")

    def eval(self, algorithm: RLAlgorithm, step_metric_values: Dict[str, int]) -> None:
        """Send the parameters of ``algorithm`` to be evaluated; the results go to ``<root_dir>/eval``.

        Args:
            algorithm: as in training.
            step_metric_values: steps to plot against, by name.
        Raises:
            RuntimeError: if the evaluation before failed, with its traceback.
        """
        self._wait()
        state = {name: value.detach().cpu().numpy().copy()
                 for name, value in torch.nn.Module.state_dict(algorithm).items() if isinstance(value, torch.Tensor)}
        self._jobs.put(_Job(state, summary.get_global_counter(), step_metric_values))
        self._running = True

    def close(self) -> None:
        """Wait for the evaluation that runs, then end the process."""
        if self._process is None:
            return
        try:
            self._wait()
            self._jobs.put(None)
            self._process.join(timeout=30)
        finally:
            if self._process.is_alive():
                logging.warning("The evaluation process does not end; it is terminated.")
                self._process.terminate()
                self._process.join(timeout=5)
            self._process = None


