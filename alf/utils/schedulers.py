"""Values that change with training progress: learning rates, exploration rates, loss weights.

A scheduler is a callable without arguments that returns a Python float. Progress comes from
:mod:`alf.progress`, which the trainer updates once an iteration; all arithmetic is in double precision, so a
schedule is exact at 1e9 steps.
"""

import bisect
import contextlib
import math
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple, Union

from alf.config_util import configurable
from alf.progress import (
    check_progress_type,
    get_all_progresses,
    get_progress,
    update_all_progresses,
    update_progress,
)

__all__ = [
    "ConstantScheduler",
    "CyclicalScheduler",
    "ExponentialScheduler",
    "LinearScheduler",
    "Scheduler",
    "StepScheduler",
    "as_scheduler",
    "disallow_scheduler",
    "get_all_progresses",
    "get_progress",
    "read_scheduler",
    "scheduler_reader",
    "update_all_progresses",
    "update_progress",
]

Number = Union[int, float]

_scheduler_allowed = True


class disallow_scheduler:
    """Forbid reading training progress through schedulers in this process, for instance in an environment
    worker.

    Takes effect when called; used as a context manager it is lifted at the end of the ``with`` block.
    """

    def __init__(self):
        global _scheduler_allowed
        self._allowed_before = _scheduler_allowed
        _scheduler_allowed = False

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        global _scheduler_allowed
        _scheduler_allowed = self._allowed_before


