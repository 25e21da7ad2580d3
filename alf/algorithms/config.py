"""TrainerConfig: every setting of a training run, in one validated record."""

import dataclasses
import math
import numbers
import typing
from typing import Any, Callable, List, Optional, Union

from absl import logging

from alf.config_util import configurable, get_inoperative_configs, get_operative_configs

# The modes of torch.compile, and two that generate no code: "cuda-graph" starts PyTorch's kernels by one call, and
# "trace" runs what would be compiled as it is, to see where a difference comes from.
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "cuda-graph", "trace")

_MAX_SEED = 2**31 - 1  # seeds of evaluation and of each environment are a little higher, and NumPy takes 32 bits
_MAX_LEAVE_SECONDS = 1e6  # alarms of the system have a limit, too


@configurable
@dataclasses.dataclass
class TrainerConfig:
    """Settings of a training run; confs set them with ``alf.config("TrainerConfig", ...)``.

    The defaults are those of PPO: every iteration unrolls ``unroll_length`` steps and trains
    ``num_updates_per_train_iter`` times on all of them.

    ``whole_replay_buffer_training`` and ``clear_replay_buffer`` together keep the last unroll only, whatever
    ``replay_buffer_length`` says; a warning tells if it says something else.

    With ``unroll_halves`` the policy is called for one half of the environments while worker processes step the other.
    It pays where acting takes about as long as stepping and half a batch takes clearly less than a whole one, as with
    images on a CPU. It is not chosen automatically: a policy that is called for halves draws other random numbers, and
    what was measured must not decide the results of a seed. Needs an even number of environments that
    ``FastParallelEnvironment`` steps; those that it steps in this process give the same results, and gain nothing.

    With ``replay_ratio`` steps count as collected from the unroll on with which training may begin: those before are
    not made up for by many updates at once.

    With ``enable_amp`` networks compute with 16 bits while they are trained: with float16 on CUDA, with bfloat16 on
    CPUs. It pays where large matrix products or convolutions take most of an update: layers from 256 x 256 at batches
    of 256 on a CPU with instructions for bfloat16. Small networks become slower. See docs/mixed_precision.md.

    Raises:
        ValueError: for a value out of its range or values that contradict each other, saying which and what to set.
    """

    # -- the run
    root_dir: str  # directory of the run: everything it writes
    _: dataclasses.KW_ONLY
    conf_file: str = ""  # path of the conf, for processes that load it again
    ml_type: str = "rl"  # "rl": reinforcement learning; "sl", supervised learning, is not in this version
    algorithm_ctor: Optional[Callable] = None  # makes the root algorithm
    data_transformer_ctor: Union[None, Callable, List[Callable]] = None  # makes the data transformers, in order
    random_seed: Optional[int] = None  # seed of the run; None: a new one every time, written to the summary
    num_iterations: int = 1000  # length of the run; 0: no limit (num_env_steps decides)
    num_env_steps: int = 0  # of the run; 0: no limit; both set: training goes on after the environments stop

    # -- unroll
    unroll_length: float = 8  # steps of each environment per iteration; 0.25: one step every fourth iteration
    unroll_halves: bool = False  # act for one half of the environments while workers step the other; see the notes
    unroll_with_grad: bool = False  # keep the graph of an off-policy unroll
    use_root_inputs_for_after_train_iter: bool = True  # give `after_train_iter` the time steps; False saves memory
    async_unroll: bool = False  # unroll in a process of its own
    max_unroll_length: int = 0  # async: cap when unroll_length is 0
    unroll_queue_size: int = 200  # async: steps that may wait
    unroll_step_interval: float = 0  # async: seconds between environment steps
    unroll_parameter_update_period: int = 10  # async: iterations between parameter refreshes
    use_rollout_state: bool = False  # train from the stored recurrent state rather than from zeros
    temporally_independent_train_step: Optional[bool] = None  # fold time into the batch; None: if there is no state
    mask_out_loss_for_last_step: bool = True  # the loss at StepType.LAST does not count
    sync_progress_to_envs: bool = False  # tell environments the progress, for schedulers in them

    # -- checkpoints
    num_checkpoints: int = 10  # how many over the run
    num_checkpoints_to_keep: Optional[int] = None  # newest ones; None: num_checkpoints, at least 10. The best stays too
    max_checkpoint_failures: Optional[int] = None  # saves that fail in a row before training ends; None: it goes on
    leave_within_seconds: float = 30.0  # of SIGTERM: an iteration that takes longer is given up, and nothing is saved
    confirm_checkpoint_upon_crash: bool = True  # published name; a crash never asks here, it leaves the last checkpoint
    no_thread_env_for_conf: bool = False  # published name; no environment is ever made only to list its configs

    # -- evaluation
    evaluate: bool = False  # evaluate while training
    num_evals: Optional[int] = None  # how many over the run, instead of eval_interval
    eval_interval: int = 10  # iterations between evaluations
    epsilon_greedy: float = 0.0  # probability of random actions in evaluation
    eval_uncertainty: bool = False  # "sl" only, which is not in this version
    num_eval_episodes: int = 10  # episodes per evaluation
    num_eval_environments: int = 1  # environments evaluated in parallel
    async_eval: bool = True  # in another process, while training goes on
    ddp_paras_check_interval: int = 0  # iterations between checks that all ranks have equal parameters

    # -- summaries
    num_summaries: Optional[int] = None  # how many over the run, instead of summary_interval
    summary_interval: int = 50  # iterations between summaries
    summarize_first_interval: bool = True  # summarize every iteration of the first interval
    update_counter_every_mini_batch: bool = False  # count mini batches rather than iterations as steps
    summaries_flush_secs: float = 1  # seconds between writes
    summary_max_queue: int = 10  # summaries that may wait
    metric_min_buffer_size: int = 10  # episodes that metrics average over, at least
    debug_summaries: bool = False  # more summaries
    profiling: bool = False  # profile the run with cProfile
    enable_amp: bool = False  # networks compute with 16 bits in training; see the notes
    code_snapshots: Optional[List[str]] = None  # files whose text goes to the summary: of alf, of the conf's directory
    summarize_grads_and_vars: bool = False  # histograms of gradients and parameters
    summarize_gradient_noise_scale: bool = False  # not in this version
    summarize_action_distributions: bool = False  # parameters of the distributions of actions
    summarize_output: bool = False  # mean and histogram of network outputs in training

    # -- training
    initial_collect_steps: int = 0  # time steps, the first of each episode too, in a replay buffer before an update
    num_updates_per_train_iter: int = 4  # updates per iteration; epochs with whole_replay_buffer_training
    mini_batch_length: Optional[int] = None  # steps of a sampled sequence; None: unroll_length
    mini_batch_size: Optional[int] = None  # sequences of a mini batch; None: number of environments
    whole_replay_buffer_training: bool = True  # train on all that is stored, not on samples
    replay_buffer_length: int = 1024  # steps of each environment
    priority_replay: bool = False  # sample by priority
    priority_replay_alpha: Any = 0.7  # exponent of priorities; a number or a scheduler
    priority_replay_beta: Any = 0.4  # exponent of importance weights; a number or a scheduler
    priority_replay_eps: float = 1e-6  # smallest priority
    offline_buffer_dir: Union[None, str, List[str]] = None  # stored buffers to load
    offline_buffer_length: Optional[int] = None  # at most so many steps of each
    rl_train_after_update_steps: int = 0  # hybrid: updates before online training starts
    rl_train_every_update_steps: int = 1  # hybrid: online training every so many updates
    empty_cache: bool = False  # free cached memory of CUDA devices after each iteration
    normalize_importance_weights_by_max: bool = False  # divide them by the largest of a mini batch
    clear_replay_buffer: bool = True  # with whole_replay_buffer_training: only the last unroll is stored
    visualize_alf_tree: bool = False  # not in this version
    non_finite: str = "raise"  # a loss or gradient that is NaN or infinite: "raise", or "skip_update" and count it
    replay_ratio: Optional[float] = None  # steps learned / collected, not num_updates_per_train_iter; see the notes
    compile: Optional[str] = None  # compile updates: "default" or another of COMPILE_MODES; see docs/compile.md

    def __post_init__(self):
        self._check_types()
        self._check_choice("ml_type", ("rl", "sl"))
        self._check_choice("non_finite", ("raise", "skip_update"))
        self._check_choice("compile", (None, *COMPILE_MODES))
        for name in ("num_iterations", "num_env_steps", "unroll_length", "num_checkpoints", "initial_collect_steps",
                     "summaries_flush_secs", "rl_train_after_update_steps",
                     "ddp_paras_check_interval", "max_unroll_length", "unroll_step_interval", "leave_within_seconds"):
            self._check_at_least(name, 0)
        for name in ("summary_interval", "eval_interval", "num_updates_per_train_iter", "replay_buffer_length",
                     "num_eval_episodes", "num_eval_environments", "metric_min_buffer_size", "unroll_queue_size",
                     "unroll_parameter_update_period", "rl_train_every_update_steps", "summary_max_queue"):
            self._check_at_least(name, 1)
        for name in ("num_checkpoints_to_keep", "max_checkpoint_failures"):
            if getattr(self, name) is not None:
                self._check_at_least(name, 1)
        for name in ("num_evals", "num_summaries", "mini_batch_length", "mini_batch_size", "offline_buffer_length"):
            if getattr(self, name) is not None:
                self._check_at_least(name, 1)
        if self.replay_ratio is not None and not self.replay_ratio > 0:
            self._refuse("replay_ratio", "None or a number > 0")
        self._check_at_least("priority_replay_eps", 0)
        for name in ("priority_replay_alpha", "priority_replay_beta"):
            value = getattr(self, name)
            if not (callable(value) or (_is_finite(value) and value >= 0)):
                self._refuse(name, "a number >= 0 or a scheduler")
        if self.random_seed is not None and not 0 <= self.random_seed <= _MAX_SEED:
            self._refuse("random_seed", f"None or a number from 0 to {_MAX_SEED}")
        if self.leave_within_seconds > _MAX_LEAVE_SECONDS:
            self._refuse("leave_within_seconds", f"a number from 0, for no limit, to {_MAX_LEAVE_SECONDS:g}")
        if not 0 <= self.epsilon_greedy <= 1:
            self._refuse("epsilon_greedy", "a number from 0 to 1")
        if self.ml_type == "rl":
            self._check_rl()

    def _check_rl(self) -> None:
        if self.num_iterations == 0 and self.num_env_steps == 0:
            raise ValueError("TrainerConfig: expected num_iterations > 0 or num_env_steps > 0, got 0 for both: the "
                             "run would never end. Set one of them with alf.config(\"TrainerConfig\", ...).")
        if self.unroll_length == 0 and not self.async_unroll and self.offline_buffer_dir is None:
            self._refuse("unroll_length", "a number > 0, because there is neither async_unroll nor offline_buffer_dir")
        if self.unroll_length == 0 and not self.async_unroll and self.num_iterations == 0:
            self._refuse("num_iterations", "a number > 0 with unroll_length=0: no environment steps are made, and the "
                         "run would never end")
        most_steps = max(1, math.ceil(self.unroll_length)) + int(self.keeps_last_unroll)  # and one to bootstrap from
        if self.async_unroll and self.unroll_queue_size < most_steps:
            self._refuse("unroll_queue_size", f"at least {most_steps} with unroll_length={self.unroll_length}: so many "
                         "steps are taken at once, and would be waited for forever")
        if self.whole_replay_buffer_training and self.priority_replay:
            raise ValueError("TrainerConfig: priority_replay=True asks for samples by priority, "
                             "whole_replay_buffer_training=True for all that is stored. Set one of them to False.")
        if self.whole_replay_buffer_training and self.replay_ratio is not None:
            raise ValueError("TrainerConfig: replay_ratio counts sampled steps, whole_replay_buffer_training=True "
                             "trains on all that is stored. Set one of them to None or False.")
        if not self.whole_replay_buffer_training:
            length = self.sampled_length
            if length > self.replay_buffer_length:
                raise ValueError(f"TrainerConfig.mini_batch_length: expected at most replay_buffer_length="
                                 f"{self.replay_buffer_length}, for longer sequences are never stored, got {length}.")
        if self.offline_buffer_dir is not None:
            self._check_offline()
            if self.compile is not None:
                self._refuse("compile", "None with offline_buffer_dir, whose updates are not compiled")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        if self.keeps_last_unroll and self.replay_buffer_length not in (defaults["replay_buffer_length"],
                                                                   self.unroll_length + 1):
            logging.warning(
                "TrainerConfig.replay_buffer_length=%s has no effect: with whole_replay_buffer_training and "
                "clear_replay_buffer, both True by default, the buffer holds the unroll_length + 1 = %s steps of the "
                "last unroll. To keep more, set clear_replay_buffer=False.", self.replay_buffer_length,
                self.unroll_length + 1)
        if self.keeps_last_unroll and self.initial_collect_steps:
            logging.warning(
                "TrainerConfig.initial_collect_steps=%s has no effect: with whole_replay_buffer_training and "
                "clear_replay_buffer, both True by default, training uses the last unroll only, and begins with the "
                "first. To collect steps before training, set clear_replay_buffer=False.", self.initial_collect_steps)

    def _check_offline(self) -> None:
        if self.whole_replay_buffer_training:
            self._refuse("whole_replay_buffer_training", "False with offline_buffer_dir, which is sampled from")
        for name in ("mini_batch_size", "mini_batch_length"):
            if getattr(self, name) is None:
                self._refuse(name, "a number with offline_buffer_dir")
        if self.unroll_length == 0 and not self.async_unroll and self.replay_ratio is not None:
            self._refuse("replay_ratio", "None, because nothing is collected with unroll_length=0")

    @property
    def keeps_last_unroll(self) -> bool:
        """Whether an off-policy algorithm trains on all of the last unroll and then forgets it."""
        return self.whole_replay_buffer_training and self.clear_replay_buffer

    @property
    def sampled_length(self) -> int:
        """Steps of a sequence sampled from a replay buffer: ``mini_batch_length``, by default ``unroll_length``."""
        return self.mini_batch_length or max(1, int(self.unroll_length))

    def _check_types(self) -> None:
        """Refuse what is no number of the kind that its annotation says; whole numbers become int."""
        for field in dataclasses.fields(self):
            kinds, value = typing.get_args(field.type) or (field.type, ), getattr(self, field.name)
            if value is None and type(None) in kinds:
                continue
            if bool in kinds:
                if not isinstance(value, bool):
                    self._refuse(field.name, "True or False")
            elif int in kinds:
                if not _is_finite(value) or value != int(value) or abs(value) >= 2**63:
                    self._refuse(field.name, "a whole number")
                setattr(self, field.name, int(value))
            elif float in kinds and not _is_finite(value):
                self._refuse(field.name, "a finite number")

    def _refuse(self, name: str, expected: str):
        value = getattr(self, name)
        places = [f", set by {place}" for known, used, place in
                  get_operative_configs(places=True) + get_inoperative_configs(places=True)
                  if known.endswith(f"TrainerConfig.{name}") and used is value and place != "default"]
        raise ValueError(f"TrainerConfig.{name}: expected {expected}, got {value!r}{''.join(places[:1])}. Set it with "
                         f"alf.config(\"TrainerConfig\", {name}=...).")

    def _check_at_least(self, name: str, least: int) -> None:
        if not getattr(self, name) >= least:
            self._refuse(name, f"a number >= {least}")

    def _check_choice(self, name: str, choices) -> None:
        if getattr(self, name) not in choices:
            self._refuse(name, f"one of {list(choices)}")


def _is_finite(value: Any) -> bool:
    """Return whether ``value`` is a number, and neither NaN nor infinite."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and (isinstance(value, numbers.Integral) or math.isfinite(value))
