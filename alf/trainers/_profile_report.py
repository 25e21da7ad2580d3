"""What is told about a profile: the table, the bottleneck, and what helps against it."""

from typing import Dict, NamedTuple, Tuple

import torch

from alf.algorithms.algorithm import Algorithm
from alf.algorithms.config import TrainerConfig
from alf.utils import profiling
from alf.utils.per_process_context import PerProcessContext
from alf.utils.profiling import Phase

_ADVICE = {
    profiling.ENVIRONMENT:
        "Step more environments at once (create_environment.num_parallel_environments={num_environments}), so that one "
        "call does more; on more cores (create_environment.num_workers). Use an environment with a native batch where "
        "there is one.{acting_apart}",
    profiling.POLICY:
        "Step more environments at once (create_environment.num_parallel_environments={num_environments}): a policy "
        "call costs nearly the same for more rows. Use smaller networks for acting.",
    profiling.UNROLL:
        "This is what lies between policy and environment: data transformers and recurrent states. Leave out "
        "transformers that are not needed; step more environments at once, so that each is called less often.",
    profiling.STORAGE:
        "Store less: smaller observations (uint8 rather than float for images, frames stacked by a data transformer), "
        "and rollout_info without what training does not read.",
    profiling.SAMPLING:
        "{fewer_batches}Store smaller observations, and leave out data transformers that are not needed.",
    profiling.UPDATE:
        "{compiling}{fewer_updates}{threads}",
    profiling.SUMMARIES:
        "Record less often (TrainerConfig.summary_interval={summary_interval}), and less (debug_summaries, "
        "summarize_grads_and_vars, summarize_action_distributions).",
    profiling.CHECKPOINT:
        "Save less often (TrainerConfig.num_checkpoints={num_checkpoints}){without_replay}.",
    profiling.EVALUATION:
        "Evaluate less often (TrainerConfig.eval_interval={eval_interval}), with fewer episodes "
        "(num_eval_episodes={num_eval_episodes}){evaluating_apart}.",
    profiling.WAITING:
        "Training waits for the process that unrolls, which is slower: give it more environments, or make more updates "
        "of its steps ({num_updates}).",
    profiling.OTHER:
        "This is the loop itself: iterations are short. Let one do more (TrainerConfig.unroll_length={unroll_length}"
        "{and_num_updates}).",
}


class ProfileResult(NamedTuple):
    """What was measured."""
    first_iteration: int
    num_iterations: int
    env_steps: int
    num_updates: int
    seconds: float
    phases: Dict[str, Phase]  # the largest first; their seconds add up to `seconds`
    beside: Dict[str, float]  # seconds of phases in other threads

    @property
    def bottleneck(self) -> str:
        """The largest phase."""
        return next(iter(self.phases))

    @property
    def env_steps_per_second(self) -> float:
        """Environment steps per second."""
        return self.env_steps / self.seconds


def told_profile(result: ProfileResult) -> str:
    """Return a table with a line for each phase; the lines add up to the last one."""
    last = result.first_iteration + result.num_iterations - 1
    head = (f"profile of iterations {result.first_iteration} to {last}: {result.env_steps:,} environment steps, "
            f"{result.env_steps_per_second:,.0f} steps/s")
    rows = [("phase", "seconds", "share", "ms/iteration", "calls")]
    for name, phase in result.phases.items():
        rows.append((name, *_figures(phase.seconds, result), f"{phase.calls:,}" if phase.calls else ""))
    rows.append(("all", *_figures(result.seconds, result), ""))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [row[0].ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))
             for row in rows]
    return "\n".join([head, *(line.rstrip() for line in lines)])


def _figures(seconds: float, result: ProfileResult) -> Tuple[str, str, str]:
    return (f"{seconds:.3f}", f"{100 * seconds / result.seconds:.1f} %", f"{1e3 * seconds / result.num_iterations:.3f}")


def told_bottleneck(result: ProfileResult, config: TrainerConfig, algorithm: Algorithm, num_environments: int) -> str:
    """Return the largest phase of a run, and what helps against it.

    Args:
        result: what was measured.
        config: the settings of the run.
        algorithm: its root algorithm.
        num_environments: that the run has.
    """
    name = result.bottleneck
    share = 100 * result.phases[name].seconds / result.seconds
    return f"bottleneck: {name}, {share:.0f} %. {advice(name, config, algorithm, num_environments)}"


def advice(phase: str, config: TrainerConfig, algorithm: Algorithm, num_environments: int) -> str:
    """Return what makes a phase quicker and is possible with this algorithm, with the values that the run has.

    Args:
        phase: name of a phase; of one that a user made, little is known.
        config: the settings of the run.
        algorithm: its root algorithm.
        num_environments: that the run has.
    """
    known = _ADVICE.get(phase, "This is a scope of your own: look into it with TrainerConfig.profiling=True.")
    return known.format(**vars(config), num_environments=num_environments, threads=_threads(),
                        **_possible(config, algorithm))


def _threads() -> str:
    """Return the part of advice on what computes an update."""
    if torch.get_default_device().type != "cpu":
        return ""
    return (f" Try another number of threads: this run has --num_threads={torch.get_num_threads()}; one is quickest "
            "for small networks, more for wide ones and images. Large networks need a GPU.")


def _possible(config: TrainerConfig, algorithm: Algorithm) -> Dict[str, str]:
    """Return the parts of advice that depend on what the algorithm learns from, by their names in ``_ADVICE``."""
    parts = dict.fromkeys(("acting_apart", "fewer_batches", "compiling", "without_replay", "and_num_updates",
                           "num_updates"), "")
    parts["evaluating_apart"] = "" if config.async_eval else ", or in a process of its own (async_eval=True)"
    if algorithm.on_policy:
        parts["fewer_updates"] = ("Make fewer updates, of more steps each: there is one for each unroll "
                                  f"(TrainerConfig.unroll_length={config.unroll_length}). Use smaller networks.")
        return parts
    name = "num_updates_per_train_iter" if config.replay_ratio is None else "replay_ratio"
    num_updates = f"{name}={getattr(config, name)}"
    parts.update(num_updates=f"TrainerConfig.{num_updates}", and_num_updates=f", {num_updates}")
    if config.whole_replay_buffer_training:
        parts["fewer_updates"] = (f"Make fewer, larger updates (TrainerConfig.{num_updates}, "
                                  f"mini_batch_size={config.mini_batch_size}).")
    else:
        parts["fewer_updates"] = (f"Make fewer or smaller updates (TrainerConfig.{num_updates}, "
                                  f"mini_batch_size={config.mini_batch_size}).")
        parts["fewer_batches"] = (f"Take fewer, larger mini batches (TrainerConfig.{num_updates}, "
                                  f"mini_batch_size={config.mini_batch_size}). ")
    if not config.keeps_last_unroll:
        parts["without_replay"] = ", or without the replay buffer (ReplayBuffer.enable_checkpoint)"
    if not (config.async_unroll or PerProcessContext().is_distributed):
        parts["acting_apart"] = " Act in a process of its own (TrainerConfig.async_unroll=True)."
    if config.compile is None and config.offline_buffer_dir is None and algorithm.updates_can_be_compiled:
        mode = "cuda-graph" if torch.get_default_device().type == "cuda" else "default"
        parts["compiling"] = f'Compile updates (TrainerConfig.compile="{mode}"). '
    return parts
