"""The worker process: builds its environments, then steps them whenever the main process says so."""

from __future__ import annotations

import ctypes
import inspect
import os
import select
import signal
import sys
import threading
from typing import Any, Callable, NamedTuple

import cloudpickle
import torch

import alf.progress as progress
from alf.device_ctx import set_default_device
from alf.environments._pool import _backend
from alf.environments._pool._closing import close_env, end_forked
from alf.environments._pool._errors import Failure
from alf.environments._pool._host import Host, Share
from alf.environments._pool._output import print_into
from alf.environments._pool._segment import Layout, Place, Segment, Specs
from alf.environments._pool._spares import Spares, SpareSlot
from alf.environments._pool._stack_file import StackFile
from alf.utils.common import set_random_seed
from alf.utils.process_sync import SharedFd

# Commands; a code is command | part << 8 | ring row << 16.
STEP, RESET, CALL, CLOSE = range(1, 5)
ALL_PARTS = 255

_PR_SET_PDEATHSIG = 1


class Constructors:
    """Environment constructors that can be pickled, lambdas and local functions included."""

    def __init__(self, functions: dict[int, Callable]):
        self.functions = functions

    def __reduce__(self):
        try:
            return _load_constructors, (cloudpickle.dumps(self.functions),)
        except Exception as error:
            index, reason = self._first_that_cannot(error)
            raise TypeError(
                f"constructor of environment {index}: it cannot be sent to another process, which 'spawn' and "
                f"'forkserver' need: {reason}. Make inside of it what cannot be pickled (locks, open files, windows, "
                "simulators), or use start_method='fork'."
            ) from error

    def _first_that_cannot(self, error: Exception) -> tuple[int, Exception]:
        for index, function in self.functions.items():
            try:
                cloudpickle.dumps(function)
            except Exception as own_error:
                return index, own_error
        return next(iter(self.functions)), error


def _load_constructors(data: bytes) -> Constructors:
    return Constructors(cloudpickle.loads(data))


class WorkerSetup(NamedTuple):
    """All that a worker needs to begin."""

    worker: int  # index of the worker
    main_pid: int
    started_by_main_thread: bool
    backend: str
    spin: bool
    shares: list[Share]  # per part of the batch
    specs: Specs
    constructors: Constructors  # by environment index
    spare_constructors: Constructors
    torch_num_threads: int
    control: Segment
    num_workers: int
    data: Segment
    events: list
    stack_file: StackFile
    output: tuple[SharedFd, SharedFd]  # where standard output and standard error go
    interrupted: bool  # this worker replaces one that was lost
    resets_non_finite: bool  # see Host
    progress: dict
    random_seed: int  # for the global generators of this process


def build_env(constructor: Callable, index: int) -> Any:
    """Return what ``constructor`` makes; ``env_id=index`` is passed if it takes that argument."""
    try:
        parameters = inspect.signature(constructor).parameters.values()
        takes_id = any(p.name == "env_id" or p.kind is p.VAR_KEYWORD for p in parameters)
    except (TypeError, ValueError):  # some built-in callables do not say
        takes_id = True
    return constructor(env_id=index) if takes_id else constructor()


def check_specs(expected: Specs, env: Any, index: int) -> None:
    """Raise a ValueError if the environment's specs are not those of the batch."""
    differences = expected.differences(Specs.of(env))
    if differences:
        raise ValueError(
            f"environment {index}: its specs differ from those of environment 0 (first, this one): "
            f"{'; '.join(differences)}. All environments of a batch must have equal specs."
        )


def worker_main(setup: WorkerSetup, connection: Any) -> None:
    """Run a worker until it is told to close, or its main process is gone."""
    end_with_parent(setup.main_pid, setup.started_by_main_thread)
    leave_signals_to_main()
    print_into(setup.output)
    setup.stack_file.register()
    # A forked process must not use the thread pool of its parent, which it does not have; one thread needs
    # none.
    torch.set_num_threads(setup.torch_num_threads)
    set_default_device("cpu")  # CUDA cannot be used after a fork
    set_random_seed(setup.random_seed)  # a forked process has its parent's generators: all would draw the same
    progress.update_all_progresses(setup.progress)
    try:
        worker = _Worker(setup, connection)
    except BaseException as error:
        connection.send(Failure.of(error, getattr(error, "env_index", -1), "construct", 0))
        return
    connection.send("ready")
    worker.run()


