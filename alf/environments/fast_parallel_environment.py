"""FastParallelEnvironment: many environments stepped as one batch by few processes over shared memory."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, Sequence

import numpy as np

from alf.config_util import configurable
from alf.data_structures import TimeStep
from alf.device_ctx import get_default_device
from alf.environments._non_finite import NonFinitePolicy
from alf.environments._pool import _backend, _placement
from alf.environments._pool._action_writer import ActionWriter
from alf.environments._pool._closing import close_env
from alf.environments._pool._disturbance import Surroundings
from alf.environments._pool._errors import (  # noqa: F401  (public here)
    TooManyResetsError,
    WorkerDiedError,
    is_of_environment,
    reported,
)
from alf.environments._pool._host import Share
from alf.environments._pool._latency import LatencyWatch
from alf.environments._pool._local_share import LocalShare
from alf.environments._pool._processes import PoolOptions
from alf.environments._pool._ring import TimeStepRing
from alf.environments._pool._segment import Layout, Segment, Specs
from alf.environments._pool._worker import ALL_PARTS, RESET, STEP, build_env, call_env
from alf.environments._pool._worker_pool import WorkerPool
from alf.environments._rows import LAST
from alf.environments.alf_environment import AlfEnvironment, ForeignStateError

logger = logging.getLogger(__name__)

# An environment that takes longer to make is not made a second time only to be measured.
_CHEAP_CONSTRUCTION_SECONDS = 1.0
# How often it is looked at how long steps take and how much memory workers have.
_LOOK_INTERVAL_SECONDS = 2.0

_MAX_RING_ROWS = 2**16  # a command to the workers has 16 bits for the row


@configurable
class FastParallelEnvironment(AlfEnvironment):
    """A batch of environments, stepped by worker processes that host several of them each.

    Time steps lie in shared memory as contiguous blocks ``[B, ...]``; the tensors of a returned TimeStep
    alias them, so that nothing is copied, pickled or sent. They stay as they are for ``num_valid_steps``
    further steps: clone what is kept longer, or ask for more with :meth:`reserve_rows`.

    How many processes there are is decided from the time of one step and the number of cores, and told on the
    console. Light environments are stepped in the main process, where a hand-shake with another process
    would cost more than it saves. The results are the same wherever environments are stepped.

    With ``num_parts=2`` the halves of the batch can be stepped by themselves, so that one is stepped while a
    policy computes actions for the other:

        env.reset()
        env.step_async(actions[0], part=0)
        while True:
            env.step_async(policy(half_1), part=1)
            half_0 = env.step_wait(part=0)
            env.step_async(policy(half_0), part=0)
            half_1 = env.step_wait(part=1)

    An exception of an environment is raised by ``step_wait`` with its own class, a note that names the
    environment, and the traceback from the worker as its cause; ``reset`` starts anew after it. A worker that
    ends, or does not answer in time, raises ``WorkerDiedError``, after which the environment is closed.

    With ``on_worker_death="restart"`` the environments of a worker that fails in any of these ways are made again
    instead, in a new process and with other seeds, and ``interrupted_envs`` names them. What their last actions led to
    is not known. So their episodes end at the time steps before, those from which the lost step set out: in the
    tensors that were returned these become ``LAST``, and the lost step itself returns ``FIRST`` of new episodes.
    Nothing is made up and no return is carried across the gap, for losses leave out what begins at ``LAST``.

    With ``on_non_finite="reset"`` the same is done with an environment that returns NaN or infinity, wherever it is
    stepped: it is reset, and its episode ends at the time step before. One that is a batch itself is reset as a whole.

    Args:
        env_constructors: callables ``constructor(env_id=i)`` (or without arguments) that return
            AlfEnvironments of equal specs, unbatched, or all of one batch size; the last
            ``num_spare_envs_for_reload`` make spares.
        start_serially: whether each worker has made its environments before the next worker begins.
        blocking: step one environment after another in the main process, which makes debugging simple.
        flatten: kept for compatibility; nests are always passed as flat blocks.
        num_spare_envs_for_reload: number of environments that are reset in the background and take the place
            of those whose episode has ended; for environments whose reset takes long. They are shared evenly
            between the processes, each of which uses its own.
        torch_num_threads_per_env: number of torch threads in every worker.
        start_method: ``"fork"``, ``"spawn"`` or ``"forkserver"``. The latter two are for environments that do
            not work in a forked process; they take longer to start.
        num_workers: number of worker processes; 0: everything in the main process; None: decided by
            measuring.
        main_steps: whether the main process steps a share while it waits; None: yes where the batch is one
            part and ``num_workers`` is not given. Say False for environments that disturb their process: what they
            do to its random numbers or threads, or a crash, would befall the training itself.
        num_parts: number of equal parts of the batch that can be stepped by themselves.
        num_ring_rows: number of time steps kept, at least 2.
        on_worker_death: ``"raise"`` or ``"restart"``; the latter leaves no environment in the main process.
        max_restarts: number of restarts within ``restart_window_seconds`` after which a lost worker raises all the
            same. It also does when all workers were killed at once, for then the machine is short of memory.
        restart_window_seconds: length of that time.
        on_non_finite: ``"raise"`` or ``"reset"``: what is done where a reward or an observation is NaN or infinite. An
            action that is raises in any case, for it is not the environment's fault.
        max_non_finite_resets: number of such resets within ``restart_window_seconds`` after which it raises all the
            same.
        step_timeout_seconds: time after which a worker counts as hanging in a step.
        reset_timeout_seconds: the same for resets, construction and calls.
        backend: ``"native"``, ``"python"``, or None for the native one where it was built.
    Raises:
        ValueError: for arguments that do not fit each other, or environments whose specs differ.
    """

    def __init__(
        self,
        env_constructors: Sequence[Callable],
        start_serially: bool = True,
        blocking: bool = False,
        flatten: bool = True,
        num_spare_envs_for_reload: int = 0,
        torch_num_threads_per_env: int = 1,
        start_method: str = "fork",
        *,
        num_workers: int | None = None,
        main_steps: bool | None = None,
        num_parts: int = 1,
        num_ring_rows: int = 4,
        on_worker_death: str = "raise",
        max_restarts: int = 3,
        restart_window_seconds: float = 600.0,
        on_non_finite: str = "raise",
        max_non_finite_resets: int = 10,
        step_timeout_seconds: float = 60.0,
        reset_timeout_seconds: float = 300.0,
        backend: str | None = None,
    ):
        constructors = list(env_constructors)
        self._num_spares = num_spare_envs_for_reload
        self._num_envs = len(constructors) - num_spare_envs_for_reload
        self._num_parts = num_parts
        if blocking:
            num_workers = 0
        self._check_arguments(start_method, num_workers, main_steps, on_worker_death)
        self._non_finite = NonFinitePolicy(
            on_non_finite, max_non_finite_resets, restart_window_seconds, "FastParallelEnvironment"
        )
        self._constructors = constructors[: self._num_envs]
        self._spare_constructors = constructors[self._num_envs :]
        self._num_ring_rows = min(max(2, num_ring_rows), _MAX_RING_ROWS)
        self._device = get_default_device()
        self._backend = _backend.resolve(backend)

        surroundings = Surroundings()
        with reported(0, "construct"):
            probe, step_seconds = self._probe(measure=num_workers is None and self._num_envs > 1)
        changed = surroundings.restore()
        if changed:
            logger.warning(
                "FastParallelEnvironment: environment 0 has changed %s of this process, which is set back. Unless "
                "num_workers or main_steps is given, all environments are stepped in workers.",
                " and ".join(changed),
            )
        self._must_leave_main = num_workers is None and not main_steps and bool(changed)
        self._must_leave_main |= on_worker_death == "restart"
        self.placement = self._place(num_workers, main_steps, step_seconds)
        logger.info("FastParallelEnvironment: %s", self.placement.describe(self._num_envs))
        self._batch_size = self._num_envs * self._specs.rows_per_env
        self._options = PoolOptions(
            backend=self._backend,
            start_method=start_method,
            start_serially=start_serially,
            spin=self.placement.spin,
            torch_num_threads=torch_num_threads_per_env,
            on_worker_death=on_worker_death,
            max_restarts=max_restarts,
            restart_window_seconds=restart_window_seconds,
            step_timeout_seconds=step_timeout_seconds,
            reset_timeout_seconds=reset_timeout_seconds,
            resets_non_finite=self._non_finite.resets,
        )

        self._pool: WorkerPool | None = None
        self._local: LocalShare | None = None
        self._ring: TimeStepRing | None = None
        self._counts = [0] * num_parts  # time steps of each part so far
        self._next_look = 0.0  # on the monotonic clock
        self._pending: set[int] = set()  # parts (or ALL_PARTS) between step_async and step_wait
        self._must_reset = True
        self._returned: list[Any] = []  # step types of the latest time step of each part, where they are copies
        self._interrupted: list[int] = []  # environments that were reset, since the caller emptied this
        self._is_started = self._is_closed = False
        self._probe_env = probe
        self.start()

    # --- construction ---

    def _check_arguments(
        self, start_method: str, num_workers: int | None, main_steps: bool | None, on_worker_death: str
    ) -> None:
        if self._num_envs < 1:
            raise ValueError(
                f"FastParallelEnvironment.env_constructors: expected at least one environment beside the "
                f"{self._num_spares} spares, got {self._num_envs + self._num_spares} constructors."
            )
        if self._num_spares < 0:
            raise ValueError(
                f"FastParallelEnvironment.num_spare_envs_for_reload: expected >= 0, got {self._num_spares}."
            )
        if start_method not in ("fork", "spawn", "forkserver"):
            raise ValueError(
                f"FastParallelEnvironment.start_method: expected 'fork', 'spawn' or 'forkserver', got "
                f"{start_method!r}."
            )
        if on_worker_death not in ("raise", "restart"):
            raise ValueError(
                f"FastParallelEnvironment.on_worker_death: expected 'raise' or 'restart', got "
                f"{on_worker_death!r}."
            )
        if on_worker_death == "restart" and (num_workers == 0 or main_steps):
            raise ValueError(
                "FastParallelEnvironment.on_worker_death: 'restart' needs all environments in workers, for those in "
                f"the main process cannot be made again; got num_workers={num_workers} and main_steps={main_steps}."
            )
        if num_workers is not None and num_workers < 0:
            raise ValueError(
                f"FastParallelEnvironment.num_workers: expected None or >= 0, got {num_workers}."
            )
        if not 1 <= self._num_parts < ALL_PARTS or self._num_envs % self._num_parts:
            raise ValueError(
                f"FastParallelEnvironment.num_parts: expected a divisor of the number of environments "
                f"({self._num_envs}), got {self._num_parts}."
            )

    def _probe(self, measure: bool) -> tuple[Any, float | None]:
        """Make environment 0 for its specs; return it, or None and the time of a step if it was measured."""
        began = time.perf_counter()
        env = build_env(self._constructors[0], 0)
        construction_seconds = time.perf_counter() - began
        if not isinstance(env, AlfEnvironment):
            raise TypeError(
                f"FastParallelEnvironment.env_constructors: expected constructors of AlfEnvironments, got "
                f"{type(env).__name__} from the first. Wrap it, for example with suite_gym.wrap_env."
            )
        self._specs = Specs.of(env)
        self._num_tasks, self._task_names = env.num_tasks, env.task_names
        if self._specs.batched and self._num_spares:
            raise ValueError(
                "FastParallelEnvironment.num_spare_envs_for_reload: environments that are batches reset "
                "by themselves and cannot have spares."
            )
        if self._num_tasks > 1 and self._num_spares:
            raise ValueError(
                "FastParallelEnvironment.num_spare_envs_for_reload: spares are reset before it is known which task "
                f"comes next, and these environments have {self._num_tasks}. Set it to 0."
            )
        if not measure or construction_seconds > _CHEAP_CONSTRUCTION_SECONDS:
            return env, None
        step_seconds = _placement.measure_step_seconds(env)
        close_env(env, "environment 0")  # measuring has used its random numbers; the one that serves is made anew
        return None, step_seconds

    def _place(
        self, num_workers: int | None, main_steps: bool | None, step_seconds: float | None
    ) -> _placement.Placement:
        cores = _placement.usable_cores()
        if num_workers is None:
            if self._num_parts > 1 and main_steps is None:
                chosen = _placement.choose_beside_acting(self._num_envs // self._num_parts, step_seconds, cores)
            else:
                may_step = (main_steps is None or main_steps) and not self._must_leave_main
                chosen = _placement.choose(self._num_envs // self._num_parts, step_seconds, cores, may_step)
            needs_worker = self._must_leave_main and not chosen.num_workers
            return _placement.Placement(1, False, step_seconds, cores) if needs_worker else chosen
        num_workers = min(num_workers, self._num_envs // self._num_parts - bool(main_steps))
        if num_workers <= 0:
            return _placement.Placement(0, True, step_seconds, cores)
        return _placement.Placement(num_workers, bool(main_steps), step_seconds, cores)

    def start(self) -> None:
        """Make the environments and start the workers; done by the constructor, repeated calls do nothing."""
        if self._is_started:
            return
        self._is_started = True
        placement = self.placement
        ranges = _placement.shares_of_hosts(self._num_envs, self._num_parts, placement.num_hosts)
        shares = [[Share(*share) for share in host] for host in ranges]
        numbered = list(enumerate(self._spare_constructors, self._num_envs))
        spares = [dict(numbered[host :: placement.num_hosts]) for host in range(placement.num_hosts)]
        probe, self._probe_env = self._probe_env, None
        first = int(placement.main_steps)
        try:
            # Workers first: a process is best forked while there are few environments in this one.
            if placement.num_workers:
                self._pool = WorkerPool(
                    self._constructors, spares[first:], shares[first:], self._specs, self._options
                )
            if placement.main_steps:
                self._local = LocalShare(
                    self._constructors,
                    spares[0],
                    shares[0],
                    self._specs,
                    self._backend,
                    first_env=probe,
                    resets_non_finite=self._non_finite.resets,
                )
            elif probe is not None:
                close_env(probe, "environment 0")
        except BaseException:
            self.close()
            raise

    def _allocate(self) -> None:
        """Lay out the shared blocks; done at the first reset, when the number of ring rows is known."""
        if self._pool is not None:
            views = self._pool.allocate(self._batch_size, self._num_ring_rows)
        else:
            layout = Layout(self._specs, self._batch_size, self._num_ring_rows)
            segment = Segment().allocate(layout.num_bytes)
            views = layout.views(segment)
            segment.close()
        if self._local is not None:
            self._local.attach(views)
        self._views = views
        self._write_action = ActionWriter(self._specs.action, views.actions, self._num_parts)
        self._ring = TimeStepRing(self._specs, views, self._num_parts, self._device)
        self._latency = LatencyWatch(views.step_seconds)

    # --- stepping ---

    def reset(self) -> TimeStep:
        """Start new episodes in all environments and return their FIRST time step ``[B, ...]``."""
        self._check_open()
        if self._ring is None:
            self._allocate()
        if self._local is not None:
            self._finish_abandoned()
        if self._pool is not None:
            self._pool.drain()
        self._pending.clear()
        self._views.reset_notes[:] = 0
        self._must_reset = True
        count = max(self._counts) + 1
        self._counts = [count] * self._num_parts
        self._run(RESET, ALL_PARTS, count % self._num_ring_rows)
        self._must_reset = False
        self._current_time_step = self._result(ALL_PARTS)
        return self._current_time_step

    def step(self, action: Any) -> TimeStep:
        """Step all environments and return the time step ``[B, ...]`` that follows.

        Args:
            action: nest of tensors or arrays ``[B, ...]`` like ``action_spec()``. Rows whose time step was
                LAST ignore their action and return FIRST.
        """
        self.step_async(action)
        return self.step_wait()

    def step_async(self, action: Any, part: int | None = None) -> None:
        """Begin to step all environments, or those of one part of the batch, and return at once.

        Args:
            action: nest of tensors or arrays ``[B, ...]``, or ``[B / num_parts, ...]`` with ``part``.
            part: which part; None: all.
        """
        if self._must_reset or self._is_closed or self._pending:
            self._check_may_step(part)
        if part is None:
            part, count = ALL_PARTS, self._counts[0] + 1
            if self._num_parts > 1:
                if any(other + 1 != count for other in self._counts):
                    raise RuntimeError(
                        f"FastParallelEnvironment.step_async: the parts have made different numbers of "
                        f"steps {self._counts}; name the part to step."
                    )
            self._write_action(action, ALL_PARTS)
            self._counts = [count] * self._num_parts
        else:
            if not 0 <= part < self._num_parts:
                raise IndexError(
                    f"FastParallelEnvironment.step_async.part: expected one of {self._num_parts} parts, "
                    f"got {part}."
                )
            self._write_action(action, part)
            self._counts[part] = count = self._counts[part] + 1
        self._pending.add(part)
        if self._pool is not None:
            self._pool.post(STEP, part, count % self._num_ring_rows)

    def step_wait(self, part: int | None = None) -> TimeStep:
        """Wait for what :meth:`step_async` has begun and return its time step.

        Returns:
            The time step ``[B, ...]``, or ``[B / num_parts, ...]`` with ``part``.
        """
        self._check_open()
        part = ALL_PARTS if part is None else part
        if part not in self._pending:
            raise RuntimeError(
                "FastParallelEnvironment.step_wait: expected step_async with the same part before."
            )
        self._pending.discard(part)
        count = self._counts[0 if part == ALL_PARTS else part]
        self._finish(STEP, part, count % self._num_ring_rows)
        result = self._result(part)
        self._current_time_step = result if part == ALL_PARTS else None
        return result

    def current_time_step(self) -> TimeStep:
        """Return the time step of the latest ``reset`` or ``step``; resets an environment not yet started.

        Raises:
            RuntimeError: if the parts of the batch have made different numbers of steps.
        """
        if self._current_time_step is None and not self._must_reset:
            if self._pending or len(set(self._counts)) > 1:
                raise RuntimeError(
                    f"FastParallelEnvironment.current_time_step: the parts have made different numbers of steps "
                    f"{self._counts}, or are being stepped."
                )
            self._current_time_step = self._result(ALL_PARTS)
        return super().current_time_step()

    def _finish_abandoned(self) -> None:
        """Make the steps of this process that have begun and that nobody waits for, as workers make theirs."""
        for part in self._pending:
            count = self._counts[0 if part == ALL_PARTS else part]
            try:
                self._local.run(STEP, part, count % self._num_ring_rows)
            except Exception as error:  # what comes next is a reset
                logger.info("an abandoned step of the environments failed: %s", error)

    def _run(self, command: int, part: int, ring_row: int) -> None:
        if self._pool is not None:
            self._pool.post(command, part, ring_row)
        self._finish(command, part, ring_row)

    def _finish(self, command: int, part: int, ring_row: int) -> None:
        """Step the share of this process and wait for the others."""
        try:
            if self._local is not None:
                self._local.run(command, part, ring_row)
            if self._pool is not None:
                self._pool.wait(part)
                if self._pool.ended_rows:
                    self._end_copies(self._pool.ended_rows)
                    self._pool.ended_rows = []
            if self._non_finite.resets:
                self._end_non_finite(command, part, ring_row)
        except BaseException:
            self._must_reset = True
            if self._pool is not None and self._pool.is_closed:
                self.close()
            raise
        now = time.monotonic()
        if now > self._next_look:
            self._look(now)

    def _end_non_finite(self, command: int, part: int, ring_row: int) -> None:
        """End the episodes of environments that were reset because of NaN or infinity, where they were left.

        What ``WorkerPool._end_episodes`` says of lost steps holds here, too.
        """
        first, num_envs = 0, self._num_envs
        if part != ALL_PARTS:
            num_envs //= self._num_parts
            first = part * num_envs
        notes = self._views.reset_notes[first : first + num_envs]
        if not notes[:, 0].any():
            return
        per_env = self._specs.rows_per_env
        for index in np.flatnonzero(notes[:, 0]):
            told = notes[index].tobytes().rstrip(b"\0").decode(errors="replace")
            notes[index] = 0
            self._non_finite.take(told)
            rows = np.arange(per_env) + (first + int(index)) * per_env
            before = self._views.step_type[ring_row - 1]  # row -1 is the one before row 0
            rows = rows[before[rows] != LAST]
            if command == STEP and len(rows):
                before[rows] = LAST
                self._interrupted.append(first + int(index))
                self._end_copies(rows.tolist())

    def _end_copies(self, rows: list[int]) -> None:
        """Let time steps that were returned as copies become LAST where those in shared memory have."""
        part_size = self._batch_size // self._num_parts
        for row in rows if self._ring.copies else ():
            self._returned[row // part_size][row % part_size] = LAST

    def _look(self, now: float) -> None:
        self._next_look = now + _LOOK_INTERVAL_SECONDS
        if self._pool is not None:
            self._pool.look_at_memory(now)
        warning = self._latency.warning()
        if warning:
            logger.warning("FastParallelEnvironment: %s", warning)

    def _result(self, part: int) -> TimeStep:
        count = self._counts[0 if part == ALL_PARTS else part]
        result = self._ring.get(part, count % self._num_ring_rows)
        if self._ring.copies:
            if part == ALL_PARTS:
                self._returned = list(result.step_type.chunk(self._num_parts))
            else:
                self._returned[part] = result.step_type
        return result

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("FastParallelEnvironment: it is closed.")

    def _check_may_step(self, part: int | None) -> None:
        self._check_open()
        if self._must_reset:
            raise RuntimeError(
                "FastParallelEnvironment: expected reset() before the first step, and after a step "
                "that failed."
            )
        if ALL_PARTS in self._pending or part is None or part in self._pending:
            raise RuntimeError("FastParallelEnvironment.step_async: the step before has not been waited for.")

    def _reset(self) -> TimeStep:
        return self.reset()

    def _step(self, action: Any) -> TimeStep:
        return self.step(action)

    @property
    def num_valid_steps(self) -> int | None:
        """For how many further steps the tensors of a returned TimeStep stay untouched; None: for ever."""
        return self._num_ring_rows - 1 if self._device == "cpu" else None

    def reserve_rows(self, num_time_steps: int) -> None:
        """Let at least ``num_time_steps`` successive time steps be valid together, up to 65,536.

        Raises:
            RuntimeError: if the environment has been reset already with fewer.
        """
        num_time_steps = min(num_time_steps, _MAX_RING_ROWS)
        if num_time_steps <= self._num_ring_rows:
            return
        if self._ring is not None:
            raise RuntimeError(
                f"FastParallelEnvironment.reserve_rows: {num_time_steps} time steps cannot be reserved "
                f"after the first reset, which laid out {self._num_ring_rows}. Reserve before, or set "
                "num_ring_rows."
            )
        self._num_ring_rows = num_time_steps

    @property
    def ring(self) -> TimeStep:
        """All time steps that are kept, ``[R, B, ...]``, on the CPU; the latest is at ``ring_row``."""
        if self._ring is None:
            raise RuntimeError("FastParallelEnvironment.ring: expected reset() before.")
        return self._ring.time_steps

    @property
    def ring_row(self) -> int:
        """The row of ``ring`` that holds the latest time step (of part 0)."""
        return self._counts[0] % self._num_ring_rows

    # --- what the environments are ---

    @property
    def is_tensor_based(self) -> bool:
        """True: time steps are torch tensors."""
        return True

    @property
    def batched(self) -> bool:
        """True."""
        return True

    @property
    def batch_size(self) -> int:
        """Number of rows of a time step."""
        return self._batch_size

    @property
    def num_parts(self) -> int:
        """Number of parts that can be stepped by themselves."""
        return self._num_parts

    @property
    def steps_in_background(self) -> bool:
        """Whether workers step all environments, so that this process can do something else meanwhile.

        Not where lost workers are replaced, or environments are reset because of NaN or infinity: the time step that
        such a step sets out from becomes LAST, so it must not be stored before that step has been made.
        """
        in_workers = self.placement.num_workers > 0 and not self.placement.main_steps
        return in_workers and self._options.on_worker_death == "raise" and not self._non_finite.resets

    @property
    def num_tasks(self) -> int:
        """Number of tasks of each environment."""
        return self._num_tasks

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks of each environment."""
        return self._task_names

    @property
    def num_spare_envs_for_reload(self) -> int:
        """Number of spare environments."""
        return self._num_spares

    @property
    def interrupted_envs(self) -> list[int]:
        """Environments whose episodes were cut off, by the loss of their worker or NaN; reading empties the list."""
        indices, self._interrupted = self._interrupted, []
        if self._pool is not None:
            indices += self._pool.interrupted
            self._pool.interrupted = []
        return indices

    @property
    def worker_process_ids(self) -> list[int]:
        """Process ids of the workers."""
        return [] if self._pool is None or self._pool.is_closed else self._pool.process_ids()

    def env_info_spec(self) -> Any:
        """Return the nest of specs of ``env_info``."""
        return self._specs.env_info

    def observation_spec(self) -> Any:
        """Return the nest of specs of the observation."""
        return self._specs.observation

    def action_spec(self) -> Any:
        """Return the nest of specs of the action."""
        return self._specs.action

    def reward_spec(self) -> Any:
        """Return the spec of the reward."""
        return self._specs.reward

    def time_step_spec(self) -> TimeStep:
        """Return the TimeStep of specs."""
        return super().time_step_spec()

    # --- calls ---

    @property
    def envs(self) -> list:
        """The environments that live in this process, and an :class:`EnvProxy` for each of the others."""
        local = self._local_envs()
        return [local[i] if i in local else EnvProxy(self, i) for i in range(self._num_envs)]

    def _local_envs(self) -> dict[int, Any]:
        return {} if self._local is None else self._local.envs

    @property
    def metadata(self) -> dict:
        """The metadata of environment 0."""
        return self.call_env(0, "metadata")

    def call_env(self, index: int, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return ``env.name(*args, **kwargs)`` of one environment, or its attribute ``name``."""
        self._check_idle()
        if not 0 <= index < self._num_envs:
            raise IndexError(
                f"FastParallelEnvironment.call_env.index: expected one of {self._num_envs} environments, "
                f"got {index}."
            )
        if index in self._local_envs():
            return call_env(self._local_envs()[index], name, args, kwargs)
        return self._pool.call(self._pool.worker_of(index), index, name, args, kwargs)

    def call_envs_with_same_args(self, func_name: str, *args: Any, **kwargs: Any) -> list:
        """Return what ``env.func_name(*args, **kwargs)`` returns, for every environment."""
        self._check_idle()
        results = {} if self._local is None else self._local.call_all(func_name, args, kwargs)
        if self._pool is not None:
            results.update(self._pool.call_all(func_name, args, kwargs))
        return [results[i] for i in range(self._num_envs)]

    def render(self, mode: str = "rgb_array") -> np.ndarray | None:
        """Return a frame of environment 0, or show one."""
        return self.call_env(0, "render", mode)

    def seed(self, seeds: Sequence[int] | int) -> None:
        """Seed the environments, from their next reset on.

        Args:
            seeds: one seed for each environment, or one number to which each adds its index; one that is a batch
                itself adds that of its first row.
        """
        self._check_idle()
        if np.ndim(seeds) == 0:
            seeds = [int(seeds) + index * self._specs.rows_per_env for index in range(self._num_envs)]
        if len(seeds) != self._num_envs:
            raise ValueError(
                f"FastParallelEnvironment.seed.seeds: expected {self._num_envs} seeds, one for each "
                f"environment, got {len(seeds)}."
            )
        by_index = {index: int(seed) for index, seed in enumerate(seeds)}
        if self._local is not None:
            self._local.seed(by_index)
        if self._pool is not None:
            self._pool.seed(by_index)

    def get_state(self) -> list | None:
        """Return the states of all environments, None if one has none or there are spare ones.

        None also after workers are lost: if the environment was closed, or new environments have not begun an episode.
        """
        if self._num_spares or self._is_closed:
            return None
        states = self.call_envs_with_same_args("get_state")
        is_known = self._pool is None or not self._pool.has_gaps
        return states if is_known and all(state is not None for state in states) else None

    def set_state(self, state: list) -> None:
        """Bring all environments into the states that :meth:`get_state` returned.

        Raises:
            ForeignStateError: if there are more or fewer of them now, or one is not like it was.
        """
        if not isinstance(state, list) or len(state) != self._num_envs:
            name = state.get("name") if isinstance(state, dict) else None
            got = len(state) if isinstance(state, list) else f"that of a native batch of {name}" if name else "another"
            raise ForeignStateError(
                f"FastParallelEnvironment.set_state: expected the states of {self._num_envs} environments, got {got}. "
                "If the environments were a native batch when it was saved, set create_environment.native=True."
            )
        for index, each in enumerate(state):
            self.call_env(index, "set_state", each)

    def sync_progress(self) -> None:
        """Pass the progress of this process on to all environments."""
        self._check_idle()
        for env in self._local_envs().values():
            env.sync_progress()
        if self._pool is not None:
            self._pool.sync_progress()

    def _check_idle(self) -> None:
        self._check_open()
        if self._pending:
            raise RuntimeError("FastParallelEnvironment: a step has not been waited for.")
        if self._pool is not None and self._must_reset:
            self._pool.drain()

    def close(self) -> None:
        """Close the environments and end the workers; may be called more than once."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._pool is not None:
            self._pool.close()
        if self._local is not None:
            self._local.close()


class EnvProxy:
    """Stands for an environment that lives in a worker.

    Args:
        owner: the environment it is part of.
        index: its index there.
    """

    def __init__(self, owner: FastParallelEnvironment, index: int):
        self._owner = owner
        self.index = index

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return what the method ``name`` returns, or the attribute of that name."""
        return self._owner.call_env(self.index, name, *args, **kwargs)
