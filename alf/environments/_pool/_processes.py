"""WorkerProcesses: the worker processes of a pool, what they share, how they are started, heard, replaced and ended."""

from __future__ import annotations

import errno
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import pickle
import resource
import signal
import threading
import time
import zlib
from typing import Any, Callable, NamedTuple

import numpy as np

import alf.progress as progress
from alf.environments._pool import _backend
from alf.environments._pool._errors import Failure, WorkerDiedError, exit_reason
from alf.environments._pool._host import Share
from alf.environments._pool._memory import MemoryWatch
from alf.environments._pool._output import WorkerOutput
from alf.environments._pool._segment import Place, Segment, Specs
from alf.environments._pool._stack_file import StackFile
from alf.environments._pool._worker import CLOSE, Constructors, WorkerSetup, worker_main

#: How long a wait lasts before it looks whether the workers are alive.
SLICE_SECONDS = 0.1

_CLOSE_SECONDS = 2.0  # how long workers may take to close their environments
_MEMORY_INTERVAL_SECONDS = 5.0  # how old what is known of the memory of workers may be
_MESSAGE_BYTES = 1 << 20  # more than any message has that is not the answer to a call
# The end of a pipe, a handle of the process, and the events that wake each other where there are no futexes.
_DESCRIPTORS_PER_WORKER = {"native": 2, "python": 4}
_FIXED_DESCRIPTORS = 16  # shared memory, output, and what is open while a process is started


class PoolOptions(NamedTuple):
    """How a pool treats its workers."""

    backend: str  # "native" or "python"
    start_method: str  # "fork", "spawn" or "forkserver"
    start_serially: bool  # whether a worker is ready before the next is started
    spin: bool  # whether a core is free for everyone who waits
    torch_num_threads: int
    on_worker_death: str  # "raise" or "restart"
    max_restarts: int
    restart_window_seconds: float
    step_timeout_seconds: float
    reset_timeout_seconds: float
    resets_non_finite: bool  # whether environments that return NaN or infinity are reset


class _Entry(NamedTuple):
    process: Any
    connection: Any


