"""Trainers: iterate, evaluate, write summaries and checkpoints, resume."""

import abc
import collections
import contextlib
import functools
import math
import os
import time
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional

import numpy as np
import torch
from absl import logging

from alf import progress, summary
from alf.algorithms.config import TrainerConfig
from alf.config_helpers import get_data_transformer, get_env, random_seed, share_of_process
from alf.trainers import _disk_space, _out_of_memory, _run_directory, _unroll_process
from alf.trainers._joint_training import JointTraining, Wishes
from alf.trainers._output_summaries import summarize_outputs
from alf.trainers._player import play  # noqa: F401  (public here)
from alf.trainers._progress_view import ProgressView, told_duration
from alf.trainers._rng_state import RngState
from alf.trainers._run_log import logged_to
from alf.trainers._run_profile import RunProfile
from alf.trainers._settings import read_code_snapshots, summarize_settings
from alf.trainers._signals import LeaveRequested, Signals
from alf.trainers.evaluator import Evaluator, create_sync_evaluator
from alf.utils import common, profiling
from alf.utils.checkpoint_utils import Checkpointer, CheckpointError, Snapshot
from alf.utils.distributed import LostProcessError
from alf.utils.finite import check_parameters
from alf.utils.summary_utils import record_time

# A run of days with the default of ten checkpoints would lose hours to a crash.
_MAX_SECONDS_BETWEEN_CHECKPOINTS = 600.0
_LEAST_CHECKPOINTS_TO_KEEP = 10


