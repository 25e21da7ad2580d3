"""Where the time goes: scopes, each counted without the scopes inside it.

    with profiling.profiled(Profiler()) as profiler:
        with profiling.scope("update"):
            ...
    profiler.phases  # {"update": Phase(seconds=..., calls=...)}

``record_time`` is a scope as well. While nobody profiles, a scope costs a look at one variable.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

ENVIRONMENT, POLICY, UNROLL, STORAGE, SAMPLING = "environment", "policy", "unroll", "storage", "sampling"
UPDATE, SUMMARIES, CHECKPOINT, EVALUATION = "update", "summaries", "checkpoint", "evaluation"
WAITING, OTHER = "waiting", "other"
PHASES = (ENVIRONMENT, POLICY, UNROLL, STORAGE, SAMPLING, UPDATE, SUMMARIES, CHECKPOINT, EVALUATION, WAITING, OTHER)

# What `record_time` calls things, by the phase it belongs to; a name that is not here is a phase of its own.
_PHASE_OF = {
    "train_iter": OTHER,
    "unroll": UNROLL,
    "unroll_env_step": ENVIRONMENT,
    "unroll_store_exp": STORAGE,
    "replay": SAMPLING,
    "preprocess_experience": SAMPLING,
    "train": UPDATE,
    "backward": UPDATE,
    "after_train_iter": UPDATE,
}


@dataclasses.dataclass
class Phase:
    """What one phase took."""
    nanoseconds: int = 0  # in its scopes, without phases inside them
    calls: int = 0  # how often it was entered from another phase

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.nanoseconds * 1e-9


class Event(NamedTuple):
    """One scope, from its beginning to its end, with all that is inside it."""
    name: str
    phase: str
    began: int  # nanoseconds of the clock
    ended: int
    thread: int


class _Open:
    """A scope that has begun."""
    __slots__ = ("name", "phase", "began")

    def __init__(self, name: str, phase: str, began: int):
        self.name, self.phase, self.began = name, phase, began


class Profiler:
    """Adds up what phases take, and keeps what happened when.

    Only the thread that made it is added up: its phases and ``other`` are all of the time between :meth:`start` and
    :meth:`stop`. Scopes of other threads run beside; they are kept as events alone.

    Args:
        clock: returns nanoseconds.
        max_events: how many events are kept; the first ones.
        synchronize: called before the clock is read, to wait for a device that works on its own; None: not needed.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns, max_events: int = 100_000,
                 synchronize: Optional[Callable[[], None]] = None):
        self._clock = clock
        self._max_events = max_events
        self._synchronize = synchronize
        self._thread = threading.get_ident()
        self._beside = threading.local()  # open scopes of another thread
        self._open: List[_Open] = []
        self._reset(0)

    def _reset(self, now: int) -> None:
        self.phases: Dict[str, Phase] = {OTHER: Phase()}
        self.events: List[Event] = []
        self.num_lost_events = 0
        self.num_updates = 0  # steps of the optimizers, all together
        self.began = self.ended = now
        self._counted_until = now  # everything before belongs to a phase

    def start(self) -> None:
        """Begin to measure; what was measured before is forgotten."""
        self._reset(self._now())

    def stop(self) -> None:
        """End the measurement: the rest of the time is counted."""
        self.ended = self._now()
        self._count(self.ended)

    @property
    def seconds(self) -> float:
        """Seconds that were measured, from :meth:`start` to :meth:`stop`; all phases together take as long."""
        return (self.ended - self.began) * 1e-9

    def enter(self, name: str) -> None:
        """Begin a scope.

        Args:
            name: of a phase, or one that `record_time` has; others are phases of their own.
        """
        name = name.removeprefix("time/")
        phase = _PHASE_OF.get(name, name)
        if threading.get_ident() != self._thread:
            vars(self._beside).setdefault("open", []).append(_Open(name, phase, self._clock()))
            return
        now = self._now()
        self._count(now)
        known = self.phases.setdefault(phase, Phase())
        known.calls += not self._open or self._open[-1].phase != phase
        self._open.append(_Open(name, phase, now))

    def exit(self) -> None:
        """End the scope that was begun last."""
        if threading.get_ident() != self._thread:
            self._keep(self._beside.open.pop(), self._clock())
            return
        now = self._now()
        self._count(now)
        self._keep(self._open.pop(), now)

    def _now(self) -> int:
        if self._synchronize is not None:
            self._synchronize()
        return self._clock()

    def _count(self, now: int) -> None:
        """Give the time since the last change to the innermost open scope."""
        phase = self._open[-1].phase if self._open else OTHER
        self.phases.setdefault(phase, Phase()).nanoseconds += now - self._counted_until
        self._counted_until = now

    def _keep(self, scope: _Open, now: int) -> None:
        if len(self.events) >= self._max_events:
            self.num_lost_events += 1
        elif scope.began >= self.began:
            self.events.append(Event(scope.name, scope.phase, scope.began, now, threading.get_ident()))

    def beside(self) -> Dict[str, float]:
        """Return the seconds of phases in other threads, which are not part of :attr:`phases`."""
        seconds: Dict[str, float] = {}
        for event in self.events:
            if event.thread != self._thread:
                seconds[event.phase] = seconds.get(event.phase, 0.0) + (event.ended - event.began) * 1e-9
        return seconds

    def chrome_trace(self) -> Dict[str, Any]:
        """Return the events as a trace that chrome://tracing and https://ui.perfetto.dev show, ready for JSON.

        Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
        """
        threads = [self._thread, *sorted({event.thread for event in self.events} - {self._thread})]
        names = {0: "training", **{i: f"beside {i}" for i in range(1, len(threads))}}
        told = [{"name": "thread_name", "ph": "M", "pid": 0, "tid": i, "args": {"name": names[i]}} for i in names]
        # In the order of time; of two that begin together the outer one first.
        for event in sorted(self.events, key=lambda event: (event.began, -event.ended)):
            told.append({
                "name": event.name, "cat": event.phase, "ph": "X", "pid": 0, "tid": threads.index(event.thread),
                "ts": (event.began - self.began) / 1e3, "dur": (event.ended - event.began) / 1e3,
            })
        return {"traceEvents": told, "displayTimeUnit": "ms"}


_active: Optional[Profiler] = None


def active() -> Optional[Profiler]:
    """Return the profiler that scopes tell; None if nobody profiles."""
    return _active


def activate(profiler: Optional[Profiler]) -> None:
    """Let scopes tell ``profiler`` from now on; None: nobody."""
    global _active
    _active = profiler


def count_update() -> None:
    """Tell the profiler, if there is one, that all optimizers have made a step."""
    if _active is not None:
        _active.num_updates += 1


@contextlib.contextmanager
def profiled(profiler: Profiler) -> Iterator[Profiler]:
    """Context in which ``profiler`` measures."""
    earlier = _active
    activate(profiler)
    profiler.start()
    try:
        yield profiler
    finally:
        profiler.stop()
        activate(earlier)


class _Scope:
    """A context that tells the profiler when it is entered and left."""
    __slots__ = ("_profiler", "_name")

    def __init__(self, profiler: Profiler, name: str):
        self._profiler, self._name = profiler, name

    def __enter__(self) -> None:
        self._profiler.enter(self._name)

    def __exit__(self, *exc_info) -> None:
        self._profiler.exit()


_NOTHING = contextlib.nullcontext()


def scope(name: str) -> contextlib.AbstractContextManager:
    """Return a context whose time is that of a phase, if somebody profiles.

    Args:
        name: one of :data:`PHASES`, or another name, which is a phase of its own.
    """
    return _NOTHING if _active is None else _Scope(_active, name)
