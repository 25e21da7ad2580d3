"""Acting in a process of its own, while this one trains."""

import multiprocessing
import os
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import torch
from absl import logging

from alf import progress, summary
from alf.algorithms._training.shared_rows import SharedParameters, StepQueue
from alf.algorithms._training.unroll import Unroll
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.config import TrainerConfig
from alf.data_structures import Experience, TimeStep
from alf.nest import Nest, map_structure
from alf.nest.utils import convert_device
from alf.utils import common, profiling

_POLL_SECONDS = 0.2
_CLOSE_SECONDS = 30.0


class UnrollResult(NamedTuple):
    """Steps that were made in the other process."""
    experience: Experience  # [T, B, ...]; raw time steps, distributions as parameters
    inputs: TimeStep  # [T, B, ...]; after the data transformers
    rollout_info_spec: Nest  # from which the distributions of rollout_info are rebuilt
    version: torch.Tensor  # int64 [T]: of the parameters that acted


class _Started(NamedTuple):
    """What the unroll process tells when it has made its first step."""
    queue_rows: Any  # SharedRows
    rollout_info_spec: Nest
    is_transformed: bool  # whether inputs differ from the raw time steps


class UnrollSide(NamedTuple):
    """What the unroll process needs of the trainer; handed over when it starts."""
    connection: Connection
    queue: StepQueue
    parameters: SharedParameters
    stop: torch.Tensor  # bool, in shared memory
    progress: torch.Tensor  # float64 in shared memory: percent, iterations, env_steps, global_counter
    keep_state: bool
    overwrite_policy_output: bool
    step_interval_seconds: float


_PROGRESS_TYPES = ("percent", "iterations", "env_steps", "global_counter")


def run_unroll(side: UnrollSide, algorithm: Algorithm, env) -> None:
    """Act until told to stop. Body of the unroll process.

    Args:
        side: as the trainer made it.
        algorithm: the root algorithm, made in this process.
        env: the training environment, made in this process.
    """
    unroll = Unroll(algorithm, env, side.keep_state, side.overwrite_policy_output)
    if algorithm._data_transformer is not None:
        algorithm._data_transformer.freeze_statistics()  # the trainer updates them, and hands them over
    algorithm.eval()
    next_step_at = time.monotonic()
    with torch.no_grad(), common.rollout_context():
        while not side.stop:
            version = side.parameters.refresh(algorithm)
            progress.update_all_progresses(dict(zip(_PROGRESS_TYPES, side.progress.tolist(), strict=True)))
            experience, inputs, info_spec = unroll.run(1, with_last_step=False)
            is_transformed = inputs is not experience.time_step
            step = (experience, inputs if is_transformed else (), torch.tensor([version]))
            step = map_structure(lambda leaf: leaf[0], step)
            sender = _FirstStep(side.connection, info_spec, is_transformed)
            while not side.queue.put(step, sender, _POLL_SECONDS):
                if side.stop:
                    return
            next_step_at = max(next_step_at + side.step_interval_seconds, time.monotonic())
            if side.step_interval_seconds:
                time.sleep(max(0.0, next_step_at - time.monotonic()))


class _FirstStep(NamedTuple):
    """Sends the memory of the queue together with what is known after the first step."""
    connection: Connection
    rollout_info_spec: Nest
    is_transformed: bool

    def send(self, rows: Any) -> None:
        self.connection.send(_Started(rows, self.rollout_info_spec, self.is_transformed))


