"""Evaluation: whole episodes with the policy as it is now, in this process or, while training goes on, in another."""

import multiprocessing
import os
from multiprocessing import connection as mp_connection
from typing import Callable, Dict, List

import cloudpickle
import torch
from absl import logging

from alf import config_util, progress, summary
from alf.algorithms.config import TrainerConfig
from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.utils import create_environment
from alf.trainers import _eval_process
from alf.trainers._sync_evaluator import SyncEvaluator, evaluate, told_results  # noqa: F401  (public here)

_SEED_OFFSET = 13579  # the environments of evaluation are not those of training
_POLL_SECONDS = 0.5
_CLOSE_SECONDS = 10.0


def create_sync_evaluator(config: TrainerConfig) -> SyncEvaluator:
    """Return what evaluates in this process, with an environment of its own."""
    return SyncEvaluator(create_eval_environment(config), config, config.random_seed + _SEED_OFFSET)


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
        self._scores: List[float] = []

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
            self._connection.send(_eval_process.Job(state, summary.get_global_counter(), step_metric_values,
                                                    progress.get_all_progresses()))
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
        self._scores.append(answer.score)
        self._evaluated_counter = None

    def take_scores(self) -> List[float]:
        """Return the mean returns of the evaluations that have ended since the last call, in their order."""
        scores, self._scores = self._scores, []
        return scores

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
