"""Trainers: iterate, evaluate, write summaries and checkpoints, resume."""

import abc
import os
import time
from typing import Any, Dict, List, Optional

import torch
from absl import logging

from alf import config_util, progress, summary
from alf.algorithms.config import TrainerConfig
from alf.config_helpers import get_data_transformer, get_env, random_seed
from alf.trainers import _run_directory
from alf.trainers._player import play  # noqa: F401  (public here)
from alf.trainers._progress_view import ProgressView, told_duration
from alf.trainers._rng_state import RngState
from alf.trainers._signals import Signals
from alf.trainers.evaluator import Evaluator, SyncEvaluator, create_eval_environment
from alf.utils import common
from alf.utils.checkpoint_utils import Checkpointer, CheckpointError
from alf.utils.summary_utils import record_time

# A run of days with the default of ten checkpoints would lose hours to a crash.
_MAX_SECONDS_BETWEEN_CHECKPOINTS = 600.0


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
        self._ddp_rank = ddp_rank
        self._train_dir = os.path.join(config.root_dir, "train")
        self._progress = TrainerProgress()
        self._algorithm = None
        self._checkpointer: Optional[Checkpointer] = None
        self._writer = None
        self._view = ProgressView()
        self._checkpointed_at = time.monotonic()

    # ---- to be provided by each kind of trainer ------------------------------------------------------------------

    @abc.abstractmethod
    def _train_iter(self) -> None:
        """Train one iteration and count it."""

    @abc.abstractmethod
    def progress(self) -> float:
        """Return the share of the run that is done, 0 to 1."""

    @abc.abstractmethod
    def _shown_values(self) -> Dict[str, Any]:
        """Return what to show while training, by name."""

    @abc.abstractmethod
    def _evaluate(self) -> None:
        """Evaluate the policy as it is now."""

    @abc.abstractmethod
    def _checkpointed_modules(self) -> Dict[str, Any]:
        """Return what a checkpoint holds besides the algorithm, by name."""

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

    def train(self) -> None:
        """Run until the end, or until a signal asks to leave.

        Raises:
            LeaveRequested: after saving, if a signal asked to leave.
        """
        with Signals() as signals:
            try:
                self._begin()
                self._loop(signals)
            finally:
                self._end()

    def _loop(self, signals: Signals) -> None:
        config = self._config
        interval = config.summary_interval
        if config.num_summaries is not None:
            interval = common.compute_summary_or_eval_interval(config, config.num_summaries)
        eval_interval = config.eval_interval
        if config.num_evals is not None:
            eval_interval = common.compute_summary_or_eval_interval(config, config.num_evals)

        def should_record() -> bool:
            counter = summary.get_global_counter()
            return counter % interval == 0 or (config.summarize_first_interval and counter <= interval)

        told_settings = False
        next_checkpoint = self._next_checkpoint_progress()
        with summary.push_summary_writer(self._writer), summary.record_if(should_record):
            while self.progress() < 1.0:
                began = time.monotonic()
                with record_time("time/train_iter"):
                    self._train_iter()
                self._progress.seconds += time.monotonic() - began
                self._progress.iterations += 1
                self._progress.global_counter = summary.get_global_counter()
                self._publish_progress()
                if not told_settings:
                    # Only now is everything built that the configs build.
                    self._summarize_settings()
                    told_settings = True
                if config.evaluate and self._progress.iterations % eval_interval == 0:
                    self._evaluate()
                self._view.update(self.progress(), self._shown_values(), self._progress.env_steps)
                overdue = time.monotonic() - self._checkpointed_at > _MAX_SECONDS_BETWEEN_CHECKPOINTS
                leaving = signals.leave_signal is not None
                if self.progress() >= next_checkpoint or overdue or leaving or signals.take_checkpoint_request():
                    self._save_checkpoint()
                    next_checkpoint = self._next_checkpoint_progress()
                signals.leave_if_requested()
        self._view.update(1.0, self._shown_values(), self._progress.env_steps, final=True)

    def _begin(self) -> None:
        self._restore_checkpoint()
        summary.enable_summary()
        self._writer = summary.create_summary_writer(
            self._train_dir,
            flush_secs=self._config.summaries_flush_secs,
            max_queue=self._config.summary_max_queue,
            purge_step=self._progress.global_counter + 1 if self._progress.iterations else None)
        if self._config.conf_file:
            _run_directory.write_run(self._config.root_dir, self._config.conf_file, self._config.random_seed)
        self._publish_progress()
        self._view.start()

    def _end(self) -> None:
        self._view.close()
        if self._writer is not None:
            _run_directory.write_configs(self._config.root_dir)
            self._writer.close()
        if self._algorithm is not None:
            self._algorithm.finish_train()

    def _publish_progress(self) -> None:
        progress.update_all_progresses({
            "percent": self.progress(),
            "iterations": self._progress.iterations,
            "env_steps": self._progress.env_steps,
            "global_counter": summary.get_global_counter(),
        })

    def _summarize_settings(self) -> None:
        """Write to TensorBoard what the run was made of."""
        with summary.record_if(lambda: True):
            for kind, configs in (("operative", config_util.get_operative_configs()),
                                  ("inoperative", config_util.get_inoperative_configs())):
                summary.text(f"config/{kind}_config", _as_table(configs))
            summary.text("commandline", _as_code(_run_directory.command_line()))
            summary.text("seed", str(self._config.random_seed))
            optimizers = self._algorithm.get_optimizer_info()
            summary.text("optimizers", _as_code("\n\n".join(
                f"{info['optimizer']}\n  " + "\n  ".join(info["parameters"]) for info in optimizers)))
            summary.text("unoptimized_parameters",
                         _as_code("\n".join(self._algorithm.get_unoptimized_parameter_info()) or "none"))
            run = _run_directory.read_run(self._config.root_dir) or {}
            summary.text("alf/revision", run.get("git_revision") or "not a git checkout")
            diff = os.path.join(self._config.root_dir, "git.diff")
            if os.path.exists(diff):
                with open(diff) as file:
                    summary.text("alf/diff", _as_code(file.read()))
            for path in self._config.code_snapshots or ():
                with open(path) as file:
                    summary.text(f"code/{path}", _as_code(file.read()))
        _run_directory.write_configs(self._config.root_dir)

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def _next_checkpoint_progress(self) -> float:
        count = self._config.num_checkpoints
        if count == 0:
            return float("inf")
        # Rounded: 0.3 * 10 is 3.0000000000000004 and would ask for the checkpoint just written.
        return (int(round(self.progress() * count, 9)) + 1) / count

    def _create_checkpointer(self) -> Checkpointer:
        return Checkpointer(
            os.path.join(self._train_dir, "algorithm"),
            algorithm=self._algorithm,
            trainer_progress=self._progress,
            rng=RngState(),
            **self._checkpointed_modules())

    def _restore_checkpoint(self) -> None:
        """Load the newest checkpoint, if there is one."""
        self._checkpointer = self._create_checkpointer()
        if not self._checkpointer.has_checkpoint():
            return
        step = self._checkpointer.load()
        summary.set_global_counter(self._progress.global_counter)
        logging.info("resumed from checkpoint %s of %s: iteration %d, %d environment steps, %s of training", step,
                     self._train_dir, self._progress.iterations, self._progress.env_steps,
                     told_duration(self._progress.seconds))

    def _save_checkpoint(self) -> None:
        if self._ddp_rank > 0:
            return
        try:
            self._checkpointer.save(self._progress.iterations)
        except CheckpointError as error:
            # A full disk may be emptied while training goes on, and the checkpoints before are intact.
            logging.warning("no checkpoint was written at iteration %d: %s", self._progress.iterations, error)
        self._checkpointed_at = time.monotonic()


