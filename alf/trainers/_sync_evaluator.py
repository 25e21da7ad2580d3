"""Evaluation in this process: whole episodes with the policy as it is now."""

import os
from typing import Callable, Dict, List, Optional

import numpy as np
import torch
from absl import logging

from alf import summary
from alf.algorithms.config import TrainerConfig
from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.data_structures import StepType
from alf.environments.alf_environment import AlfEnvironment
from alf.metrics import (
    AverageDiscountedReturnMetric,
    AverageEnvInfoMetric,
    AverageEpisodeLengthMetric,
    AverageReturnMetric,
    EnvironmentSteps,
    NumberOfEpisodes,
    StepMetric,
)
from alf.nest import flatten
from alf.trainers._episodes import run_episodes
from alf.trainers._rng_state import RngState
from alf.utils import common, spec_utils
from alf.utils.summary_utils import record_time


def evaluate(env: AlfEnvironment, algorithm: RLAlgorithm, num_episodes: int,
             give_up: Callable[[], bool] = lambda: False) -> Optional[List[StepMetric]]:
    """Return metrics over ``num_episodes`` episodes of ``predict_step``, or None if it was given up.

    Args:
        env: batched environment with tensors.
        algorithm: acts by ``predict_step``.
        num_episodes: how many.
        give_up: asked before each step.
    """
    example = spec_utils.zeros_from_spec(env.time_step_spec(), env.batch_size)
    example = example._replace(env_info=spec_utils.zeros_from_spec(env.env_info_spec(), env.batch_size))
    averages = [AverageReturnMetric, AverageEpisodeLengthMetric, AverageDiscountedReturnMetric]
    if flatten(example.env_info):
        averages.append(AverageEnvInfoMetric)
    metrics = [average(example_time_step=example, buffer_size=num_episodes) for average in averages]
    metrics += [EnvironmentSteps(), NumberOfEpisodes()]

    def observe(time_step, active):
        # To a metric, a row that is always at FIRST has no steps and no episodes.
        active = torch.as_tensor(active, device=time_step.step_type.device)
        step_type = time_step.step_type.masked_fill(~active, int(StepType.FIRST))
        for metric in metrics:
            metric(time_step._replace(step_type=step_type))

    episodes = run_episodes(env, algorithm, num_episodes, observe, give_up)
    return metrics if len(episodes) == num_episodes else None


def told_results(metrics: List[StepMetric]) -> str:
    """Return the results of :func:`evaluate` in words."""
    results = {metric.name: metric.result() for metric in metrics}
    episode_return = [round(value, 4) for value in results["AverageReturn"].reshape(-1).tolist()]
    return (f"return {episode_return[0] if len(episode_return) == 1 else episode_return}, "
            f"length {float(results['AverageEpisodeLength']):.1f}, {int(results['NumberOfEpisodes'])} episodes")


def score_of(metrics: List[StepMetric], reward_weights: Optional[torch.Tensor]) -> float:
    """Return the mean return that :func:`evaluate` found, of rewards that are vectors the weighted sum of their parts.

    Args:
        metrics: what it returned.
        reward_weights: those of the algorithm; None for scalar rewards.
    """
    result = next(metric for metric in metrics if metric.name == "AverageReturn").result()
    return float((result if reward_weights is None else result * reward_weights.cpu()).sum())


class SyncEvaluator:
    """Evaluates in this process; training waits.

    Args:
        env: batched environment with tensors.
        config: the settings of the run.
        seed: of which each evaluation makes one for the environment, so that it is the same in a run that went on.
            None: that of the config; if there is none, the environment goes on with its own random numbers.
    """

    def __init__(self, env: AlfEnvironment, config: TrainerConfig, seed: Optional[int] = None):
        self._env = env
        self._config = config
        self._seed = config.random_seed if seed is None else seed
        self._scores: List[float] = []
        self._writer = summary.create_summary_writer(
            os.path.join(config.root_dir, "eval"), purge_step=summary.get_global_counter())

    def eval(self, algorithm: RLAlgorithm, step_metric_values: Dict[str, int], *,
             give_up: Callable[[], bool] = lambda: False) -> Optional[List[StepMetric]]:
        """Evaluate, write the results to ``<root_dir>/eval``, and return them; None if it was given up.

        The random numbers that training draws afterwards are as if there had been no evaluation.

        Args:
            algorithm: acts by ``predict_step``.
            step_metric_values: steps to plot against, by name: ``EnvironmentSteps``, ``NumberOfEpisodes``.
            give_up: asked before each step; if true the evaluation ends, and there are no results.
        """
        rng_state = RngState().state_dict()
        if self._seed is not None:
            source = np.random.SeedSequence([self._seed, summary.get_global_counter(), *step_metric_values.values()])
            seed = int(source.generate_state(1)[0] >> 1)
            self._env.seed(seed)
            common.set_random_seed(seed)  # of a policy that samples
        with record_time("time/evaluation"):
            metrics = evaluate(self._env, algorithm, self._config.num_eval_episodes, give_up)
        RngState().load_state_dict(rng_state)
        if metrics is None:
            logging.info("evaluation at step %d: given up", summary.get_global_counter())
            return None
        with summary.push_summary_writer(self._writer), summary.record_if(lambda: True):
            for metric in metrics:
                if not isinstance(metric, (EnvironmentSteps, NumberOfEpisodes)):
                    metric.gen_summaries(train_step=summary.get_global_counter(), other_steps=step_metric_values)
        self._writer.flush()
        self._scores.append(score_of(metrics, algorithm.reward_weights))
        logging.info("evaluation at step %d: %s", summary.get_global_counter(), told_results(metrics))
        return metrics

    def take_scores(self) -> List[float]:
        """Return the mean returns of the evaluations since the last call, in their order."""
        scores, self._scores = self._scores, []
        return scores

    def poll(self) -> None:
        """Do nothing: :meth:`eval` has told everything."""

    def close(self, *, wait: bool = True) -> None:
        """Close environment and files.

        Args:
            wait: not needed here.
        """
        self._env.close()
        self._writer.close()
