"""A run that is only tried: everything is made and trained a little in a temporary directory, and it is told what the
run would take."""

import contextlib
import io
import json
import pathlib
import resource
import sys
import tempfile
import time
from typing import List, Optional, Tuple

import psutil
import torch
from torch import nn

from alf import summary
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.config import TrainerConfig
from alf.bin import _command
from alf.config_helpers import close_env, parse_config
from alf.nest import flatten
from alf.trainers._disk_space import told_bytes
from alf.trainers._progress_view import ProgressView, told_duration
from alf.trainers._run_profile import RunProfile
from alf.trainers.policy_trainer import RLTrainer
from alf.utils import profiling
from alf.utils.linear import matrix_library

_MEASURED_SECONDS = 3.0
_LONGEST_SECONDS = 120.0  # to wait for the first updates


# ---- what is told of environment and algorithm -----------------------------------------------------------------------


def told_specs(env) -> str:
    """Return the specs of an environment, a line for each."""
    return f"observation: {env.observation_spec()}\naction: {env.action_spec()}\nreward: {env.reward_spec()}"


def told_tree(module: nn.Module, name: str = "", depth: int = 0) -> List[str]:
    """Return the tree of algorithms and networks with the numbers that their parameters have, a line for each.

    Args:
        module: its root.
        name: of the root in its parent.
        depth: of the root.
    """
    total = sum(parameter.numel() for parameter in module.parameters())
    label = f"{name}: {type(module).__name__}" if name else type(module).__name__
    lines = [f"{'  ' * depth}{label}, {total:,} parameters"]
    if isinstance(module, Algorithm):
        for child_name, child in module.named_children():
            if any(True for _ in child.parameters()):
                lines += told_tree(child, child_name, depth + 1)
    return lines


def told_optimizers(algorithm: Algorithm) -> List[str]:
    """Return what each optimizer trains, a line for each."""
    lines = []
    for told in algorithm.get_optimizer_info():
        names = set(told["parameters"])
        sizes = [p.numel() for name, p in algorithm.named_parameters() if name in names]
        optimizer = "no optimizer" if told["optimizer"] == "None" else told["optimizer"].partition(" | ")[0] + ")"
        lines.append(f"{optimizer}: {len(sizes)} tensors, {sum(sizes):,} parameters")
    return lines


def told_replay(config: TrainerConfig, algorithm: Algorithm, num_environments: int) -> str:
    """Return how much memory the replay buffer takes when it is full.

    Args:
        config: the settings of the run.
        algorithm: the root algorithm, after its first unroll.
        num_environments: that the run will have.
    """
    buffer = getattr(algorithm._replay, "buffer", None)
    if buffer is None:
        return "replay buffer: none, only the last unroll is kept"
    step_bytes = buffer.bytes_per_step  # with recurrent states, which not every step has
    num_steps = num_environments * config.replay_buffer_length
    return (f"replay buffer: about {num_steps * step_bytes / 2**20:,.1f} MiB: {num_environments} environments, "
            f"{config.replay_buffer_length:,} steps of each, {step_bytes:,.0f} bytes a step")


def told_memory_of_processes() -> str:
    """Return the memory of this process and of those that it has started, such as workers of environments."""
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    told = f"memory of this process: {peak_bytes / 2**20:,.0f} MiB at most until now, libraries included"
    others = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            others.append(process.memory_info().rss)
    if others:
        told += (f"; and {sum(others) / 2**20:,.0f} MiB now in {len(others)} processes that it has started, what they "
                 "share counted in each")
    return told


# ---- the run that is tried -------------------------------------------------------------------------------------------


