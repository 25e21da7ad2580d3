"""ProcessEnvironment: one environment in a process of its own, spoken to through a pipe."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import threading
import time
from typing import Any, Callable

import cloudpickle
import numpy as np
import torch

import alf.nest as nest
import alf.progress as progress
from alf.device_ctx import set_default_device
from alf.environments._pool._closing import close_env
from alf.environments._pool._errors import Failure, WorkerDiedError, exit_reason
from alf.environments._pool._processes import SLICE_SECONDS, derived_seed
from alf.environments._pool._segment import Specs
from alf.environments._pool._stack_file import StackFile
from alf.environments._pool._worker import (
    Constructors,
    build_env,
    call_env,
    end_with_parent,
    leave_signals_to_main,
)
from alf.environments._rows import LAST
from alf.utils.common import set_random_seed

_CLOSE_SECONDS = 2.0


class ProcessEnvironment:
    """An environment that lives in a child process; several of them step at the same time.

    Every request is a message through a pipe, so this is for environments whose steps take long, or that must
    not live in the main process. For batches of light environments there is ``FastParallelEnvironment``.

    A process that ends, or does not answer in time and is killed, raises ``WorkerDiedError``, with the Python stack at
    which it was.

    Args:
        env_constructor: callable that returns an AlfEnvironment; ``env_id`` is passed if it takes that
            argument.
        env_id: index of the environment; None counts as 0.
        flatten: send time steps and actions as flat lists, which pickles faster.
        fast: must be False: time steps in shared memory are the matter of ``FastParallelEnvironment``.
        num_envs: number of environments of the batch this one belongs to; only for messages.
        torch_num_threads_per_env: number of torch threads of the process.
        start_method: ``"fork"``, ``"spawn"`` or ``"forkserver"``.
        name: name of the process.
        step_timeout_seconds: time after which the process counts as hanging in a step.
        reset_timeout_seconds: the same for resets, steps that reset, construction and calls.
    """

    def __init__(
        self,
        env_constructor: Callable,
        env_id: int | None = None,
        flatten: bool = False,
        fast: bool = False,
        num_envs: int = 0,
        torch_num_threads_per_env: int = 1,
        start_method: str = "fork",
        name: str = "",
        *,
        step_timeout_seconds: float = 60.0,
        reset_timeout_seconds: float = 300.0,
    ):
        if fast:
            raise ValueError(
                "ProcessEnvironment.fast: expected False. Use FastParallelEnvironment for environments "
                "that share memory with the main process."
            )
        self._constructor = env_constructor
        self._env_id = 0 if env_id is None else env_id
        self._flatten = flatten
        self._torch_num_threads = torch_num_threads_per_env
        self._context = multiprocessing.get_context(start_method)
        of = f" of {num_envs}" if num_envs else ""
        self._title = name or f"environment {self._env_id}{of}"
        self._step_timeout_seconds = step_timeout_seconds
        self._reset_timeout_seconds = reset_timeout_seconds
        self._resets_next = True  # whether a step that is asked for now resets
        self._process: Any = None
        self._connection: Any = None
        self._specs: Specs | None = None
        self._time_step_spec: Any = None
        self._pending: list[Promise] = []  # requests not answered yet, oldest first
        self._finalizer: Any = None

    # --- start and end ---

    def start(self, wait_to_start: bool = True) -> None:
        """Start the process.

        Args:
            wait_to_start: whether to wait until the environment has been made; else call :meth:`wait_start`.
        """
        self._connection, theirs = self._context.Pipe()
        self._stack_file = StackFile()
        arguments = (
            theirs,
            Constructors({0: self._constructor}),
            self._env_id,
            self._flatten,
            self._torch_num_threads,
            os.getpid(),
            threading.current_thread() is threading.main_thread(),
            progress.get_all_progresses(),
            self._stack_file,
            derived_seed(self._env_id, 0),
        )
        self._process = self._context.Process(target=process_main, args=arguments, name=self._title)
        self._process.start()
        theirs.close()
        self._finalizer = multiprocessing.util.Finalize(
            self, _shut_down, (self._process, self._connection, self._stack_file), exitpriority=100
        )
        if wait_to_start:
            self.wait_start()

    def wait_start(self) -> None:
        """Wait until the environment has been made.

        Raises:
            Exception: what its constructor raised.
        """
        if self._specs is None:
            specs, self._time_step_spec = self._receive("construct")
            self._specs = Specs(*specs)

    def close(self) -> None:
        """Close the environment and end the process; may be called more than once."""
        if self._finalizer is not None:
            self._finalizer()

    # --- requests ---

    def step(self, action: Any, blocking: bool = True) -> Any:
        """Step the environment.

        Args:
            action: nest like ``action_spec()``, without batch dimension if the environment is not batched.
            blocking: whether to wait.
        Returns:
            The time step; if not ``blocking`` a callable that waits for and returns it.
        """
        if self._flatten:
            action = nest.flatten(action)
        return self._ask("step", action, blocking, is_time_step=True)

    def reset(self, blocking: bool = True) -> Any:
        """Reset the environment; arguments and result are as those of :meth:`step`."""
        return self._ask("reset", None, blocking, is_time_step=True)

    def call(self, name: str, *args: Any, **kwargs: Any) -> "Promise":
        """Call the method ``name`` of the environment, or read that attribute.

        Returns:
            A callable that waits for and returns the result.
        """
        return self._ask("call", (name, args, kwargs), blocking=False)

    def render(self, mode: str = "human") -> np.ndarray | None:
        """Return a frame, or show one."""
        return self.call("render", mode)()

    def sync_progress(self) -> None:
        """Pass the progress of this process on to the environment."""
        self._ask("sync_progress", progress.get_all_progresses(), blocking=True)

    def _ask(self, request: str, payload: Any, blocking: bool, is_time_step: bool = False) -> Any:
        if self._process is None or not self._finalizer.still_active():
            raise RuntimeError(f"ProcessEnvironment: {self._title} is not running; call start() first.")
        try:
            self._connection.send_bytes(cloudpickle.dumps((request, payload)))
        except (BrokenPipeError, ConnectionResetError):
            raise self._death() from None
        promise = Promise(self, request if request != "call" else f"call {payload[0]}", is_time_step)
        self._pending.append(promise)
        return promise() if blocking else promise

    def _settle(self, promise: "Promise") -> None:
        # Answers come in the order of the requests.
        while not promise.is_settled:
            oldest = self._pending.pop(0)
            try:
                answer = self._receive(oldest.request)
                oldest.settle(answer, None)
                if oldest.is_time_step:
                    self._resets_next = bool((self._unflatten(answer).step_type == LAST).any())
            except Exception as error:  # kept for the caller of that promise
                oldest.settle(None, error)

    def _receive(self, request: str) -> Any:
        """Return the answer to the oldest request, which is ``request``."""
        is_short = request == "step" and not self._resets_next
        limit = self._step_timeout_seconds if is_short else self._reset_timeout_seconds
        waited = 0.0
        try:
            while not self._connection.poll(SLICE_SECONDS):
                # Counted in slices: time in which this process itself was stopped is not the environment's.
                waited += SLICE_SECONDS
                if waited > limit:
                    raise self._hang(request, waited)
            is_ok, answer = cloudpickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise self._death() from None
        if not is_ok:
            raise answer.to_exception(f"the process of {self._title}")
        return answer

    def _hang(self, request: str, waited: float) -> WorkerDiedError:
        stack = self._stack_file.ask(self._process)
        self._process.kill()
        self.close()
        which = "step" if request == "step" else "reset"
        return WorkerDiedError(
            f"ProcessEnvironment: the process {self._process.pid} of {self._title} did not answer for {waited:.0f} "
            f"seconds at {request} and was killed. If it needs longer, raise {which}_timeout_seconds. It was here:\n"
            f"{stack}"
        )

    def _death(self) -> WorkerDiedError:
        self._process.join(_CLOSE_SECONDS)
        reason = exit_reason(self._process.exitcode)
        stack = self._stack_file.take()
        self.close()
        return WorkerDiedError(
            f"ProcessEnvironment: the process {self._process.pid} of {self._title} {reason}.\n{stack}".rstrip()
        )

    def _unflatten(self, leaves: list) -> Any:
        return nest.pack_sequence_as(self._time_step_spec, leaves) if self._flatten else leaves

    # --- specs ---

    def env_info_spec(self) -> Any:
        """Return the nest of specs of ``env_info``."""
        return self._known_specs().env_info

    def observation_spec(self) -> Any:
        """Return the nest of specs of the observation."""
        return self._known_specs().observation

    def action_spec(self) -> Any:
        """Return the nest of specs of the action."""
        return self._known_specs().action

    def reward_spec(self) -> Any:
        """Return the spec of the reward."""
        return self._known_specs().reward

    def time_step_spec(self) -> Any:
        """Return the TimeStep of specs."""
        self._known_specs()
        return self._time_step_spec._replace(env_info=())

    def _known_specs(self) -> Specs:
        self.wait_start()
        return self._specs


class Promise:
    """A result that is still to come; calling it waits for it.

    Args:
        owner: the environment that was asked.
        request: what was asked for, in words.
        is_time_step: whether the answer is a time step, flattened if the owner does so.
    """

    def __init__(self, owner: ProcessEnvironment, request: str, is_time_step: bool):
        self._owner = owner
        self.request = request
        self.is_time_step = is_time_step
        self.is_settled = False
        self._answer: Any = None
        self._error: Exception | None = None

    def settle(self, answer: Any, error: Exception | None) -> None:
        """Take the answer, or the error that came instead."""
        self._answer, self._error, self.is_settled = answer, error, True

    def __call__(self) -> Any:
        """Wait for the result and return it, or raise what was raised instead."""
        if not self.is_settled:
            self._owner._settle(self)
        if self._error is not None:
            raise self._error
        return self._owner._unflatten(self._answer) if self.is_time_step else self._answer


def process_main(
    connection: Any,
    constructors: Constructors,
    env_id: int,
    flatten: bool,
    torch_num_threads: int,
    main_pid: int,
    started_by_main_thread: bool,
    progresses: dict,
    stack_file: StackFile,
    random_seed: int,
) -> None:
    """Run the process of an environment until it is told to close, or its main process is gone."""
    stack_file.register()
    end_with_parent(main_pid, started_by_main_thread)
    leave_signals_to_main()
    torch.set_num_threads(torch_num_threads)
    set_default_device("cpu")  # CUDA cannot be used after a fork
    set_random_seed(random_seed)  # it has its parent's generators: all processes would draw the same numbers
    progress.update_all_progresses(progresses)
    try:
        env = build_env(constructors.functions[0], env_id)
        time_step_spec = env.time_step_spec()._replace(env_info=env.env_info_spec())
        answer = (True, (tuple(Specs.of(env)), time_step_spec))
    except BaseException as error:
        answer = (False, Failure.of(error, env_id, "construct", 0))
    connection.send_bytes(cloudpickle.dumps(answer))
    if answer[0]:
        process_call(connection, env, flatten, env.action_spec())


def process_call(conn: Any, env: Any, flatten: bool, action_spec: Any) -> None:
    """Answer the requests that come through ``conn`` until it is closed or asks to end.

    Args:
        conn: this process's end of the pipe.
        env: the environment.
        flatten: whether actions come, and time steps go, as flat lists.
        action_spec: nest of specs by which flat actions are packed.
    """
    step_count = 0
    while True:
        try:
            request, payload = cloudpickle.loads(conn.recv_bytes())
        except EOFError:
            request = "close"
        if request == "close":
            close_env(env, "the environment")
            return
        try:
            if request == "step":
                action = nest.pack_sequence_as(action_spec, payload) if flatten else payload
                result = env.step(action)
                step_count += 1
            elif request == "reset":
                result = env.reset()
            elif request == "sync_progress":
                progress.update_all_progresses(payload)
                result = env.sync_progress()
            else:
                name, args, kwargs = payload
                result = call_env(env, name, args, kwargs)
            if flatten and request in ("step", "reset"):
                result = nest.flatten(result)
            data = cloudpickle.dumps((True, result))
        except BaseException as error:  # SystemExit too: the main process decides when this one ends
            index = int(getattr(env, "_env_id", None) or 0)
            data = cloudpickle.dumps((False, Failure.of(error, index, request, step_count)))
        conn.send_bytes(data)


def _shut_down(process: Any, connection: Any, stack_file: StackFile) -> None:
    try:
        connection.send_bytes(cloudpickle.dumps(("close", None)))
    except OSError:
        pass  # it is gone already
    deadline = time.monotonic() + _CLOSE_SECONDS
    # What it still has to say must be read, or it could not get to the end.
    while process.is_alive() and time.monotonic() < deadline:
        try:
            if connection.poll(0.02):
                connection.recv_bytes()
        except (EOFError, OSError):
            process.join(max(deadline - time.monotonic(), 0.0))
    if process.is_alive():
        process.kill()
        process.join(0.5)
    connection.close()
    stack_file.close()
