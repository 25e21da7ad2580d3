"""The process that unrolls while training goes on: how it is started, and its body."""

import logging
import multiprocessing
import os
from typing import NamedTuple

import cloudpickle

from alf import config_util
from alf.algorithms.async_unroller import UnrollSide, run_unroll, told_failure
from alf.algorithms.config import TrainerConfig
from alf.trainers._eval_process import live_with_parent, log_to


class _Setup(NamedTuple):
    """What the process is started with; it loads the conf again."""
    conf_file: str
    root_dir: str
    random_seed: int
    pre_configs: bytes  # {name: value}, by cloudpickle, for they may be functions of the conf
    parent_pid: int


def start(config: TrainerConfig, env_seed: int, side: UnrollSide) -> multiprocessing.Process:
    """Return the process, started.

    Args:
        config: the settings of the run.
        env_seed: of its environments and its policy.
        side: what it needs of the trainer.
    """
    setup = _Setup(
        conf_file=config.conf_file,
        root_dir=config.root_dir,
        random_seed=env_seed,
        pre_configs=cloudpickle.dumps(dict(config_util.get_handled_pre_configs())),
        parent_pid=os.getpid())
    # Not a daemon: it has children of its own, the environments. It dies with the trainer.
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(setup, side), name="alf-unroller")
    process.start()
    return process


def _run(setup: _Setup, side: UnrollSide) -> None:
    live_with_parent(setup.parent_pid)
    log_to(os.path.join(setup.root_dir, "unroll", "unroll.log"))
    try:
        _unroll(setup, side)
    except (EOFError, BrokenPipeError):
        logging.info("the trainer is gone")
    except BaseException:
        side.connection.send(told_failure())
        raise


def _unroll(setup: _Setup, side: UnrollSide) -> None:
    from alf.trainers._acting import acting

    config_util.pre_config(cloudpickle.loads(setup.pre_configs))
    with acting(setup.root_dir, setup.conf_file, None, None, setup.random_seed) as made:
        made.env.seed(setup.random_seed)
        run_unroll(side, made.algorithm, made.env)