def dry_run(conf: str, conf_params: Optional[List[str]]) -> None:
    """Make what a conf says, train a little in a temporary directory, and print what the run would take.

    Args:
        conf: path of the conf.
        conf_params: ``name=expression`` strings that win over the conf.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="alf-dry-run-") as root_dir:
            with _command.preparing():
                parse_config(conf, conf_params)
                trainer = _Tried(TrainerConfig(root_dir=root_dir, conf_file=conf), _LONGEST_SECONDS)
            env = trainer.env
            print(f"PyTorch: {torch.get_num_threads()} threads, large products of float32 by {matrix_library()}")
            print(f"environments: {env.batch_size}\n{told_specs(env)}")
            print("\n".join(told_tree(trainer.algorithm) + told_optimizers(trainer.algorithm)), flush=True)
            trainer.train()
            print("\n".join(trainer.told))
    finally:
        close_env()


class _Tried(RLTrainer):
    """Trains until enough is measured, and finds out what the run would take before it ends.

    Args:
        config: the settings of the run; they are changed where a try must be short.
        deadline_seconds: when to end without having measured.
    """

    def __init__(self, config: TrainerConfig, deadline_seconds: float):
        self._initial_collect_steps, config.initial_collect_steps = config.initial_collect_steps, 0
        self._is_async = config.async_unroll
        if config.async_unroll:
            config.async_unroll, config.unroll_length = False, config.unroll_length or config.sampled_length
        self._num_checkpoints, config.num_checkpoints = config.num_checkpoints, 1
        self._has_evaluation, config.evaluate = config.evaluate, False
        super().__init__(config)
        self._view = ProgressView(io.StringIO())
        self._profile = RunProfile(config, self._algorithm, self._env.batch_size, seconds=_MEASURED_SECONDS)
        self._deadline = time.monotonic() + deadline_seconds
        self._written_before = (0, 0)
        self.told: List[str] = []  # what the run would take

    @property
    def env(self):
        """The training environment."""
        return self._env

    def progress(self) -> float:
        """Return 0 until enough is measured, then 1."""
        is_over = self._profile.is_over or time.monotonic() > self._deadline
        return 1.0 if is_over or super().progress() >= 1.0 else 0.0

    def _train_iter(self) -> None:
        if self._progress.iterations == 1:  # what is written once is written
            self._written_before = self._written()
        super()._train_iter()

    def _written(self) -> Tuple[int, int]:
        """Return the records and the bytes of summaries until now."""
        self._writer.flush()
        folder = pathlib.Path(self._train_dir)
        files = [path for path in folder.iterdir() if path.is_file()]
        metrics = folder / "metrics.jsonl"
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        return len({json.loads(line)["step"] for line in lines}), sum(path.stat().st_size for path in files)

    def _end(self, finished: bool) -> None:
        if finished:
            self._profile.close()
            self.told = [*self._told_memory(), *self._told_disk(), *self._told_duration()]
        super()._end(finished)

    # ---- what the run would take -------------------------------------------------------------------------------

    def _told_memory(self) -> List[str]:
        config, num_envs = self._config, self._env.batch_size
        length = max(1, int(config.unroll_length))
        lines = [told_replay(config, self._algorithm, num_envs)]
        with torch.no_grad():
            experience = self._algorithm.unroll(length)
        leaves = [leaf for leaf in flatten(experience) if isinstance(leaf, torch.Tensor)]
        unroll_bytes = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
        lines.append(f"unroll: {told_bytes(unroll_bytes)}: {length} steps of {num_envs} environments"
                     + (", and the graph for its gradients" if self._algorithm.on_policy else ""))
        not_full = "" if self._share_of_replay() == 0 else "; the replay buffer is not full yet"
        lines.append(told_memory_of_processes() + not_full)
        return lines

    def _told_disk(self) -> List[str]:
        state_bytes, replay_bytes = self._checkpointer.state_bytes()
        share = self._share_of_replay()
        if share > 0:
            replay_bytes = int(replay_bytes / share)
        num_kept = min(self._num_to_keep, self._num_checkpoints)
        replay = f", and {told_bytes(replay_bytes)} of a full replay buffer in the newest" if replay_bytes else ""
        lines = [f"checkpoints: {told_bytes(state_bytes)} each{replay}; {self._num_checkpoints} over the run, of which "
                 f"{num_kept} stay: {told_bytes(num_kept * state_bytes + replay_bytes)}"]
        records, size = (now - before for now, before in zip(self._written(), self._written_before, strict=True))
        total = self._num_records()
        if records and total is not None:
            lines.append(f"summaries: about {told_bytes(size / records * total)}: {total:,.0f} records")
        return lines

    def _num_iterations(self) -> Optional[float]:
        """Return how many iterations the run would have; None if that is not known."""
        config, result = self._config, self._profile.result
        limits = []
        if config.num_iterations > 0:
            limits.append(config.num_iterations)
        if config.num_env_steps > 0 and (not limits or self._needs_environments()):
            if result is None or not result.env_steps:
                return None
            limits.append(config.num_env_steps * result.num_iterations / result.env_steps)
        return min(limits)

    def _num_records(self) -> Optional[float]:
        """Return how often the run would record summaries; None if that is not known."""
        iterations = self._num_iterations()
        if iterations is None:
            return None
        if self._config.num_summaries is not None:
            return self._config.num_summaries
        counters = iterations * summary.get_global_counter() / self._progress.iterations
        first = min(counters, self._config.summary_interval) if self._config.summarize_first_interval else 0
        return max(0, counters - first) / self._config.summary_interval + first

    def _told_duration(self) -> List[str]:
        result, iterations = self._profile.result, self._num_iterations()
        if result is None or iterations is None:
            return ["duration: unknown, for nothing was learned in the time of this try"]
        seconds = {name: phase.seconds / result.num_iterations for name, phase in result.phases.items()}
        seconds.pop(profiling.CHECKPOINT, None)
        # The first iterations record summaries, most others do not.
        records_per_iteration = self._written()[0] / self._progress.iterations
        if records_per_iteration and profiling.SUMMARIES in seconds:
            seconds[profiling.SUMMARIES] *= min(1.0, self._num_records() / iterations / records_per_iteration)
        each = sum(seconds.values())
        learning = seconds.get(profiling.UPDATE, 0.0) + seconds.get(profiling.SAMPLING, 0.0)
        steps_each = result.env_steps / result.num_iterations
        num_collecting = 0.0
        if steps_each and not self._algorithm.on_policy:
            num_collecting = min(iterations, self._initial_collect_steps / steps_each)
        total = iterations * each - num_collecting * learning
        left_out = ["checkpoints"] + ["evaluation"] * self._has_evaluation
        lines = [f"speed: {steps_each / each:,.0f} environment steps/s, {1 / each:,.1f} iterations/s",
                 f"duration: about {told_duration(total)}: {iterations:,.0f} iterations, "
                 f"{iterations * steps_each:,.0f} environment steps; without {' and '.join(left_out)}"]
        if self._is_async:
            lines.append("TrainerConfig.async_unroll: the process that unrolls was not started; acting and training "
                         "took turns here, so the run is quicker than that")
        return lines