def _as_code(text: str) -> str:
    return "    " + text.replace("\n", "\n    ")


def _as_table(configs: List[tuple]) -> str:
    """Return configs as a Markdown table, as TensorBoard shows it."""
    rows = [f"| `{name}` | `{_told_value(value)}` |" for name, value in configs]
    return "\n".join(["| config | value |", "| --- | --- |", *rows]) if rows else "none"


def _told_value(value: Any) -> str:
    return repr(value).replace("|", "\\|").replace("\n", " ").replace("`", "'")


class RLTrainer(Trainer):
    """Trains a reinforcement learning algorithm in the environment of the conf.

    Args:
        config: the settings of the run.
        ddp_rank: number of this process among those that train together; -1: it is alone.
    """

    def __init__(self, config: TrainerConfig, ddp_rank: int = -1):
        super().__init__(config, ddp_rank)
        _check_supported(config)
        if config.random_seed is None:
            config.random_seed = random_seed()
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
        self._algorithm.attach_optimizers()
        self._evaluator = None

    def _begin(self) -> None:
        super()._begin()
        if self._progress.iterations:
            # The episodes that were running are gone; new ones begin, other than those of the first start.
            first = self._config.random_seed + self._progress.env_steps
            self._env.seed([(first + i) & 0x7fffffff for i in range(self._env.batch_size)])
        if self._config.evaluate and self._ddp_rank <= 0:
            if self._config.async_eval:
                self._evaluator = Evaluator(self._config, self._config.conf_file)
            else:
                self._evaluator = SyncEvaluator(create_eval_environment(self._config), self._config)

    def _end(self) -> None:
        try:
            if self._evaluator is not None:
                self._evaluator.close()
        finally:
            super()._end()

    def progress(self) -> float:
        """Return the share of the run that is done, 0 to 1; with both limits set, that of the iterations."""
        config = self._config
        if config.num_iterations > 0:
            return min(1.0, self._progress.iterations / config.num_iterations)
        return min(1.0, self._progress.env_steps / config.num_env_steps)

    def _train_iter(self) -> None:
        self._algorithm.train_iter()
        self._progress.env_steps = int(self._algorithm.get_step_metrics()[1].result())
        if self._config.sync_progress_to_envs:
            self._env.sync_progress()

    def _shown_values(self) -> Dict[str, Any]:
        metrics = {metric.name: metric for metric in self._algorithm.get_metrics()}
        shown = {"iteration": self._progress.iterations}
        for label, name in (("return", "AverageReturn"), ("length", "AverageEpisodeLength")):
            metric = metrics[name]
            shown[label] = _as_shown(metric.result()) if metric.has_result() else None
        shown["episodes"] = int(metrics["NumberOfEpisodes"].result())
        return shown

    def _evaluate(self) -> None:
        if self._evaluator is None:
            return
        steps = {metric.name: int(metric.result()) for metric in self._algorithm.get_step_metrics()}
        self._evaluator.eval(self._algorithm, steps)

    def _checkpointed_modules(self) -> Dict[str, Any]:
        return {"metrics": torch.nn.ModuleList(self._algorithm.get_metrics())}


