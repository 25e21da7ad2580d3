"""Small things that algorithms share: modes of execution, states, seeds, target updates, the global environment."""

import functools
import os
import random
import socket
from typing import Any, Callable, Iterable, List, Optional, Tuple

import numpy as np
import torch
from absl import logging
from torch import nn

from alf.config_util import configurable
from alf.nest import Nest, flatten, flatten_with_structure, get_field, map_structure
from alf.utils.schedulers import as_scheduler
from alf.utils.spec_utils import zeros_from_spec

# ---- modes -------------------------------------------------------------------------------------------------------

_MODES = ("other", "rollout", "replay", "eval", "pretrain")
_OTHER, _ROLLOUT, _REPLAY, _EVAL, _PRETRAIN = range(len(_MODES))
_mode = _OTHER


def set_exe_mode(mode: int) -> None:
    """Set what the program is doing now, an index into other, rollout, replay, eval, pretrain."""
    global _mode
    _mode = mode


def exe_mode_name() -> str:
    """Return what the program is doing now: other, rollout, replay, eval or pretrain."""
    return _MODES[_mode]


class _ModeContext:
    _entered_mode = _OTHER

    def __enter__(self):
        global _mode
        self._outer_mode, _mode = _mode, self._entered_mode
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        set_exe_mode(self._outer_mode)


class rollout_context(_ModeContext):
    """Context in which :func:`is_rollout` is true: acting in training environments."""
    _entered_mode = _ROLLOUT


class replay_context(_ModeContext):
    """Context in which :func:`is_replay` is true: training from stored experience."""
    _entered_mode = _REPLAY


class eval_context(_ModeContext):
    """Context in which :func:`is_eval` is true: evaluation and play."""
    _entered_mode = _EVAL


class pretrain_context(_ModeContext):
    """Context in which :func:`is_pretrain` is true: offline training before any unroll."""
    _entered_mode = _PRETRAIN


def is_rollout() -> bool:
    """Return whether the program is acting in training environments."""
    return _mode == _ROLLOUT


def is_replay() -> bool:
    """Return whether the program is training from stored experience."""
    return _mode == _REPLAY


def is_eval() -> bool:
    """Return whether the program is evaluating."""
    return _mode == _EVAL


def is_pretrain() -> bool:
    """Return whether the program is training offline before any unroll."""
    return _mode == _PRETRAIN


def is_training(alg) -> bool:
    """Return whether gradients are made now: while replaying, or while unrolling an on-policy algorithm."""
    return is_replay() or is_pretrain() or (is_rollout() and bool(alg.on_policy))


def _mark(context: type, func: Callable) -> Callable:

    @functools.wraps(func)
    def marked(*args, **kwargs):
        with context():
            return func(*args, **kwargs)

    return marked


mark_eval = functools.partial(_mark, eval_context)
mark_replay = functools.partial(_mark, replay_context)
mark_rollout = functools.partial(_mark, rollout_context)
mark_pretrain = functools.partial(_mark, pretrain_context)

# ---- logging -----------------------------------------------------------------------------------------------------

_logged_once = set()


def info(msg: str, *args) -> None:
    """Log ``msg % args`` as information."""
    logging.info(msg, *args)


def warning(msg: str, *args) -> None:
    """Log ``msg % args`` as a warning."""
    logging.warning(msg, *args)


def info_once(msg: str, *args) -> None:
    """Log ``msg % args`` as information, the first time only."""
    if (msg, args) not in _logged_once:
        _logged_once.add((msg, args))
        logging.info(msg, *args)


def warning_once(msg: str, *args) -> None:
    """Log ``msg % args`` as a warning, the first time only."""
    if (msg, args) not in _logged_once:
        _logged_once.add((msg, args))
        logging.warning(msg, *args)


def log_metrics(metrics: Iterable, prefix: str = "") -> None:
    """Log one line a metric: its name and result."""
    lines = [f"{metric.name} = {map_structure(_as_python, metric.result())}" for metric in metrics]
    logging.info("%s\n\t\t %s", prefix, "\n\t\t ".join(lines))


def _as_python(value: Any) -> Any:
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray)) else value