class AsyncUnroller:
    """Stands for the process that acts: starts it, takes its experience, gives it new parameters.

    It has the method ``run`` of the unroll in this process, so that training does not know the difference. The other
    process waits when ``unroll_queue_size`` steps have not been taken; this one waits when there are too few.

    Statistics of data transformers that follow the rollout are updated here, from each step that is taken: what trains
    and is saved has them, and what acts gets them with the parameters.

    Args:
        algorithm: the root algorithm, as it is trained.
        config: the settings of the run.
        start: starts the process: called with an :class:`UnrollSide`, returns a multiprocessing.Process. The trainer
            knows how; it puts it into ``config.start_unroll_process``.
    """

    def __init__(self, algorithm: Algorithm, config: TrainerConfig, start: Optional[Callable] = None,
                 keep_state: bool = False, overwrite_policy_output: bool = False):
        start = start or getattr(config, "start_unroll_process", None)
        if start is None:
            raise RuntimeError("TrainerConfig.async_unroll=True: only a trainer can start the process that unrolls. "
                               "Run it with `python -m alf.bin.train`.")
        self._algorithm = algorithm
        self._transform_state: Optional[Nest] = None  # None: no step was taken yet
        self._config = config
        self._connection, theirs = multiprocessing.Pipe()
        self._queue = StepQueue(config.unroll_queue_size)
        self._parameters = SharedParameters(algorithm)
        self._stop = torch.zeros((), dtype=torch.bool, device="cpu").share_memory_()
        self._progress = torch.zeros(len(_PROGRESS_TYPES), dtype=torch.float64, device="cpu").share_memory_()
        self._started: Optional[_Started] = None
        self._iterations_since_update = 0
        self._tell_progress()
        self._process = start(UnrollSide(
            theirs, self._queue, self._parameters, self._stop, self._progress, keep_state, overwrite_policy_output,
            config.unroll_step_interval))
        theirs.close()

    def _tell_progress(self) -> None:
        known = progress.get_all_progresses()
        self._progress.copy_(
            torch.tensor([known[name] for name in _PROGRESS_TYPES], dtype=torch.float64, device="cpu"))

    def get_queue_size(self) -> int:
        """Return how many steps wait to be taken."""
        return self._queue.size()

    def gather_unroll_results(self, unroll_length: int, max_unroll_length: int,
                              num_look_ahead: int = 0) -> List[UnrollResult]:
        """Return the oldest steps that wait; wait for them if they are too few.

        Args:
            unroll_length: number of steps; 0: as many as there are, perhaps none.
            max_unroll_length: at most so many, if ``unroll_length`` is 0.
            num_look_ahead: steps after those that are returned too, but stay in the queue.
        Returns:
            One result, or none.
        Raises:
            RuntimeError: if the process has ended; with its traceback.
        """
        self._attach(wait=unroll_length > 0)
        num_steps = unroll_length
        if unroll_length == 0:
            num_steps = min(max(0, self.get_queue_size() - num_look_ahead), max_unroll_length)
        if num_steps == 0 or self._started is None:
            return []
        with profiling.scope("waiting"):
            while not self._queue.wait(num_steps + num_look_ahead, _POLL_SECONDS):
                self._check_alive()
        experience, inputs, version = self._queue.take(num_steps, num_look_ahead)
        if torch.get_default_device().type != "cpu":
            experience, inputs = convert_device((experience, inputs))
        self._update_statistics(map_structure(lambda leaf: leaf[:num_steps], experience.time_step))
        if not self._started.is_transformed:
            inputs = experience.time_step
        if summary.should_record_summaries():
            lag = (self._parameters.version - version).to(torch.float32)
            summary.scalar("async_unroll/queue_size", self.get_queue_size())
            summary.scalar("async_unroll/parameter_lag_iterations",
                           lag.mean() * self._config.unroll_parameter_update_period + self._iterations_since_update)
        return [UnrollResult(experience, inputs, self._started.rollout_info_spec, version)]

    def _update_statistics(self, time_steps: TimeStep) -> None:
        """Show raw time steps ``[T, B, ...]`` to data transformers whose statistics follow the rollout."""
        algorithm = self._algorithm
        if algorithm._data_transformer is None or not algorithm._data_transformer.follows_rollout:
            return
        num_steps, num_envs = time_steps.step_type.shape
        if self._transform_state is None:
            self._transform_state = algorithm.get_initial_transform_state(num_envs)
        with torch.no_grad(), common.rollout_context():
            for t in range(num_steps):
                time_step = map_structure(lambda leaf, t=t: leaf[t], time_steps)
                _, self._transform_state = algorithm.transform_timestep(time_step, self._transform_state)

    def run(self, num_steps: int, with_last_step: bool = True) -> Tuple[Experience, TimeStep, Nest]:
        """Return what the unroll in this process would, of ``num_steps`` steps. See ``Unroll.run``."""
        result = self.gather_unroll_results(num_steps, num_steps, int(with_last_step))[0]
        return result.experience, result.inputs, result.rollout_info_spec

    def available_steps(self, at_least: int, num_look_ahead: int) -> int:
        """Return how many steps to take where ``unroll_length`` is 0: what waits, at most ``max_unroll_length``.

        Args:
            at_least: wait for so many. The first step of all is always waited for.
            num_look_ahead: steps that must wait after them.
        """
        if self._started is None:
            self._attach(wait=True)
            at_least = max(at_least, 1)
        with profiling.scope("waiting"):
            while not self._queue.wait(at_least + num_look_ahead, _POLL_SECONDS):
                self._check_alive()
        available = self.get_queue_size() - num_look_ahead
        return max(0, min(available, self._config.max_unroll_length or available))

    def after_train_iter(self, algorithm: Algorithm) -> None:
        """Hand over progress, and every ``unroll_parameter_update_period`` iterations the parameters."""
        self._tell_progress()
        self._iterations_since_update += 1
        if self._iterations_since_update >= self._config.unroll_parameter_update_period:
            self.update_parameter(algorithm)

    def update_parameter(self, algorithm: Algorithm) -> None:
        """Hand over the parameters of ``algorithm``."""
        self._parameters.publish(algorithm)
        self._iterations_since_update = 0

    def _attach(self, wait: bool) -> None:
        while self._started is None:
            # Not by _check_alive(), which drops what it receives: the message may come after the first look.
            if self._connection.poll(_POLL_SECONDS if wait else 0) or not self._process.is_alive():
                self._started = self._receive()
                self._queue.attach(self._started.queue_rows)
            elif not wait:
                return

    def _receive(self) -> Any:
        try:
            message = self._connection.recv()
        except EOFError:
            message = None
        if isinstance(message, _Started):
            return message
        self._process.join(_CLOSE_SECONDS)
        told = message or f"It died with exit code {self._process.exitcode} (negative: the signal that killed it)."
        raise RuntimeError(f"The process that unrolls failed:\n{told}\nIts log is unroll/unroll.log of the run.")

    def _check_alive(self) -> None:
        if not self._process.is_alive() or self._connection.poll():
            self._receive()

    def close(self) -> None:
        """End the process."""
        self._stop.fill_(True)
        self._process.join(_CLOSE_SECONDS)
        if self._process.is_alive():
            logging.warning("the process that unrolls did not end by itself within %g seconds", _CLOSE_SECONDS)
            self._process.kill()
            self._process.join()
        self._connection.close()


def told_failure() -> str:
    """Return the traceback of the present exception, as the unroll process sends it, with its process number."""
    return f"process {os.getpid()}:\n{traceback.format_exc()}"