def _as_shown(value: torch.Tensor) -> Any:
    return float(value) if value.ndim == 0 else str([round(float(v), 3) for v in value])


def _check_supported(config: TrainerConfig) -> None:
    """Refuse settings that ask for what this version does not have, rather than run without it."""
    if config.algorithm_ctor is None:
        raise ValueError("TrainerConfig.algorithm_ctor: expected a callable that makes the algorithm, got None. Set "
                         "alf.config(\"TrainerConfig\", algorithm_ctor=partial(PPOAlgorithm, optimizer=...)).")
    missing = {
        "ml_type": config.ml_type != "rl",
        "async_unroll": config.async_unroll,
        "enable_amp": config.enable_amp,
        "summarize_gradient_noise_scale": config.summarize_gradient_noise_scale,
        "whole_replay_buffer_training": not config.whole_replay_buffer_training,
        "clear_replay_buffer": not config.clear_replay_buffer,
        "priority_replay": config.priority_replay,
        "offline_buffer_dir": config.offline_buffer_dir is not None,
        "initial_collect_steps": config.initial_collect_steps > 0,
        "visualize_alf_tree": config.visualize_alf_tree,
        "profiling": config.profiling,
    }
    for name, asked in missing.items():
        if asked:
            raise NotImplementedError(f"TrainerConfig.{name}={getattr(config, name)!r}: not in this version, which "
                                      "trains on-policy and on the last unroll. Leave it at its default.")
