"""Evaluation: whole episodes with the policy as it is now, in this process or, while training goes on, in another."""

import multiprocessing
import os
from multiprocessing import connection as mp_connection
from typing import Callable, Dict, List

import cloudpickle
import torch
from absl import logging

from alf import config_util, summary
from alf.algorithms.config import TrainerConfig
from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.data_structures import StepType
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.utils import create_environment
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
from alf.trainers import _eval_process
from alf.trainers._episodes import run_episodes
from alf.trainers._rng_state import RngState
from alf.utils import spec_utils
from alf.utils.summary_utils import record_time

_SEED_OFFSET = 13579  # the environments of evaluation are not those of training
_POLL_SECONDS = 0.5
_CLOSE_SECONDS = 10.0


def evaluate(env: AlfEnvironment, algorithm: RLAlgorithm, num_episodes: int) -> List[StepMetric]:
    """Return metrics over ``num_episodes`` episodes of ``predict_step``.

    Args:
        env: batched environment with tensors.
        algorithm: acts by ``predict_step``.
        num_episodes: how many.
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

    run_episodes(env, algorithm, num_episodes, observe)
    return metrics


def told_results(metrics: List[StepMetric]) -> str:
    """Return the results of :func:`evaluate` in words."""
    results = {metric.name: metric.result() for metric in metrics}
    episode_return = [round(value, 4) for value in results["AverageReturn"].reshape(-1).tolist()]
    return (f"return {episode_return[0] if len(episode_return) == 1 else episode_return}, "
            f"length {float(results['AverageEpisodeLength']):.1f}, {int(results['NumberOfEpisodes'])} episodes")


class SyncEvaluator:
    """Evaluates in this process; training waits.

    Args:
        env: batched environment with tensors.
        config: the settings of the run.
    """

    def __init__(self, env: AlfEnvironment, config: TrainerConfig):
        self._env = env
        self._config = config
        self._writer = summary.create_summary_writer(
            os.path.join(config.root_dir, "eval"), purge_step=summary.get_global_counter())

    def eval(self, algorithm: RLAlgorithm, step_metric_values: Dict[str, int], *,
             give_up: Callable[[], bool] = lambda: False) -> List[StepMetric]:
        """Evaluate, write the results to ``<root_dir>/eval``, and return them.

        The random numbers that training draws afterwards are as if there had been no evaluation.

        Args:
            algorithm: acts by ``predict_step``.
            step_metric_values: steps to plot against, by name: ``EnvironmentSteps``, ``NumberOfEpisodes``.
            give_up: not needed here: an evaluation begins at once.
        """
        rng_state = RngState().state_dict()
        with record_time("time/evaluation"):
            metrics = evaluate(self._env, algorithm, self._config.num_eval_episodes)
        RngState().load_state_dict(rng_state)
        with summary.push_summary_writer(self._writer), summary.record_if(lambda: True):
            for metric in metrics:
                if not isinstance(metric, (EnvironmentSteps, NumberOfEpisodes)):
                    metric.gen_summaries(train_step=summary.get_global_counter(), other_steps=step_metric_values)
        self._writer.flush()
        logging.info("evaluation at step %d: %s", summary.get_global_counter(), told_results(metrics))
        return metrics

    def poll(self) -> None:
        """Do nothing: :meth:`eval` has told everything."""

    def close(self, *, wait: bool = True) -> None:
        """Close environment and files.

        Args:
            wait: not needed here.
        """
        self._env.close()
        self._writer.close()


def create_eval_environment(config: TrainerConfig) -> AlfEnvironment:
    """Return the environment of the conf, made for evaluation, with ``num_eval_environments`` in parallel."""
    return create_environment(
        for_evaluation=True,
        eval_batch_size_per_env=config.num_eval_environments,
        seed=None if config.random_seed is None else config.random_seed + _SEED_OFFSET)


class Evaluator:
    """Evaluates in a process of its own while training goes on; a new evaluation waits for the one before.

    Args:
        config: the settings of the run.
        conf_file: path of the conf, which the process loads again.
    """

    def __init__(self, config: TrainerConfig, conf_file: str):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        setup = _eval_process.Setup(
            conf_file=conf_file,
            root_dir=config.root_dir,
            random_seed=config.random_seed + _SEED_OFFSET,
            num_environments=config.num_eval_environments,
            pre_configs=cloudpickle.dumps(dict(config_util.get_handled_pre_configs())),
            parent_pid=os.getpid(),
            global_counter=summary.get_global_counter())
        self._process = context.Process(target=_eval_process.run, args=(setup, theirs), name="alf-evaluator")
        self._process.start()
        theirs.close()
        self._evaluated_counter = None  # of the evaluation that runs

    def eval(self, algorithm: RLAlgorithm, step_metric_values: Dict[str, int], *,
             give_up: Callable[[], bool] = lambda: False) -> None:
        """Send the parameters of ``algorithm`` to be evaluated; the results go to ``<root_dir>/eval``.

        Args:
            algorithm: as in training.
            step_metric_values: steps to plot against, by name.
            give_up: asked while waiting for the evaluation before; if true there is no new one.
        Raises:
            RuntimeError: if the evaluation before failed, with its traceback.
        """
        if not self._wait(give_up):
            return
        state = {name: value.detach().cpu().numpy()
                 for name, value in torch.nn.Module.state_dict(algorithm).items() if isinstance(value, torch.Tensor)}
        try:
            self._connection.send(_eval_process.Job(state, summary.get_global_counter(), step_metric_values))
        except OSError:
            self._take_answer()  # why it is gone
        self._evaluated_counter = summary.get_global_counter()

    def poll(self) -> None:
        """Tell the results of the evaluation that runs, if it has ended.

        Raises:
            RuntimeError: if it failed, with its traceback.
        """
        if self._connection.poll():
            self._take_answer()

    def _wait(self, give_up: Callable[[], bool]) -> bool:
        """Wait for the evaluation that runs; return False if ``give_up()`` became true first."""
        while self._evaluated_counter is not None:
            if give_up():
                return False
            if mp_connection.wait([self._connection, self._process.sentinel], _POLL_SECONDS):
                self._take_answer()
        return True

    def _take_answer(self) -> None:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_CLOSE_SECONDS)
            raise RuntimeError(f"The evaluation process died with exit code {self._process.exitcode} (negative: the "
                               "signal that killed it). See eval/eval.log of the run.") from None
        if answer.failure:
            raise RuntimeError(f"The evaluation process failed:\n{answer.failure}")
        logging.info("evaluation at step %d: %s", self._evaluated_counter, answer.told)
        self._evaluated_counter = None

    def close(self, *, wait: bool = True) -> None:
        """End the process.

        Args:
            wait: for the evaluation that runs; otherwise its results are lost.
        Raises:
            RuntimeError: if that evaluation failed, with its traceback.
        """
        try:
            if wait:
                self._wait(give_up=lambda: False)
                self.poll()  # a failure before the first evaluation
                self._connection.send(None)
                self._process.join(_CLOSE_SECONDS)
        finally:
            self._process.kill()  # it ignores the gentler signals
            self._process.join()
            self._connection.close()
