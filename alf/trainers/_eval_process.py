"""Body of the process that evaluates while training goes on."""

import logging
import os
import signal
import traceback
from multiprocessing.connection import Connection
from typing import Dict, NamedTuple

import numpy as np

from alf.trainers._signals import die_with_parent


class Setup(NamedTuple):
    """What the process is started with; it loads the conf again."""
    conf_file: str
    root_dir: str
    random_seed: int
    num_environments: int
    pre_configs: bytes  # {name: value}, by cloudpickle, for they may be functions of the conf
    parent_pid: int
    global_counter: int  # results after this one are of an earlier start that was not saved


class Job(NamedTuple):
    """One evaluation."""
    state: Dict[str, np.ndarray]  # parameters and buffers
    global_counter: int
    step_metric_values: Dict[str, int]
    progresses: Dict[str, float]  # of training, which schedules read


class Answer(NamedTuple):
    """How an evaluation ended."""
    told: str = ""  # the results in words
    score: float = float("nan")  # mean return, the sum of its parts
    failure: str = ""  # the traceback


def run(setup: Setup, connection: Connection) -> None:
    """Answer each :class:`Job` from ``connection`` with an :class:`Answer`, until None comes or the other side is gone.

    Args:
        setup: what to evaluate.
        connection: to the trainer.
    """
    live_with_parent(setup.parent_pid)
    log_to(os.path.join(setup.root_dir, "eval", "eval.log"))
    try:
        _evaluate_jobs(setup, connection)
    except EOFError:
        pass  # the trainer is gone
    except BaseException:
        connection.send(Answer(failure=traceback.format_exc()))
        raise


def log_to(path: str) -> None:
    """Append all that this process prints or logs to a file: its output would tear the trainer's table apart."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    logging.captureWarnings(True)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(filename)s:%(lineno)d %(message)s", level=logging.INFO)


def live_with_parent(parent_pid: int) -> None:
    """Die with the trainer, and leave it to the trainer what Ctrl-C of the terminal means."""
    die_with_parent(parent_pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _evaluate_jobs(setup: Setup, connection: Connection) -> None:
    import cloudpickle
    import torch

    from alf import config_util, progress, summary
    from alf.trainers._acting import acting
    from alf.trainers._sync_evaluator import SyncEvaluator, score_of, told_results

    summary.set_global_counter(setup.global_counter)
    config_util.pre_config(cloudpickle.loads(setup.pre_configs))
    with acting(setup.root_dir, setup.conf_file, None, setup.num_environments, setup.random_seed) as made:
        evaluator = SyncEvaluator(made.env, made.config, setup.random_seed)
        while (job := connection.recv()) is not None:
            # Not the algorithm's own `load_state_dict`, which expects optimizers.
            torch.nn.Module.load_state_dict(made.algorithm, {name: torch.as_tensor(v) for name, v in job.state.items()})
            summary.set_global_counter(job.global_counter)
            progress.update_all_progresses(job.progresses)
            metrics = evaluator.eval(made.algorithm, job.step_metric_values)
            connection.send(Answer(told=told_results(metrics), score=score_of(metrics, made.algorithm.reward_weights)))
        evaluator.close()
