"""What the program is doing now: acting, training from stored experience, evaluating."""

import functools
from typing import Callable

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