def leave_signals_to_main() -> None:
    """Ignore what a terminal or a batch system sends to the whole group: the main process decides what it means."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def end_with_parent(main_pid: int, started_by_main_thread: bool) -> None:
    """Let this process end as soon as process ``main_pid`` has ended, whatever it is doing."""
    if started_by_main_thread and sys.platform == "linux":
        # The signal comes when the *thread* that started us ends, hence the condition.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        parent = os.pidfd_open(main_pid)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        poller = select.poll()
        poller.register(parent, select.POLLIN)
        poller.poll()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


class _Worker:
    """The environments of one worker process and its side of the conversation."""

    def __init__(self, setup: WorkerSetup, connection: Any):
        self._setup = setup
        self._connection = connection
        self._pid = os.getpid()
        control = setup.control.attach(64 * setup.num_workers)
        lines = control.array(Place.contiguous(0, (setup.num_workers, 64), "uint8"))
        self._signals = _backend.make_signals(setup.backend, lines, setup.events, setup.spin)
        self._spares: Spares | None = None
        self._envs: dict[int, Any] = {}
        self._host: Host | None = None
        for index, constructor in setup.constructors.functions.items():
            self._envs[index] = self._build(constructor, index)
        if setup.spare_constructors.functions:
            self._spares = Spares([self._build(c, i) for i, c in setup.spare_constructors.functions.items()])
            self._envs = {index: SpareSlot(env, self._spares) for index, env in self._envs.items()}

    def _build(self, constructor: Callable, index: int) -> Any:
        try:
            env = build_env(constructor, index)
            end_forked(self._pid)
            check_specs(self._setup.specs, env, index)
            return env
        except BaseException as error:
            end_forked(self._pid)
            error.env_index = index
            raise

    def run(self) -> None:
        """Obey commands until CLOSE."""
        worker, signals = self._setup.worker, self._signals
        while True:
            code = signals.next(worker, 5.0)
            if code < 0:
                continue
            command, part, ring_row = code & 0xFF, code >> 8 & 0xFF, code >> 16
            if command == CALL:
                self._answer_call()
                signals.finish(worker, False)
            elif command == CLOSE:
                self._close()
                signals.finish(worker, False)
                return
            elif command in (STEP, RESET) and self._exists(part, ring_row):
                signals.finish(worker, not self._run_envs(command, part, ring_row))
            else:
                self._send_damage(code)
                signals.finish(worker, True)

    def _exists(self, part: int, ring_row: int) -> bool:
        is_part = part == ALL_PARTS or part < len(self._setup.shares)
        return self._host is not None and is_part and ring_row < self._host.num_ring_rows

    def _send_damage(self, code: int) -> None:
        try:
            raise RuntimeError(
                f"worker {self._setup.worker} found the command {code:#x}, which there is not: something writes into "
                "the memory that it shares with the main process. Look for native code of the environments that writes "
                "outside of its arrays."
            )
        except RuntimeError as error:
            self._connection.send(Failure.of(error, -1, "step", self._steps()))

    def _run_envs(self, command: int, part: int, ring_row: int) -> bool:
        run = self._host.step if command == STEP else self._host.reset
        phase = "step" if command == STEP else "reset"
        parts = range(len(self._setup.shares)) if part == ALL_PARTS else (part,)
        for each in parts:
            try:
                run(each, ring_row)
            except BaseException as error:  # SystemExit too: a failing environment must not end the worker
                end_forked(self._pid)
                index = getattr(error, "env_index", self._host.unfinished(each, ring_row))
                self._connection.send(Failure.of(error, index, phase, self._host.step_count))
                return False
        end_forked(self._pid)
        return True

    def _answer_call(self) -> None:
        index, name, args, kwargs = cloudpickle.loads(self._connection.recv_bytes())
        try:
            answer = self._call(index, name, args, kwargs)
            data = cloudpickle.dumps((True, answer))
        except BaseException as error:
            data = cloudpickle.dumps((False, Failure.of(error, index, f"call {name}", self._steps())))
        end_forked(self._pid)
        self._connection.send_bytes(data)

    def _call(self, index: int, name: str, args: tuple, kwargs: dict) -> Any:
        if index >= 0:
            return call_env(self._envs[index], name, args, kwargs)
        return getattr(self, f"_do_{name}")(*args, **kwargs)

    def _do_attach(self, batch_size: int, num_ring_rows: int) -> None:
        setup = self._setup
        layout = Layout(setup.specs, batch_size, num_ring_rows)
        views = layout.views(setup.data.attach(layout.num_bytes))
        self._host = Host(
            self._envs,
            setup.shares,
            setup.specs,
            views,
            setup.backend,
            setup.interrupted,
            setup.resets_non_finite,
        )

    def _do_call_all(self, name: str, args: tuple, kwargs: dict) -> list:
        return [call_env(env, name, args, kwargs) for env in self._envs.values()]

    def _do_seed(self, seeds: dict[int, int], spare_seeds: list[int]) -> None:
        for index, seed in seeds.items():
            self._envs[index].seed(seed)
        if self._spares is not None:
            self._spares.seed(spare_seeds)

    def _do_sync_progress(self, values: dict) -> None:
        progress.update_all_progresses(values)
        for env in self._envs.values():
            env.sync_progress()

    def _steps(self) -> int:
        return 0 if self._host is None else self._host.step_count

    def _close(self) -> None:
        for index, env in self._envs.items():
            close_env(env, f"environment {index}")
        if self._spares is not None:
            self._spares.close()
        end_forked(self._pid)


def call_env(env: Any, name: str, args: tuple, kwargs: dict) -> Any:
    """Return ``env.name(*args, **kwargs)``, or ``env.name`` where that is not callable."""
    attribute = getattr(env, name)
    return attribute(*args, **kwargs) if callable(attribute) else attribute