# ---- seeds -------------------------------------------------------------------------------------------------------


def set_random_seed(seed: Optional[int]) -> int:
    """Seed Python, NumPy and PyTorch and return the seed; None draws one from the operating system."""
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little") & 0x7fffffff
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed


# ---- states and tensors ------------------------------------------------------------------------------------------


def detach(nests: Nest) -> Nest:
    """Return the nest with its tensors detached from their graph."""
    return map_structure(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, nests)


def expand_dims_as(x: torch.Tensor, y: torch.Tensor, end: bool = True) -> torch.Tensor:
    """Return ``x`` with dimensions of one added until it has as many as ``y``.

    Args:
        x: a tensor whose shape begins (``end``) or ends (not ``end``) like that of ``y``.
        y: the tensor to be like.
        end: add at the end, otherwise in front.
    """
    missing = y.ndim - x.ndim
    if missing <= 0:
        return x
    ones = (1, ) * missing
    return x.reshape(*x.shape, *ones) if end else x.reshape(*ones, *x.shape)


def reset_state_if_necessary(state: Nest, initial_state: Nest, reset_mask: torch.Tensor) -> Nest:
    """Return ``state`` with the rows under ``reset_mask`` taken from ``initial_state``.

    Args:
        state: nest of tensors ``[B, ...]``.
        initial_state: nest of tensors ``[B, ...]``.
        reset_mask: bool ``[B]``.
    """
    leaves, structure = flatten_with_structure(state)
    if not leaves:
        return state
    initial = flatten(initial_state)
    return structure.unflatten(
        [torch.where(expand_dims_as(reset_mask, leaf), start, leaf) for leaf, start in zip(leaves, initial)])


def get_initial_policy_state(batch_size: int, policy_state_spec: Nest) -> Nest:
    """Return zeros ``[batch_size, ...]`` for a nest of specs."""
    return zeros_from_spec(policy_state_spec, batch_size)


def get_initial_time_step(env, first_env_id: int = 0):
    """Return the current time step of ``env``, its environments numbered from ``first_env_id``."""
    time_step = env.current_time_step()
    return time_step if first_env_id == 0 else time_step._replace(env_id=time_step.env_id + first_env_id)


def check_numerics(nested: Nest) -> None:
    """Raise unless all floating point tensors of ``nested`` are finite.

    Raises:
        ValueError: naming the first tensor that is not and how many of its values are not.
    """
    for i, leaf in enumerate(flatten(nested)):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and not torch.isfinite(leaf).all():
            bad = int((~torch.isfinite(leaf)).sum())
            raise ValueError(f"check_numerics: {bad} of {leaf.numel()} values of tensor {i} (shape "
                             f"{tuple(leaf.shape)}) are NaN or infinite.")


def get_all_parameters(obj: nn.Module) -> List[Tuple[str, nn.Parameter]]:
    """Return ``(name, parameter)`` of all parameters in ``obj``."""
    return list(obj.named_parameters())


@configurable
def cast_transformer(observation: Nest, dtype: torch.dtype = torch.float32) -> Nest:
    """Return the observation with all tensors converted to ``dtype``."""
    return map_structure(lambda tensor: tensor.to(dtype), observation)


@configurable
def image_scale_transformer(observation: Nest, fields: Optional[List[str]] = None, min: float = -1.0,
                            max: float = 1.0) -> Nest:
    """Return the observation with uint8 images ``[0, 255]`` scaled to ``[min, max]``.

    Args:
        observation: nest of tensors.
        fields: dotted paths of the images; None: the observation is one image.
        min: what 0 becomes.
        max: what 255 becomes.
    """
    from alf.nest import transform_nest

    def scale(image):
        if image.dtype != torch.uint8:
            raise ValueError(f"image_scale_transformer: expected uint8 images, got {image.dtype}.")
        return image.to(torch.float32) * ((max - min) / 255.0) + min

    for field in ("", ) if fields is None else fields:
        observation = transform_nest(observation, field, scale)
    return observation


# ---- modules that act now and then -------------------------------------------------------------------------------


