"""ThreadEnvironment: one environment in a thread of its own, with batched tensors as time steps."""

from __future__ import annotations

import concurrent.futures
from typing import Any, Callable

import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._non_finite import FiniteCheck
from alf.environments._pool._closing import close_env
from alf.environments._pool._errors import attributed
from alf.environments.alf_environment import AlfEnvironment


class ThreadEnvironment(AlfEnvironment):
    """An environment whose every method runs in one thread that belongs to it alone.

    It is for a single environment in the main process: some simulators and all OpenGL contexts work only in
    the thread that made them. An environment without batch dimension becomes a batch of one.

    Args:
        env_constructor: callable that returns an AlfEnvironment; it is called in the thread.
    """

    def __init__(self, env_constructor: Callable):
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="environment")
        self._is_closed = False
        self._env: Any = None
        self._num_steps = 0
        try:
            self._env = self._run(env_constructor)
            self._specs = self._run(
                lambda: (
                    self._env.observation_spec(),
                    self._env.action_spec(),
                    self._env.reward_spec(),
                    self._env.env_info_spec(),
                )
            )
        except BaseException:
            self._executor.shutdown(wait=False)
            raise
        self._is_batched = self._env.batched
        name = f"the environment ({type(self._env).__name__})"
        self._check_finite = None if self._env.checks_finite else FiniteCheck(self._specs[0], name)
        self._speaks_numpy = not self._env.is_tensor_based

    def _run(self, function: Callable, *args: Any) -> Any:
        try:
            return self._executor.submit(function, *args).result()
        except BaseException as error:
            phase = "construct" if self._env is None else getattr(function, "__name__", "call")
            failure = attributed(error, 0, phase, self._num_steps, "a thread of the main process")
            if failure is not error:
                raise failure from failure.__cause__
            raise

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
        """Batch size of the environment; 1 where it has none."""
        return self._env.batch_size if self._is_batched else 1

    @property
    def num_tasks(self) -> int:
        """Number of tasks of the environment."""
        return self._env.num_tasks

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks of the environment."""
        return self._env.task_names

    @property
    def metadata(self) -> dict:
        """The metadata of the environment."""
        return self._run(getattr, self._env, "metadata", {})

    def observation_spec(self) -> Any:
        """Return the nest of specs of the observation."""
        return self._specs[0]

    def action_spec(self) -> Any:
        """Return the nest of specs of the action."""
        return self._specs[1]

    def reward_spec(self) -> Any:
        """Return the spec of the reward."""
        return self._specs[2]

    def env_info_spec(self) -> Any:
        """Return the nest of specs of ``env_info``."""
        return self._specs[3]

    def _reset(self) -> TimeStep:
        return self._to_batch(self._run(self._env.reset))

    def _step(self, action: Any) -> TimeStep:
        time_step = self._run(self._env.step, nest.map_structure(self._to_env_action, action))
        self._num_steps += 1
        return self._to_batch(time_step)

    def _to_env_action(self, leaf: Any) -> Any:
        leaf = leaf.detach() if isinstance(leaf, torch.Tensor) else torch.as_tensor(leaf)
        if not self._is_batched:
            leaf = leaf[0]
        return leaf.cpu().numpy() if self._speaks_numpy else leaf

    def _to_batch(self, time_step: TimeStep) -> TimeStep:
        def convert(leaf: Any) -> torch.Tensor:
            tensor = torch.as_tensor(leaf)
            return tensor if self._is_batched else tensor.unsqueeze(0)

        if self._check_finite is not None:
            self._check_finite(time_step)
        return nest.map_structure(convert, time_step)

    def sync_progress(self) -> None:
        """Pass the progress on to the environment."""
        self._run(self._env.sync_progress)

    def render(self, mode: str = "rgb_array") -> np.ndarray | None:
        """Return a frame, or show one."""
        return self._run(self._env.render, mode)

    def seed(self, seed: int) -> None:
        """Seed the environment, from its next reset on."""
        self._run(self._env.seed, seed)

    def get_info(self) -> Any:
        """Return the info of the latest step of the environment."""
        return self._run(self._env.get_info)

    def close(self) -> None:
        """Close the environment and end its thread; may be called more than once."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._run(close_env, self._env, "the environment")
        finally:
            self._executor.shutdown(wait=True)
