"""WorkerPool: starts worker processes, gives them commands, waits, and copes with those that fail."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.util
import os
import threading
import time
import zlib
from typing import Any, Callable, NamedTuple

import cloudpickle
import numpy as np

import alf.progress as progress
from alf.environments._pool import _backend
from alf.environments._pool._errors import Failure, WorkerDiedError, exit_reason
from alf.environments._pool._host import Share, first_unwritten
from alf.environments._pool._segment import Layout, Place, Segment, SharedFd, Specs, Views
from alf.environments._pool._twin import FAILED
from alf.environments._pool._worker import (
    ALL_PARTS,
    CALL,
    CLOSE,
    RESET,
    STACK_SIGNAL,
    Constructors,
    WorkerSetup,
    worker_main,
)
from alf.environments._rows import LAST

logger = logging.getLogger(__name__)

_SLICE_SECONDS = 0.1  # how long a wait lasts before it looks whether the workers are alive
_CLOSE_SECONDS = 2.0  # how long workers may take to close their environments


class PoolOptions(NamedTuple):
    """How a pool treats its workers."""

    backend: str  # "native" or "python"
    start_method: str  # "fork", "spawn" or "forkserver"
    start_serially: bool  # whether a worker is ready before the next is started
    spin: bool  # whether a core is free for everyone who waits
    torch_num_threads: int
    on_worker_death: str  # "raise" or "restart"
    max_restarts: int
    step_timeout_seconds: float
    reset_timeout_seconds: float


class _Process(NamedTuple):
    process: Any
    connection: Any


class WorkerPool:
    """Worker processes that each host several environments.

    Args:
        constructors: environment constructors by index.
        spare_constructors: per worker, constructors of its spare environments by index.
        shares: per worker, its environments in each part of the batch.
        specs: specs of one environment.
        options: see :class:`PoolOptions`.
    """

    def __init__(
        self,
        constructors: list[Callable],
        spare_constructors: list[dict[int, Callable]],
        shares: list[list[Share]],
        specs: Specs,
        options: PoolOptions,
    ):
        self._constructors = constructors
        self._spare_constructors = spare_constructors
        self._shares = shares
        self._specs = specs
        self._options = options
        self._context = multiprocessing.get_context(options.start_method)
        num_workers = len(shares)
        self.num_workers = num_workers
        self._control = Segment().allocate(64 * num_workers)
        self._data = Segment()
        self._lines = self._control.array(Place.contiguous(0, (num_workers, 64), np.uint8))
        self._events = _backend.make_events(options.backend, num_workers)
        self._signals = _backend.make_signals(options.backend, self._lines, self._events, options.spin)
        self._stack_file = SharedFd(os.memfd_create("alf-worker-stack", os.MFD_CLOEXEC))
        self._processes: list[_Process | None] = [None] * num_workers
        self._views: Views | None = None
        self._batch_size = 0
        self._outstanding: dict[int, tuple[int, list[int]]] = {}  # part -> (code, tickets)
        self._seeds: dict[int, int] | None = None
        self._num_restarts = 0
        self.interrupted: list[
            int
        ] = []  # environments whose episodes were lost since the caller last emptied this
        # Runs when this object is collected and before multiprocessing, at exit, waits for its children; not
        # in forked children.
        fds = [self._control, self._data]
        self._finalizer = multiprocessing.util.Finalize(
            self,
            _shut_down,
            (self._processes, self._signals, self._outstanding, fds, self._events, self._stack_file),
            exitpriority=100,
        )
        try:
            self._start_all()
        except BaseException:
            self.close()
            raise

    # --- start and end ---

    def _start_all(self) -> None:
        for worker in range(self.num_workers):
            self._start(worker, interrupted=False)
            if self._options.start_serially:
                self._await_ready(worker)
        if not self._options.start_serially:
            for worker in range(self.num_workers):
                self._await_ready(worker)

    def _indices(self, worker: int) -> list[int]:
        return [i for share in self._shares[worker] for i in range(share.start, share.stop)]

    def _start(self, worker: int, interrupted: bool) -> None:
        options = self._options
        setup = WorkerSetup(
            worker=worker,
            main_pid=os.getpid(),
            started_by_main_thread=threading.current_thread() is threading.main_thread(),
            backend=options.backend,
            spin=options.spin,
            shares=self._shares[worker],
            specs=self._specs,
            constructors=Constructors({i: self._constructors[i] for i in self._indices(worker)}),
            spare_constructors=Constructors(self._spare_constructors[worker]),
            torch_num_threads=options.torch_num_threads,
            control=self._control,
            num_workers=self.num_workers,
            data=self._data,
            events=self._events,
            stack_file=self._stack_file,
            interrupted=interrupted,
            progress=progress.get_all_progresses(),
            random_seed=_derived_seed(worker, self._num_restarts),
        )
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=worker_main, args=(setup, theirs), name=f"alf-envs-{worker}")
        process.start()
        theirs.close()  # so that the end of the worker is the end of the connection
        self._processes[worker] = _Process(process, ours)

    def _await_ready(self, worker: int) -> None:
        message = self._receive(worker, self._options.reset_timeout_seconds, "construction")
        if isinstance(message, Failure):
            raise message.to_exception(f"worker {worker}")

    def close(self) -> None:
        """End all workers, by force after a while; may be called more than once."""
        self._finalizer()

    @property
    def is_closed(self) -> bool:
        """Whether the workers have been ended."""
        return not self._finalizer.still_active()

    def process_ids(self) -> list[int]:
        """Return the process id of every worker."""
        return [entry.process.pid for entry in self._processes if entry is not None]

    # --- the shared blocks ---

    def allocate(self, batch_size: int, num_ring_rows: int) -> Views:
        """Decide the size of the shared blocks, let all workers map them, and return them."""
        layout = Layout(self._specs, batch_size, num_ring_rows)
        self._views = layout.views(self._data.allocate(layout.num_bytes))
        self._batch_size = batch_size
        for worker in range(self.num_workers):
            self._attach(worker)
        return self._views

    def _attach(self, worker: int) -> None:
        self.call(worker, -1, "attach", (self._batch_size, len(self._views.step_type)), {})

    # --- steps and resets ---

    def post(self, command: int, part: int, ring_row: int) -> None:
        """Let all workers run STEP or RESET on ``part`` and write time step ``ring_row``."""
        code = command | part << 8 | ring_row << 16
        self._outstanding[part] = (code, self._signals.post_all(code))

    def wait(self, part: int) -> None:
        """Wait until the command posted for ``part`` is done everywhere.

        Raises:
            Exception: what an environment raised, with a note that names it.
            WorkerDiedError: if a worker ended or did not answer in time, and may not be restarted.
        """
        tickets = self._outstanding[part][1]
        waited = 0.0
        while True:
            began = time.monotonic()
            late = self._signals.wait_all(tickets, _SLICE_SECONDS)
            if late < 0:
                del self._outstanding[part]
                if late == FAILED:
                    self._raise_failures()
                return
            # Time during which this process itself was stopped does not count against the workers.
            waited += min(time.monotonic() - began, 2 * _SLICE_SECONDS)
            for worker, entry in enumerate(self._processes):
                if not entry.process.is_alive() and not self._signals.wait(worker, tickets[worker], 0.0):
                    self._lose(worker, part, "")
                    tickets = self._outstanding[part][1]
            if waited > self._limit(late, part):
                self._lose(late, part, self._stop_hanging(late, waited))
                tickets = self._outstanding[part][1]
                waited = 0.0

    def drain(self) -> None:
        """Wait for everything outstanding and forget its failures: what comes next is a reset."""
        for part in list(self._outstanding):
            try:
                self.wait(part)
            except WorkerDiedError:
                raise
            except Exception as error:  # an environment's, of a step that was given up
                logger.info("an abandoned step of the environments failed: %s", error)

    def _raise_failures(self) -> None:
        # The counter `failed` is the fifth word of a control line; a message has been sent before it is
        # incremented.
        failed = self._lines.view(np.uint32)[:, 4]
        first = None
        for worker in np.flatnonzero(failed):
            for _ in range(int(failed[worker])):
                failure = self._receive(int(worker), 10.0, "failure report")
                first = first or (failure, int(worker))
            failed[worker] = 0
        raise first[0].to_exception(f"worker {first[1]}")

    def _limit(self, worker: int, part: int) -> float:
        """Seconds that the outstanding command may take: an environment may be resetting within a step."""
        options = self._options
        code = self._outstanding[part][0]
        command, ring_row = code & 0xFF, code >> 16
        if command == RESET:
            return options.reset_timeout_seconds
        index = self._unfinished(worker, part, ring_row)
        row = index * self._specs.rows_per_env
        before = self._views.step_type[(ring_row - 1) % len(self._views.step_type)]
        resets = index < 0 or (before[row : row + self._specs.rows_per_env] == LAST).any()
        if resets:
            return max(options.step_timeout_seconds, options.reset_timeout_seconds)
        return options.step_timeout_seconds

    def _unfinished(self, worker: int, part: int, ring_row: int) -> int:
        shares = self._shares[worker] if part == ALL_PARTS else [self._shares[worker][part]]
        for share in shares:
            index = first_unwritten(self._views, share, ring_row, self._specs.rows_per_env)
            if index >= 0:
                return index
        return -1

    # --- lost workers ---

    def _stop_hanging(self, worker: int, waited: float) -> str:
        """Kill a worker that does not answer; return what it was doing."""
        process = self._processes[worker].process
        stack = self._stack_of(process)
        process.kill()
        process.join(_CLOSE_SECONDS)
        return f"did not answer for {waited:.0f} seconds and was killed. It was here:\n{stack}"

    def _stack_of(self, process: Any) -> str:
        fd = self._stack_file.fd
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.kill(process.pid, STACK_SIGNAL)
        text = b""
        for _ in range(20):
            time.sleep(0.05)
            previous, text = text, os.pread(fd, 64 * 1024, 0)
            if text and text == previous:
                break
        lines = []
        is_inherited = False  # below worker_main a forked process shows the stack of the main process
        for line in text.decode(errors="replace").splitlines():
            is_inherited = is_inherited and bool(line)
            if not is_inherited:
                lines.append(line)
            is_inherited = is_inherited or line.endswith(" in worker_main")
        return "\n".join(lines) or "(no answer: it hangs outside Python, or is stopped)"

    def _lose(self, worker: int, part: int, hang: str) -> None:
        """Restart a worker that has ended, or raise."""
        code = self._outstanding[part][0]
        message = self._death_message(worker, part, code >> 16, hang)
        self._replace_or_raise(worker, message)
        self.interrupted += self._indices(worker)
        # Commands are repeated in the order in which they were posted.
        for code, tickets in self._outstanding.values():
            tickets[worker] = self._signals.post(worker, code)

    def _replace_or_raise(self, worker: int, message: str) -> None:
        options = self._options
        if options.on_worker_death == "raise":
            self.close()
            raise WorkerDiedError(message)
        if self._num_restarts >= options.max_restarts:
            self.close()
            raise WorkerDiedError(
                f"{message}\nWorkers were restarted {self._num_restarts} times before, which is all "
                f"that max_restarts={options.max_restarts} allows."
            )
        self._num_restarts += 1
        logger.warning(
            "%s\nRestarting it (%d of %d); its episodes end here.",
            message,
            self._num_restarts,
            options.max_restarts,
        )
        self._processes[worker].connection.close()
        self._lines[worker] = 0
        self._start(worker, interrupted=True)
        self._await_ready(worker)
        if self._seeds is not None:
            # Not the seeds of the beginning, which would play the same episodes again.
            fresh = {
                i: int(np.random.SeedSequence([seed, self._num_restarts]).generate_state(1)[0] >> 1)
                for i, seed in self._seeds.items()
            }
            self._seed_worker(worker, fresh)
        if self._views is not None:
            self._attach(worker)

    def _death_message(self, worker: int, part: int, ring_row: int, hang: str) -> str:
        entry = self._processes[worker]
        entry.process.join(0.1)
        how = hang or f"{exit_reason(entry.process.exitcode)}."
        index = -1 if self._views is None else self._unfinished(worker, part, ring_row)
        at = "between two environments"
        if index >= 0:
            rows = slice(index * self._specs.rows_per_env, (index + 1) * self._specs.rows_per_env)
            actions = [block[rows].tolist() for block in self._views.actions]
            action = actions[0] if len(actions) == 1 else actions
            at = f"in environment {index}, whose last action was {action}"
            if self._seeds is not None:
                at += f" and whose seed was {self._seeds[index]}"
        return (
            f"FastParallelEnvironment: worker {worker} (process {entry.process.pid}, environments "
            f"{_ranges(self._indices(worker))}) {how}\nIt was {at}."
        )

    # --- calls ---

    def call(self, worker: int, env_index: int, name: str, args: tuple, kwargs: dict) -> Any:
        """Return what a method of one environment, or for index -1 of the worker itself, returns."""
        self._signals.post(worker, CALL)
        try:
            self._processes[worker].connection.send_bytes(cloudpickle.dumps((env_index, name, args, kwargs)))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker is gone, which receiving finds out
        is_ok, answer = cloudpickle.loads(
            self._receive(worker, self._options.reset_timeout_seconds, f"call of {name}", as_bytes=True)
        )
        if not is_ok:
            raise answer.to_exception(f"worker {worker}")
        return answer

    def call_all(self, name: str, args: tuple, kwargs: dict) -> dict[int, Any]:
        """Return what a method of every environment returns, by index."""
        results = {}
        for worker in range(self.num_workers):
            results.update(
                zip(self._indices(worker), self.call(worker, -1, "call_all", (name, args, kwargs), {}))
            )
        return results

    def worker_of(self, env_index: int) -> int:
        """Return the worker that hosts an environment."""
        return next(worker for worker in range(self.num_workers) if env_index in self._indices(worker))

    def seed(self, seeds: dict[int, int]) -> None:
        """Seed the environments of all workers, by index."""
        self._seeds = dict(seeds)
        for worker in range(self.num_workers):
            self._seed_worker(worker, seeds)

    def _seed_worker(self, worker: int, seeds: dict[int, int]) -> None:
        mine = {i: seeds[i] for i in self._indices(worker)}
        spares = np.random.SeedSequence([*mine.values(), worker]).generate_state(
            len(self._spare_constructors[worker])
        )
        self.call(worker, -1, "seed", (mine, [int(s >> 1) for s in spares]), {})

    def sync_progress(self) -> None:
        """Send the progress of this process to all workers."""
        for worker in range(self.num_workers):
            self.call(worker, -1, "sync_progress", (progress.get_all_progresses(),), {})

    def _receive(self, worker: int, seconds: float, what: str, as_bytes: bool = False) -> Any:
        process, connection = self._processes[worker]
        waited = 0.0
        while True:
            began = time.monotonic()
            is_over = not process.is_alive()  # before the look for a message: it may have sent one and ended
            try:
                if connection.poll(_SLICE_SECONDS):
                    return connection.recv_bytes() if as_bytes else connection.recv()
            except (EOFError, ConnectionResetError):
                process.join(_CLOSE_SECONDS)
                is_over = True
            waited += min(time.monotonic() - began, 2 * _SLICE_SECONDS)
            if is_over:
                reason = f"{exit_reason(process.exitcode)}."
            elif waited > seconds:
                reason = self._stop_hanging(worker, waited)
            else:
                continue
            message = (
                f"FastParallelEnvironment: worker {worker} (process {process.pid}, environments "
                f"{_ranges(self._indices(worker))}), during the {what}, {reason}"
            )
            self.close()
            raise WorkerDiedError(message)


def _derived_seed(worker: int, restart: int) -> int:
    # From the state of NumPy's global generator: fixed once a program has seeded that, without drawing from
    # it.
    state = zlib.crc32(np.random.get_state()[1].tobytes())
    return int(np.random.SeedSequence([state, worker, restart]).generate_state(1)[0])


def _ranges(indices: list[int]) -> str:
    """Return indices in words: ``0-3, 8-11``."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _shut_down(
    processes: list, signals: Any, outstanding: dict, segments: list, events: list, stack_file: SharedFd
) -> None:
    """End the workers: politely if they are idle, then by SIGKILL, for they ignore gentler signals."""
    running = [(worker, entry.process) for worker, entry in enumerate(processes) if entry is not None]
    deadline = time.monotonic() + _CLOSE_SECONDS
    for worker, process in running:
        try:
            if process.is_alive():
                signals.post(worker, CLOSE)
        except RuntimeError:  # it has not answered for a long time
            process.kill()
    for _, process in running:
        process.join(max(deadline - time.monotonic(), 0.0))
    late = [process for _, process in running if process.is_alive()]
    for process in late:
        process.kill()
    deadline = time.monotonic() + 0.5
    for process in late:
        process.join(max(deadline - time.monotonic(), 0.0))
    for entry in processes:
        if entry is not None:
            entry.connection.close()
    outstanding.clear()
    for segment in segments:
        segment.close()
    for go, done in events:
        os.close(go.fd)
        os.close(done.fd)
    if stack_file.fd >= 0:
        os.close(stack_file.fd)
        stack_file.fd = -1