class Periodically(nn.Module):
    """Calls ``body`` every ``period``-th time it is called itself.

    Args:
        body: called without arguments.
        period: an int, or a scheduler of it.
        name: for the repr.
    """

    def __init__(self, body: Callable, period, name: str = "periodically"):
        super().__init__()
        self._body = body
        self._period = as_scheduler(period)
        self._name = name
        self.register_buffer("_counter", torch.zeros((), dtype=torch.int64))

    def forward(self) -> None:
        """Count one call, and act if it is due."""
        self._counter += 1
        if int(self._counter) >= self._period():
            self._counter.zero_()
            self._body()


@configurable
class TargetUpdater(nn.Module):
    """Moves the parameters of target modules towards those of modules: ``target += tau * (source - target)``.

    Args:
        models: a module or a list of modules.
        target_models: the same number of modules of the same kind.
        tau: how far; 1 copies. A number or a scheduler.
        period: act every so many calls. An int or a scheduler.
        init_copy: copy once at construction.
        delayed_update: move towards the parameters as they were at the last update, not as they are now.
    """

    def __init__(self, models, target_models, tau=1.0, period=1, init_copy: bool = True, delayed_update: bool = False):
        super().__init__()
        # In a plain list: this object must not own the parameters a second time.
        self._pairs = [_paired_tensors(model, target)
                       for model, target in zip(as_list(models), as_list(target_models), strict=True)]
        self._tau = as_scheduler(tau)
        self._period = as_scheduler(period)
        self.register_buffer("_counter", torch.zeros((), dtype=torch.int64))
        self._delayed = None
        if init_copy:
            self._copy()
        if delayed_update:
            self._delayed = [[source.detach().clone() for source in sources] for sources, _, _ in self._pairs]

    @torch.no_grad()
    def _copy(self):
        for sources, targets, buffers in self._pairs:
            torch._foreach_copy_(targets, sources)
            for source, target in buffers:
                target.copy_(source)

    @torch.no_grad()
    def forward(self) -> None:
        """Count one call, and move the targets if it is due."""
        self._counter += 1
        if int(self._counter) < self._period():
            return
        self._counter.zero_()
        tau = self._tau()
        for i, (sources, targets, buffers) in enumerate(self._pairs):
            towards = sources if self._delayed is None else self._delayed[i]
            if tau == 1.0:
                torch._foreach_copy_(targets, towards)
            else:
                torch._foreach_lerp_(targets, towards, tau)
            for source, target in buffers:
                target.copy_(source)
            if self._delayed is not None:
                torch._foreach_copy_(self._delayed[i], sources)


def _paired_tensors(model: nn.Module, target: nn.Module):
    sources, targets = list(model.parameters()), list(target.parameters())
    if [p.shape for p in sources] != [p.shape for p in targets]:
        raise ValueError(f"TargetUpdater: expected target_models with the parameters of models, got "
                         f"{[tuple(p.shape) for p in targets]} for {[tuple(p.shape) for p in sources]}.")
    return sources, targets, list(zip(model.buffers(), target.buffers(), strict=True))


@configurable
class PeriodicReset(nn.Module):
    """Gives modules new random parameters every ``period``-th call.

    Args:
        models: a module or a list of modules with ``reset_parameters`` in them.
        period: an int or a scheduler; a negative one means never.
        reset_buffers: also zero their buffers.
        post_processings: called without arguments after a reset.
    """

    def __init__(self, models, period=1, reset_buffers: bool = True, post_processings: List[Callable] = ()):
        super().__init__()
        self._models = as_list(models)
        self._period = as_scheduler(period)
        self._reset_buffers = reset_buffers
        self._post_processings = list(post_processings)
        self.register_buffer("_counter", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self) -> None:
        """Count one call, and reset if it is due."""
        period = self._period()
        self._counter += 1
        if period <= 0 or int(self._counter) < period:
            return
        self._counter.zero_()
        for model in self._models:
            for module in model.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            if self._reset_buffers:
                for buffer in model.buffers():
                    buffer.zero_()
        for post_processing in self._post_processings:
            post_processing()


# ---- the environment of the conf ---------------------------------------------------------------------------------

_env = None
_env_factory = None
_transformed_observation_spec = None