class WorkerProcesses:
    """Worker processes that each host several environments; made, they are ready.

    Args:
        constructors: environment constructors by index.
        spare_constructors: per worker, constructors of its spare environments by index.
        shares: per worker, its environments in each part of the batch.
        specs: specs of one environment.
        options: see :class:`PoolOptions`.
    Raises:
        OSError: if this process cannot have the file descriptors that it takes.
        TypeError: if a constructor cannot be sent to another process, and must be.
        Exception: what a constructor raised.
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
        _check_descriptors(len(shares), options)
        self._context = multiprocessing.get_context(options.start_method)
        self._control = Segment().allocate(64 * len(shares))
        #: The control lines, uint8 ``[num_workers, 64]``.
        self.lines = self._control.array(Place.contiguous(0, (len(shares), 64), np.uint8))
        #: The memory of time steps, whose size is decided later.
        self.data = Segment()
        self._events = _backend.make_events(options.backend, len(shares))
        self.signals = _backend.make_signals(options.backend, self.lines, self._events, options.spin)
        self._stack_file = StackFile()
        self._output = WorkerOutput()
        self._memory = MemoryWatch()
        self._memory_looked_at = 0.0
        self._entries: list[_Entry | None] = [None] * len(shares)
        self._num_replaced = 0
        # Runs when this object is collected and before multiprocessing, at exit, waits for its children; not
        # in forked children.
        fds = [self._control, self.data, *self._events_as_files(), self._stack_file, self._output]
        self._finalizer = multiprocessing.util.Finalize(
            self, _shut_down, (self._entries, self.signals, fds), exitpriority=100
        )
        try:
            self._start_all()
        except BaseException:
            self.close()
            raise

    def _events_as_files(self) -> list:
        return [event for pair in self._events for event in pair]

    # --- start and end ---

    def _start_all(self) -> None:
        for worker in range(len(self._shares)):
            self._start(worker, interrupted=False)
            if self._options.start_serially:
                self._await_ready(worker)
        if not self._options.start_serially:
            for worker in range(len(self._shares)):
                self._await_ready(worker)
        self._output.start()

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
            constructors=Constructors({i: self._constructors[i] for i in self.indices(worker)}),
            spare_constructors=Constructors(self._spare_constructors[worker]),
            torch_num_threads=options.torch_num_threads,
            control=self._control,
            num_workers=len(self._shares),
            data=self.data,
            events=self._events,
            stack_file=self._stack_file,
            output=self._output.ends,
            interrupted=interrupted,
            resets_non_finite=options.resets_non_finite,
            progress=progress.get_all_progresses(),
            random_seed=derived_seed(worker, self._num_replaced),
        )
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=worker_main, args=(setup, theirs), name=f"alf-envs-{worker}")
        process.start()
        theirs.close()  # so that the end of the worker is the end of the connection
        self._entries[worker] = _Entry(process, ours)

    def _await_ready(self, worker: int) -> None:
        message = self.receive(worker, self._options.reset_timeout_seconds, "construction")
        if isinstance(message, Failure):
            raise message.to_exception(f"worker {worker}")

    def replace(self, worker: int) -> None:
        """End a worker if it still runs, and start another in its place.

        Raises:
            Exception: what a constructor raised.
        """
        if self.is_alive(worker):
            self.kill(worker)
        self._entries[worker].connection.close()
        self.lines[worker] = 0
        self._num_replaced += 1
        self._start(worker, interrupted=True)
        self._await_ready(worker)

    def kill(self, worker: int) -> None:
        """End a worker by force."""
        process = self._entries[worker].process
        process.kill()
        process.join(_CLOSE_SECONDS)

    def close(self) -> None:
        """End all workers, by force after a while; may be called more than once."""
        self._finalizer()

    @property
    def is_closed(self) -> bool:
        """Whether the workers have been ended."""
        return not self._finalizer.still_active()

    # --- what they say ---

    def send(self, worker: int, data: bytes) -> None:
        """Send a message; if the worker is gone, receiving finds out."""
        try:
            self._entries[worker].connection.send_bytes(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self, worker: int, seconds: float, what: str, as_bytes: bool = False) -> Any:
        """Return the next message of a worker.

        Args:
            worker: which one.
            seconds: how long it may take.
            what: what it is doing, for the error.
            as_bytes: the message is bytes of any length, and returned as they are.
        Raises:
            WorkerDiedError: if it ended, or took longer and was ended.
        """
        process, connection = self._entries[worker]
        waited = 0.0
        while True:
            began = time.monotonic()
            is_over = not self.is_alive(worker)  # before the look for a message: it may have sent one and ended
            sources = self._output.sources()
            ready = multiprocessing.connection.wait([connection, *sources], SLICE_SECONDS)
            try:
                if connection in ready:
                    data = connection.recv_bytes(None if as_bytes else _MESSAGE_BYTES)
                    return data if as_bytes else pickle.loads(data)
            except (EOFError, OSError):  # OSError: a message of a size that there is not
                process.join(_CLOSE_SECONDS)
                is_over = True
            for source in sources:
                if source in ready:
                    self._output.pass_on(source)
            # Time during which this process itself was stopped does not count against the worker.
            waited += min(time.monotonic() - began, 2 * SLICE_SECONDS)
            if is_over:
                reason = self.told_end(worker)
            elif waited > seconds:
                reason = self.stop_hanging(worker, waited)
            else:
                continue
            raise WorkerDiedError(f"{self.title(worker)}, during the {what}, {reason}")

    # --- what is known of them ---

    def indices(self, worker: int) -> list[int]:
        """Return the environments of a worker."""
        return [i for share in self._shares[worker] for i in range(share.start, share.stop)]

    def is_alive(self, worker: int) -> bool:
        """Return whether a worker runs."""
        process = self._entries[worker].process
        # The sentinel also tells the end of a process that something else in this program has waited for.
        return process.is_alive() and not multiprocessing.connection.wait([process.sentinel], 0)

    def process_ids(self) -> list[int]:
        """Return the process id of every worker."""
        return [entry.process.pid for entry in self._entries if entry is not None]

    def title(self, worker: int) -> str:
        """Return which worker it is, in words."""
        return (
            f"FastParallelEnvironment: worker {worker} (process {self._entries[worker].process.pid}, environments "
            f"{_ranges(self.indices(worker))})"
        )

    def stop_hanging(self, worker: int, waited: float) -> str:
        """Kill a worker that does not answer; return what it was doing, in words."""
        stack = self._stack_file.ask(self._entries[worker].process)
        self.kill(worker)
        hint = ""
        if self._options.start_method == "fork":
            hint = "\nIf a library that it uses does not survive a fork, set start_method='forkserver' or 'spawn'."
        return f"did not answer for {waited:.0f} seconds and was killed. It was here:\n{stack}{hint}"

    def told_end(self, worker: int) -> str:
        """Return how a worker has ended, in words, with what is known of why."""
        process = self._entries[worker].process
        process.join(SLICE_SECONDS)
        told = f"{exit_reason(process.exitcode)}."
        if process.exitcode == -signal.SIGKILL:
            told += f"\n{self._memory.table()}"
        stack = self._stack_file.take()
        return f"{told}\n{stack}" if stack else told

    def are_all_killed(self) -> bool:
        """Return whether all of several workers were killed: the system does that when memory runs out."""
        for entry in self._entries:
            entry.process.join(SLICE_SECONDS)  # the system kills one after the other
            if entry.process.exitcode != -signal.SIGKILL:
                return False
        return len(self._entries) > 1

    def look_at_memory(self, now: float) -> None:
        """Note the memory of the workers, if that was not done within the last seconds.

        Args:
            now: ``time.monotonic()``.
        """
        if now - self._memory_looked_at > _MEMORY_INTERVAL_SECONDS:
            self._memory_looked_at = now
            self._memory.look(dict(enumerate(self.process_ids())))


def _check_descriptors(num_workers: int, options: PoolOptions) -> None:
    """Raise if this process cannot open as many files as it needs for its workers."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    free = limit - len(os.listdir("/proc/self/fd"))
    needed = _FIXED_DESCRIPTORS + num_workers * _DESCRIPTORS_PER_WORKER[options.backend]
    if needed > free:
        raise OSError(
            errno.EMFILE,
            f"FastParallelEnvironment: {num_workers} workers need {needed} file descriptors, and {free} of the {limit} "
            "that this process may have are free. Use fewer workers (num_workers; each hosts several environments), or "
            "raise the limit: ulimit -n",
        )


def derived_seed(worker: int, restart: int) -> int:
    """Return a seed for a process, another one after each restart.

    It follows from NumPy's global generator, without drawing from it: fixed where a program has seeded that.
    """
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


def _shut_down(entries: list, signals: Any, files: list) -> None:
    """End the workers: politely if they are idle, then by SIGKILL, for they ignore gentler signals."""
    running = [(worker, entry.process) for worker, entry in enumerate(entries) if entry is not None]
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
    for entry in entries:
        if entry is not None:
            entry.connection.close()
    for file in files:
        file.close()