class Scheduler:
    """Base of values that depend on one kind of progress. A subclass defines ``__call__()`` and
    ``final_value()``."""

    def __init__(self, progress_type: str):
        """
        Args:
            progress_type: ``percent`` (finished fraction of training, in [0, 1]), ``iterations``,
                ``global_counter`` or ``env_steps``.
        """
        self._progress_type = check_progress_type(progress_type)

    def progress(self) -> float:
        """Return the current progress of this scheduler's type.

        Raises:
            RuntimeError: schedulers are not allowed in this process.
        """
        if not _scheduler_allowed:
            raise RuntimeError(
                f"{self!r} was evaluated in a process that does not know the training progress. Use a "
                "constant here, or set TrainerConfig.sync_progress_to_envs=True if the process is an "
                "environment worker."
            )
        return get_progress(self._progress_type)

    def __call__(self) -> float:
        """Return the value for the current progress."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__().")

    def final_value(self) -> float:
        """Return the value that holds at the end of training."""
        raise NotImplementedError(f"{type(self).__name__} must define final_value().")


class ConstantScheduler:
    """A value that never changes, with the interface of a scheduler."""

    def __init__(self, value: Number):
        """
        Args:
            value: the value.
        """
        self._value = value

    def __call__(self) -> Number:
        """Return the value."""
        return self._value

    def final_value(self) -> Number:
        """Return the value."""
        return self._value

    def __repr__(self) -> str:
        return repr(self._value)


def _check_schedule(name: str, schedule: Sequence[Tuple[Number, Number]]) -> Tuple[List[float], List[float]]:
    """Return the progresses and the values of a schedule after checking that the progresses increase."""
    try:
        progresses = [float(p) for p, _ in schedule]
        values = [float(v) for _, v in schedule]
    except (TypeError, ValueError) as e:
        raise ValueError(
            f"{name}.schedule: expected a list of (progress, value) pairs, got {schedule!r}."
        ) from e
    if not progresses:
        raise ValueError(f"{name}.schedule: expected at least one (progress, value) pair, got an empty list.")
    if any(later <= earlier for earlier, later in zip(progresses, progresses[1:])):
        raise ValueError(f"{name}.schedule: progresses must increase strictly, got {progresses}.")
    return progresses, values


@configurable
class StepScheduler(Scheduler):
    """A piecewise constant value, optionally preceded by a linear warm-up."""

    def __init__(
        self,
        progress_type: str,
        schedule: List[Tuple[Number, Number]],
        warm_up_period: Number = 0,
        start: Number = 0,
    ):
        """
        Args:
            progress_type: see :class:`Scheduler`.
            schedule: pairs ``(progress, value)``: ``value`` holds while progress is below ``progress`` and
                not below that of the pair before. The last value holds for ever.
            warm_up_period: while progress is in ``[start, start + warm_up_period)`` the value is multiplied
                by a factor that rises linearly from 0 to 1.
            start: the progress at which the warm-up begins. Before it the factor is 0 (if there is a
                warm-up).
        """
        super().__init__(progress_type)
        self._boundaries, self._values = _check_schedule("StepScheduler", schedule)
        if warm_up_period < 0:
            raise ValueError(f"StepScheduler.warm_up_period: expected >= 0, got {warm_up_period}.")
        self._warm_up_period = float(warm_up_period)
        self._start = float(start)

    def __call__(self) -> float:
        progress = self.progress()
        index = min(bisect.bisect_right(self._boundaries, progress), len(self._values) - 1)
        value = self._values[index]
        if self._warm_up_period > 0 and progress < self._start + self._warm_up_period:
            value *= max(progress - self._start, 0.0) / self._warm_up_period
        return value

    def final_value(self) -> float:
        return self._values[-1]

    def __repr__(self) -> str:
        warm_up = (
            f", warm_up_period={self._warm_up_period}, start={self._start}" if self._warm_up_period else ""
        )
        return f"StepScheduler('{self._progress_type}', {list(zip(self._boundaries, self._values))}{warm_up})"


@configurable
class LinearScheduler(Scheduler):
    """A piecewise linear value."""

    def __init__(self, progress_type: str, schedule: List[Tuple[Number, Number]]):
        """
        Args:
            progress_type: see :class:`Scheduler`.
            schedule: knots ``(progress, value)``; between knots the value is interpolated, before the first
                and after the last it is constant.
        """
        super().__init__(progress_type)
        self._knots, self._values = _check_schedule("LinearScheduler", schedule)

    def __call__(self) -> float:
        progress = self.progress()
        right = bisect.bisect_right(self._knots, progress)
        if right == 0:
            return self._values[0]
        if right == len(self._knots):
            return self._values[-1]
        p0, p1 = self._knots[right - 1 : right + 1]
        v0, v1 = self._values[right - 1 : right + 1]
        fraction = (progress - p0) / (p1 - p0)
        return v0 + (v1 - v0) * fraction

    def final_value(self) -> float:
        return self._values[-1]

    def __repr__(self) -> str:
        return f"LinearScheduler('{self._progress_type}', {list(zip(self._knots, self._values))})"


@configurable
class ExponentialScheduler(Scheduler):
    """``initial_value * decay_rate ** (progress / decay_time)``."""

    def __init__(self, progress_type: str, initial_value: Number, decay_rate: Number, decay_time: Number):
        """
        Args:
            progress_type: see :class:`Scheduler`.
            initial_value: value at progress 0.
            decay_rate: factor by which the value changes every ``decay_time``; positive.
            decay_time: in units of progress; positive.
        """
        super().__init__(progress_type)
        if decay_rate <= 0 or decay_time <= 0:
            raise ValueError(
                "ExponentialScheduler: decay_rate and decay_time must be positive, "
                f"got decay_rate={decay_rate}, decay_time={decay_time}."
            )
        self._initial_value = initial_value
        self._decay_rate = decay_rate
        self._decay_time = decay_time

    def _value_at(self, progress: float) -> float:
        return self._initial_value * self._decay_rate ** (progress / self._decay_time)

    def __call__(self) -> float:
        return self._value_at(self.progress())

    def final_value(self) -> float:
        """Return the value at the end of training: at percent 1, or the limit where progress has no end."""
        if self._progress_type == "percent":
            return self._value_at(1.0)
        if self._decay_rate == 1:
            return float(self._initial_value)
        return 0.0 if self._decay_rate < 1 else math.copysign(math.inf, self._initial_value)

    def __repr__(self) -> str:
        return (
            f"ExponentialScheduler('{self._progress_type}', initial_value={self._initial_value}, "
            f"decay_rate={self._decay_rate}, decay_time={self._decay_time})"
        )


@configurable
class CyclicalScheduler(Scheduler):
    """A value that goes back and forth between ``base_lr`` and ``bound_lr``."""

    def __init__(
        self,
        progress_type: str,
        base_lr: Number,
        bound_lr: Number,
        half_cycle_size: Number,
        switch_mode: str = "step",
    ):
        """
        Args:
            progress_type: see :class:`Scheduler`.
            base_lr: the value at progress 0.
            bound_lr: the other end.
            half_cycle_size: length of half a cycle in units of progress.
            switch_mode: ``step``: ``base_lr`` during the first half of each cycle and ``bound_lr`` during the
                second; ``linear``: linearly from ``base_lr`` to ``bound_lr`` and back (the triangular policy
                of https://arxiv.org/abs/1506.01186).
        """
        super().__init__(progress_type)
        if switch_mode not in ("step", "linear"):
            raise ValueError(
                f"CyclicalScheduler.switch_mode: expected 'step' or 'linear', got {switch_mode!r}."
            )
        if half_cycle_size <= 0:
            raise ValueError(f"CyclicalScheduler.half_cycle_size: expected > 0, got {half_cycle_size}.")
        self._base_lr = float(base_lr)
        self._bound_lr = float(bound_lr)
        self._half_cycle_size = half_cycle_size
        self._switch_mode = switch_mode

    def __call__(self) -> float:
        half_cycles, rest = divmod(self.progress(), self._half_cycle_size)
        is_first_half = half_cycles % 2 == 0
        if self._switch_mode == "step":
            return self._base_lr if is_first_half else self._bound_lr
        fraction = rest / self._half_cycle_size
        if not is_first_half:
            fraction = 1 - fraction
        return self._base_lr + (self._bound_lr - self._base_lr) * fraction

    def final_value(self) -> float:
        """Return ``bound_lr``, the end of a half cycle."""
        return self._bound_lr

    def __repr__(self) -> str:
        return (
            f"CyclicalScheduler('{self._progress_type}', base_lr={self._base_lr}, bound_lr={self._bound_lr}, "
            f"half_cycle_size={self._half_cycle_size}, switch_mode='{self._switch_mode}')"
        )


def as_scheduler(value_or_scheduler: Union[Number, Callable[[], Number]]) -> Callable[[], Number]:
    """Return a callable that gives the value: schedulers (any callable) as they are, numbers wrapped.

    Args:
        value_or_scheduler: a number or a callable without arguments.
    """
    if callable(value_or_scheduler):
        return value_or_scheduler
    return ConstantScheduler(value_or_scheduler)


# what takes the place of reading a scheduler; None: nothing
_reader: Optional[Callable[[Callable[[], Number]], Any]] = None


def read_scheduler(scheduler: Callable[[], Number]) -> Any:
    """Return the present value of a scheduler, for train steps and losses.

    It is a number; but while an update is traced (``TrainerConfig.compile``), a value that can change is a 0-d tensor,
    which has the present value in each later update. So do not compare it with numbers.

    Args:
        scheduler: what :func:`as_scheduler` returned.
    """
    if _reader is None or isinstance(scheduler, ConstantScheduler):
        return scheduler()
    return _reader(scheduler)


@contextlib.contextmanager
def scheduler_reader(reader: Callable[[Callable[[], Number]], Any]) -> Iterator[None]:
    """Context in which :func:`read_scheduler` returns ``reader(scheduler)`` for schedulers that are not constant."""
    global _reader
    before, _reader = _reader, reader
    try:
        yield
    finally:
        _reader = before