def set_global_env(env) -> None:
    """Make ``env`` the environment whose specs :func:`get_observation_spec` and the like report; None forgets it."""
    global _env, _transformed_observation_spec
    _env = env
    _transformed_observation_spec = None


def set_env_factory(factory: Optional[Callable]) -> None:
    """Let :func:`get_env` create the environment by ``factory()`` when there is none yet."""
    global _env_factory
    _env_factory = factory


def has_env() -> bool:
    """Return whether the global environment exists already."""
    return _env is not None


def get_env():
    """Return the global environment; the first call creates it.

    Raises:
        RuntimeError: if there is none and nobody said how to create it.
    """
    if _env is None:
        if _env_factory is None:
            raise RuntimeError("get_env: there is no environment yet. Call alf.get_env() from a conf file, or "
                               "alf.utils.common.set_global_env(env) in a program of your own.")
        _env_factory()
    return _env


def set_transformed_observation_spec(spec: Nest) -> None:
    """Tell what the observations look like after the data transformers of the trainer."""
    global _transformed_observation_spec
    _transformed_observation_spec = spec


@configurable
def get_raw_observation_spec(field: Optional[str] = None) -> Nest:
    """Return the spec of the observations of the global environment, or of the part at the dotted path ``field``."""
    spec = get_env().observation_spec()
    return spec if field is None else get_field(spec, field)


@configurable
def get_observation_spec(field: Optional[str] = None) -> Nest:
    """Return the spec of the observations after data transformers, or of the part at the dotted path ``field``."""
    env = get_env()  # first: creating it sets the transformed spec
    spec = env.observation_spec() if _transformed_observation_spec is None else _transformed_observation_spec
    return spec if field is None else get_field(spec, field)


@configurable
def get_action_spec() -> Nest:
    """Return the spec of the actions of the global environment."""
    return get_env().action_spec()


@configurable
def get_reward_spec() -> Nest:
    """Return the spec of the rewards of the global environment."""
    return get_env().reward_spec()


# ---- odds and ends -----------------------------------------------------------------------------------------------


def as_list(x: Any) -> list:
    """Return ``x`` as a list: a list, tuple or dictionary's values copied, anything else as its only element."""
    if isinstance(x, dict):
        return list(x.values())
    return list(x) if isinstance(x, (list, tuple, nn.ModuleList)) else [x]


def tuplify2d(x: Any) -> tuple:
    """Return a pair as a tuple and a single number as ``(x, x)``."""
    if isinstance(x, (tuple, list)):
        if len(x) != 2:
            raise ValueError(f"tuplify2d: expected a number or two numbers, got {x!r}.")
        return tuple(x)
    return (x, x)


@configurable
def flattened_size(spec) -> int:
    """Return the number of elements of a spec."""
    return spec.numel


def get_epsilon_greedy(config) -> float:
    """Return ``config.epsilon_greedy``, or 0 without a config."""
    return 0.0 if config is None else config.epsilon_greedy


def compute_summary_or_eval_interval(config, summary_or_eval_calls: int = 100) -> int:
    """Return after how many iterations to act so as to act ``summary_or_eval_calls`` times in all.

    Args:
        config: the TrainerConfig; ``num_iterations`` decides, or else ``num_env_steps``.
        summary_or_eval_calls: how often.
    """
    if config.num_iterations > 0:
        num_iterations = config.num_iterations
    else:
        num_iterations = config.num_env_steps / (get_env().batch_size * config.unroll_length)
    return max(1, int(num_iterations / summary_or_eval_calls))


def abs_path(path: str) -> str:
    """Return the absolute path with ``~`` and environment variables expanded."""
    return os.path.realpath(os.path.expanduser(os.path.expandvars(path)))


def get_unused_port(start: int, end: int = 65536, n: int = 1):
    """Return the first free TCP port of this machine in ``[start, end)``, or a list of ``n`` of them.

    Raises:
        OSError: if there are not enough.
    """
    ports = []
    for port in range(start, end):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
            try:
                candidate.bind(("", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == n:
            return ports[0] if n == 1 else ports
    raise OSError(f"get_unused_port: expected {n} free ports in [{start}, {end}), found {len(ports)}.")