class TrainerProgress:
    """How far a run is; part of every checkpoint."""

    def __init__(self):
        self.iterations = 0
        self.env_steps = 0
        self.global_counter = 0
        self.seconds = 0.0  # of training, by a clock that cannot jump

    def state_dict(self) -> Dict[str, Any]:
        """Return the counters."""
        return dict(vars(self))

    def check_state_dict(self, state: Dict[str, Any]) -> None:
        """Raise if ``state`` does not hold the counters.

        Raises:
            ValueError: naming the one that is missing or wrong.
        """
        for name, present in vars(self).items():
            value = state[name]
            if type(value) not in (int, type(present)) or not 0 <= value < 2**63:
                raise ValueError(f"{name}: expected a number from 0 to 2**63, got {value!r:.80}")

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Set the counters."""
        for name in vars(self):
            setattr(self, name, state[name])


class Trainer(abc.ABC):
    """The loop of a run: train an iteration, then evaluate, save and tell as configured.

    Args:
        config: the settings of the run.
        ddp_rank: number of this process among those that train together; -1: it is alone.
    """

    def __init__(self, config: TrainerConfig, ddp_rank: int = -1):
        self._config = config
        self._joint = JointTraining(ddp_rank, config.root_dir)
        self._train_dir = os.path.join(config.root_dir, "train")
        self._progress = TrainerProgress()
        self._algorithm = None
        self._checkpointer: Optional[Checkpointer] = None
        self._writer = None
        self._evaluator = None
        self._view = ProgressView()
        self._profile: Optional[RunProfile] = None
        self._signals = Signals(self._joint.log_path, config.leave_within_seconds)
        self._checkpointed_at = time.monotonic()
        self._saved_iterations = 0  # of the newest checkpoint
        self._has_whole_checkpoint = True  # no process that trains along has lost its part of what was loaded
        self._num_checkpoint_failures = 0  # since the last one that was saved
        self._snapshots: Deque[Snapshot] = collections.deque()  # of what is being evaluated, oldest first
        self._best_score = -math.inf
        self._earlier_configs: Dict[str, str] = {}  # of the start before this one
        self._code_snapshots = read_code_snapshots(config)

    # ---- to be provided by each kind of trainer ------------------------------------------------------------------

    @abc.abstractmethod
    def _train_iter(self) -> None:
        """Train one iteration and count it."""

    @abc.abstractmethod
    def progress(self) -> float:
        """Return the fraction of the run that is done, 0 to 1."""

    @abc.abstractmethod
    def _shown_values(self) -> Dict[str, Any]:
        """Return what to show while training, by name."""

    @abc.abstractmethod
    def _create_evaluator(self) -> Any:
        """Return what evaluates, with the methods of SyncEvaluator."""

    @abc.abstractmethod
    def _evaluate(self, give_up: Callable[[], bool]) -> None:
        """Evaluate the policy as it is now, unless ``give_up()`` becomes true before it can begin."""

    @abc.abstractmethod
    def _checkpointed_modules(self) -> Dict[str, Any]:
        """Return what a checkpoint holds besides the algorithm, by name."""

    def _own_counts(self) -> List[int]:
        """Return what this process counts and all that train together want the sum of; may be overridden."""
        return []

    def _count_all(self, counts: List[int]) -> None:
        """Take over the sums of what :meth:`_own_counts` returned; may be overridden."""
        assert not counts, counts

    # ---- the loop ------------------------------------------------------------------------------------------------

    def current_iterations(self) -> int:
        """Return the number of iterations done."""
        return self._progress.iterations

    def current_env_steps(self) -> int:
        """Return the number of environment steps made."""
        return self._progress.env_steps

    @property
    def algorithm(self):
        """The root algorithm."""
        return self._algorithm

    def profile(self, num_iterations: Optional[int] = None) -> None:
        """Measure where the time of the coming :meth:`train` goes; it is told, and written to ``<root_dir>/profile``.

        Args:
            num_iterations: to measure after a warm-up; None: those of about ten seconds.
        """
        self._profile = RunProfile(self._config, self._algorithm, get_env().batch_size, num_iterations,
                                   os.path.join(self._config.root_dir, "profile"), self._view.tell)

    def train(self) -> None:
        """Run until the end, or until a signal asks to leave; go on from the newest checkpoint if there is one.

        Raises:
            LeaveRequested: after saving, if a signal asked to leave.
            Exception: what ended training otherwise, after saving, unless parameters are not finite.
            RunDirectoryError: if another trainer is at work in the directory, or it cannot be written.
            CheckpointError: if the newest checkpoint does not fit, or all are damaged.
        """
        root_dir = self._config.root_dir
        with self._joint.directory_locked(), logged_to(self._joint.log_path), self._signals as signals:
            self._restore_checkpoint()
            if self.progress() >= 1.0:
                logging.info("%s: training is finished, after %d iterations and %d environment steps. To go on, raise "
                             "TrainerConfig.num_iterations or num_env_steps.", root_dir, self._progress.iterations,
                             self._progress.env_steps)
                return
            finished = False
            try:
                self._begin()
                if self._profile is not None:
                    self._profile.begin()
                with self._profiled():
                    self._loop(signals)
                finished = True
            except (LeaveRequested, KeyboardInterrupt):
                raise
            except Exception as error:
                if isinstance(error, (MemoryError, RuntimeError)):
                    advice = _out_of_memory.advice(error, self._config, get_env().batch_size)
                    if advice is not None:
                        error.add_note(advice)
                self._save_after(error)
                raise
            except BaseException as error:  # SystemExit of something that has no say in how this process ends
                self._save_after(error)
                raise RuntimeError(f"Training was ended by {type(error).__name__}, which something in the environments "
                                   "or the algorithm raised; see above where.") from error
            finally:
                self._end(finished)

    def _loop(self, signals: Signals) -> None:
        config = self._config
        summary_interval = self._interval(config.num_summaries, config.summary_interval)
        eval_interval = self._interval(config.num_evals, config.eval_interval)

        def should_record() -> bool:
            counter = summary.get_global_counter()
            return counter % summary_interval == 0 or (config.summarize_first_interval and counter <= summary_interval)

        told_settings = False
        next_checkpoint = self._next_checkpoint_progress()
        with summary.push_summary_writer(self._writer), summary.record_if(should_record):
            while self.progress() < 1.0:
                self._timed_train_iter()
                if not told_settings:
                    # Only now is everything built that the configs build.
                    if self._joint.is_first:
                        summarize_settings(config, self._algorithm, self._code_snapshots)
                        _run_directory.write_configs(config.root_dir)
                        _run_directory.tell_changed_configs(config.root_dir, self._earlier_configs)
                        _disk_space.warn_if_scarce(self._checkpointer, self._num_to_keep, self._share_of_replay())
                    told_settings = True
                if self._evaluator is not None:
                    with profiling.scope("evaluation"):
                        self._evaluator.poll()
                        self._keep_best()
                        if self._progress.iterations % eval_interval == 0:
                            check_parameters(self._algorithm, "there is nothing to evaluate at iteration "
                                             f"{self._progress.iterations}")
                            self._snapshots.append(self._checkpointer.snapshot(
                                self._progress.iterations, ["algorithm", "trainer_progress"]))
                            self._evaluate(give_up=lambda: signals.leaving)
                            self._keep_best()
                wishes = self._after_iteration(Wishes(
                    checkpoint=signals.take_checkpoint_request(),
                    overdue=time.monotonic() - self._checkpointed_at > _MAX_SECONDS_BETWEEN_CHECKPOINTS,
                    leave=signals.leave_code))
                with profiling.scope("summaries"):
                    self._view.update(self.progress(), self._shown_values, self._progress.env_steps,
                                      final=self.progress() >= 1.0)
                if self._profile is not None:
                    self._profile.count_iteration(self._progress.iterations, self._progress.env_steps)
                    if wishes.leave or self.progress() >= 1.0:
                        self._profile.close()  # the checkpoint that ends a run is there however quick it is
                if wishes.leave:
                    signals.stop_clock()
                if self.progress() >= next_checkpoint or any(wishes):
                    with profiling.scope("checkpoint"):
                        path = self._save_checkpoint()
                    next_checkpoint = self._next_checkpoint_progress()
                    if self._joint.is_alone and signals.leaving:  # since then: there is nothing more to save
                        wishes = wishes._replace(leave=signals.leave_code)
                    if wishes.checkpoint or wishes.leave:
                        self._tell_saved(path)
                if wishes.leave:
                    raise LeaveRequested(wishes.leave)

    def _timed_train_iter(self) -> None:
        began = time.monotonic()
        with record_time("time/train_iter"):
            self._train_iter()
        if summary.should_record_summaries():
            summary.scalar("memory/cpu", common.resident_memory_bytes() / 1e6)
        self._progress.seconds += time.monotonic() - began
        self._progress.iterations += 1
        self._progress.global_counter = summary.get_global_counter()
        self._publish_progress()

    def _after_iteration(self, wishes: Wishes) -> Wishes:
        """Bring this process and others that train with it to the same state; return what any of them is asked for."""
        joint, interval = self._joint, self._config.ddp_paras_check_interval
        if joint.is_alone:
            return wishes
        counts, wishes = joint.exchange(self._own_counts(), wishes)
        self._count_all(counts)
        self._publish_progress()
        joint.after_iteration(self._algorithm)
        if interval and self._progress.iterations % interval == 0:
            joint.check_parameters(self._algorithm)
        return wishes

    def _interval(self, count: Optional[int], interval: int) -> int:
        """Return the iterations between two of what is to happen ``count`` times; ``interval`` if that is None."""
        return interval if count is None else common.compute_summary_or_eval_interval(self._config, count)

    def _share_of_replay(self) -> float:
        """Return to what fraction of its capacity the replay buffer is filled; 0 if there is none."""
        return 0.0

    def _begin(self) -> None:
        config = self._config
        self._publish_progress()
        if not self._joint.is_first:
            return
        if self._progress.iterations:
            self._earlier_configs = _run_directory.read_configs(config.root_dir)
        if config.conf_file:
            _run_directory.write_run(config.root_dir, config.conf_file, config.random_seed)
        summary.enable_summary()
        # What an earlier process wrote after the checkpoint, or without one, is dropped.
        self._writer = summary.create_summary_writer(
            self._train_dir,
            flush_secs=config.summaries_flush_secs,
            max_queue=config.summary_max_queue,
            purge_step=self._progress.global_counter)
        if config.evaluate:
            self._evaluator = self._create_evaluator()
        self._view.start()

    def _end(self, finished: bool) -> None:
        with contextlib.ExitStack() as stack:  # each of these, whatever the others raise
            if self._profile is not None:
                stack.callback(self._profile.close)
            stack.callback(self._algorithm.finish_train)
            if self._writer is not None:
                stack.callback(self._writer.close)
                stack.callback(_run_directory.write_configs, self._config.root_dir)
            if self._evaluator is not None:
                stack.callback(self._keep_best)  # of what the evaluator tells while it closes
                stack.callback(self._evaluator.close, wait=finished)
            stack.callback(self._view.close)

    @contextlib.contextmanager
    def _profiled(self) -> Iterator[None]:
        if not self._config.profiling:
            yield
            return
        import cProfile

        profile = cProfile.Profile()
        try:
            profile.enable()
            yield
        finally:
            profile.disable()
            path = os.path.join(self._train_dir, "train.prof")
            try:
                profile.dump_stats(path)
                logging.info("profile: %s; to read it: python -m pstats", path)
            except OSError as error:
                logging.warning("%s cannot be written: %s", path, error)

    def _publish_progress(self) -> None:
        progress.update_all_progresses({
            "percent": self.progress(),
            "iterations": self._progress.iterations,
            "env_steps": self._progress.env_steps,
            "global_counter": summary.get_global_counter(),
        })

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def _next_checkpoint_progress(self) -> float:
        count = self._config.num_checkpoints
        if count == 0:
            return float("inf")
        # Rounded: 0.3 * 10 is 3.0000000000000004 and would ask for the checkpoint just written.
        return (int(round(self.progress() * count, 9)) + 1) / count

    @property
    def _num_to_keep(self) -> int:
        config = self._config
        return config.num_checkpoints_to_keep or max(config.num_checkpoints, _LEAST_CHECKPOINTS_TO_KEEP)

    def _create_checkpointer(self) -> Checkpointer:
        return self._joint.checkpointer(
            self._num_to_keep,
            shared={"algorithm": self._algorithm, "trainer_progress": self._progress},
            own={"rng": RngState(), **self._checkpointed_modules()})

    def _restore_checkpoint(self) -> None:
        """Load the newest checkpoint, if there is one."""
        self._checkpointer = self._create_checkpointer()
        found, self._has_whole_checkpoint = self._joint.load(self._checkpointer)
        if found:
            logging.info("resumed from iteration %d of %s: %d environment steps, %s of training",
                         self._progress.iterations, self._config.root_dir, self._progress.env_steps,
                         told_duration(self._progress.seconds))
        self._saved_iterations = self._progress.iterations
        summary.set_global_counter(self._progress.global_counter)
        best_score = self._checkpointer.best_score()
        self._best_score = -math.inf if best_score is None else best_score

    def _keep_best(self) -> None:
        """Save what was evaluated as the best checkpoint, if no evaluation before had such a return."""
        for score in self._evaluator.take_scores():
            snapshot = self._snapshots.popleft()
            if score > self._best_score:
                self._best_score = score
                try:
                    with self._signals.saving():
                        self._checkpointer.save_best(snapshot, score)
                except CheckpointError as error:
                    logging.warning("the best policy so far, of iteration %d, was not saved: %s", snapshot.step, error)

    def _save_after(self, error: BaseException) -> None:
        """Save what was learned since the last checkpoint before ``error`` ends training; a failure is told.

        Nothing is saved where nothing has been learned since, where the disk has refused it often enough, and where
        another process is gone: without its part, a checkpoint would be worth less than the one before.
        """
        is_refused = self._num_checkpoint_failures == self._config.max_checkpoint_failures
        if self._progress.iterations == self._saved_iterations or is_refused or isinstance(error, LostProcessError):
            return
        try:
            self._tell_saved(self._save_checkpoint(failing=True))
        except Exception as failure:
            logging.warning("what was learned since iteration %d is not saved: %s", self._saved_iterations, failure)

    def _save_checkpoint(self, failing: bool = False) -> Optional[str]:
        """Save a checkpoint; a failure is told, and training goes on.

        Args:
            failing: this process is about to end, and those that train with it know nothing of that.
        Returns:
            Where it is; None if it was not saved by this process.
        Raises:
            NonFiniteError: if a parameter is NaN or infinite; the checkpoints before are kept.
            RuntimeError: if it is the last failure in a row that is allowed.
        """
        self._checkpointed_at = time.monotonic()
        if failing and not self._joint.is_first:
            return None
        if self._writer is not None:
            self._writer.flush()  # who resumes from the checkpoint does not write again what is older
        check_parameters(self._algorithm, f"no checkpoint is written at iteration {self._progress.iterations}, and "
                         "those before are kept")
        try:
            save = self._checkpointer.save if failing else functools.partial(self._joint.save, self._checkpointer)
            with self._signals.saving():
                path = save(self._progress.iterations)
        except CheckpointError as error:
            # A full disk may be emptied while training goes on, and the checkpoints before are intact.
            logging.warning("no checkpoint was written at iteration %d: %s", self._progress.iterations, error)
            self._num_checkpoint_failures += 1
            if self._num_checkpoint_failures == self._config.max_checkpoint_failures:
                raise RuntimeError(
                    f"{self._num_checkpoint_failures} checkpoints in a row could not be saved, as many as "
                    "TrainerConfig.max_checkpoint_failures allows: training ends. Those before are kept.") from error
            return None
        self._num_checkpoint_failures = 0
        self._saved_iterations = self._progress.iterations
        return path if self._joint.is_first else None

    def _tell_saved(self, path: Optional[str]) -> None:
        """Tell of a checkpoint that somebody waits for."""
        if path is not None:
            logging.info("saved iteration %d: %s", self._progress.iterations, path)


class RLTrainer(Trainer):
    """Trains a reinforcement learning algorithm in the environment of the conf.

    Args:
        config: the settings of the run.
        ddp_rank: number of this process among those that train together; -1: it is alone.
    """

    def __init__(self, config: TrainerConfig, ddp_rank: int = -1):
        super().__init__(config, ddp_rank)
        _check_supported(config, ddp_rank)
        if config.random_seed is None or not self._joint.is_alone:
            config.random_seed = random_seed()
        _divide_among_processes(config)
        self._env = get_env()
        config.data_transformer = get_data_transformer()
        self._algorithm = config.algorithm_ctor(
            observation_spec=config.data_transformer.transformed_observation_spec,
            action_spec=self._env.action_spec(),
            reward_spec=self._env.reward_spec(),
            env=self._env,
            config=config,
            debug_summaries=config.debug_summaries)
        self._algorithm.set_path("")
        if config.summarize_output:
            summarize_outputs(self._algorithm)
        config.data_transformer.check_training(self._algorithm, config)
        for optimizer in self._algorithm.attach_optimizers().optimizers:
            if hasattr(optimizer, "prepare"):
                # Now rather than at the first step: where parameters lie may change the last bit of a matrix product,
                # and a run that resumes must act as one that goes on.
                optimizer.prepare()

    def _restore_checkpoint(self) -> None:
        super()._restore_checkpoint()
        if not self._has_whole_checkpoint:
            self._algorithm.forget_rollout()  # or processes would begin to learn at different times
        own_counts, _ = self._joint.exchange(self._own_counts(), Wishes())
        # Of processes that trained along when the checkpoint was saved, and do not now.
        self._env_steps_of_former = max(0, self._progress.env_steps - own_counts[0])
        self._count_all(own_counts)
        self._joint.begin(self._algorithm)
        if self._progress.iterations:
            # Where the episodes that were running cannot go on, new ones begin, other than those of the first start.
            self._env.seed(self._seed_of_now())
        self._config.start_unroll_process = functools.partial(_unroll_process.start, self._config, self._seed_of_now())

    def _seed_of_now(self) -> int:
        """Return a seed for environments that begin at this point of the run."""
        source = np.random.SeedSequence([self._config.random_seed, self._progress.env_steps])
        return int(source.generate_state(1)[0] >> 1)

    def _create_evaluator(self) -> Any:
        if self._config.async_eval:
            return Evaluator(self._config, self._config.conf_file)
        return create_sync_evaluator(self._config)

    def progress(self) -> float:
        """Return the fraction of the run that is done, 0 to 1.

        With both limits set it is that of the iterations, for training goes on after the environments stop; but one
        that learns from its last unroll only ends with the environments.
        """
        config = self._config
        shares = []
        if config.num_iterations > 0:
            shares.append(self._progress.iterations / config.num_iterations)
        if config.num_env_steps > 0 and (not shares or self._needs_environments()):
            shares.append(self._progress.env_steps / config.num_env_steps)
        return min(1.0, max(shares))

    def _needs_environments(self) -> bool:
        config = self._config
        return bool(self._algorithm.on_policy) or (config.keeps_last_unroll)

    def _train_iter(self) -> None:
        self._algorithm.train_iter()
        self._progress.env_steps = self._algorithm.env_steps
        if self._config.sync_progress_to_envs:
            self._env.sync_progress()
        if self._config.empty_cache:
            torch.cuda.empty_cache()  # does nothing where CUDA is not used

    def _own_counts(self) -> List[int]:
        return self._algorithm.own_counts()

    def _count_all(self, counts: List[int]) -> None:
        env_steps, num_episodes = counts
        self._algorithm.set_total_counts(env_steps + self._env_steps_of_former, num_episodes)
        self._progress.env_steps = self._algorithm.env_steps

    def _shown_values(self) -> Dict[str, Any]:
        # As they are: to update them when somebody happens to look would make runs differ.
        metrics = {metric.name: metric for metric in self._algorithm._metrics}
        shown = {"iteration": self._progress.iterations}
        for label, name in (("return", "AverageReturn"), ("length", "AverageEpisodeLength")):
            metric = metrics[name]
            shown[label] = _as_shown(metric.result()) if metric.has_result() else None
        shown["episodes"] = int(metrics["NumberOfEpisodes"].result())
        return shown

    def _evaluate(self, give_up: Callable[[], bool]) -> None:
        steps = {metric.name: int(metric.result()) for metric in self._algorithm.get_step_metrics()}
        self._evaluator.eval(self._algorithm, steps, give_up=give_up)

    def _share_of_replay(self) -> float:
        stored_steps = self._algorithm.num_stored_steps
        return stored_steps / (self._env.batch_size * self._config.replay_buffer_length)

    def _checkpointed_modules(self) -> Dict[str, Any]:
        # In this order: metrics are complete after what the algorithm does for the first.
        return {"rollout": _Rollout(self._algorithm), "metrics": torch.nn.ModuleList(self._algorithm.get_metrics())}


class _Rollout:
    """Unroll and replay of an algorithm, as a part of checkpoints."""

    def __init__(self, algorithm):
        self.state_dict = algorithm.rollout_state_dict
        self.check_state_dict = algorithm.check_rollout_state_dict
        self.load_state_dict = algorithm.load_rollout_state_dict


def _as_shown(value: torch.Tensor) -> Any:
    return float(value) if value.ndim == 0 else str([round(float(v), 3) for v in value])


def _divide_among_processes(config: TrainerConfig) -> None:
    """Let each of the processes that train together sample and collect its share, rounded up.

    The limit of environment steps stays: those of all processes are counted.
    """
    for name in ("mini_batch_size", "initial_collect_steps"):
        if getattr(config, name):
            setattr(config, name, share_of_process(f"TrainerConfig.{name}", getattr(config, name)))


def _check_supported(config: TrainerConfig, ddp_rank: int) -> None:
    """Refuse settings that ask for what this version does not have, rather than run without it."""
    if config.algorithm_ctor is None:
        raise ValueError("TrainerConfig.algorithm_ctor: expected a callable that makes the algorithm, got None. Set "
                         "alf.config(\"TrainerConfig\", algorithm_ctor=partial(PPOAlgorithm, optimizer=...)).")
    if ddp_rank >= 0 and config.async_unroll:
        raise ValueError("TrainerConfig.async_unroll=True: not in several processes that train together "
                         "(--distributed), each of which unrolls itself. Set async_unroll=False, or train in one "
                         "process.")
    missing = {
        "ml_type": config.ml_type != "rl",
        "eval_uncertainty": config.eval_uncertainty,
        "summarize_gradient_noise_scale": config.summarize_gradient_noise_scale,
        "visualize_alf_tree": config.visualize_alf_tree,
    }
    for name, asked in missing.items():
        if asked:
            raise ValueError(f"TrainerConfig.{name}={getattr(config, name)!r}: not in this version. Leave it at its "
                             "default.")
