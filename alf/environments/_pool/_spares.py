"""Spares: environments reset in the background, to take the place of one whose episode has ended.

Where a reset takes long (a simulator that reloads a world), all other environments of the batch would wait
for it. With spares, the slot goes on at once with another environment that is already reset, and the one
whose episode ended is reset by a thread meanwhile. Spares take turns in a fixed order, so which environment
serves which slot does not depend on timing.
"""

from __future__ import annotations

import collections
import concurrent.futures
from typing import Any

from alf.environments._pool._closing import close_env
from alf.environments._rows import FIRST, LAST, Rows


class Spares:
    """The environments of one host that are out of service, being reset or ready.

    Args:
        envs: unbatched environments to begin with.
    """

    def __init__(self, envs: list):
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="reset-ahead")
        self._queue: collections.deque[tuple[Any, Rows, concurrent.futures.Future]] = collections.deque()
        for env in envs:
            self.give(env)

    def give(self, env: Any) -> None:
        """Take ``env`` out of service and begin to reset it."""
        rows = Rows.allocate(env, 1)
        self._queue.append((env, rows, self._executor.submit(env.reset_into, rows, 0)))

    def take(self) -> tuple[Any, Rows]:
        """Return the environment that has waited longest and its FIRST time step; waits until it is reset."""
        env, rows, reset = self._queue.popleft()
        reset.result()
        return env, rows

    def __len__(self) -> int:
        return len(self._queue)

    def seed(self, seeds: list[int]) -> None:
        """Seed the environments out of service and reset them again."""
        for seed in seeds[: len(self._queue)]:
            env, _ = self.take()
            env.seed(seed)
            self.give(env)

    def close(self) -> None:
        """Close the environments out of service."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        for env, _, _ in self._queue:
            close_env(env, "a spare environment")
        self._queue.clear()


class SpareSlot:
    """Stands for one environment of the batch; after every episode a spare, already reset one takes its place.

    Args:
        env: the environment that serves first.
        spares: where ended environments go and ready ones come from.
    """

    def __init__(self, env: Any, spares: Spares):
        self._env = env
        self._spares = spares
        self._is_empty = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset_into(self, rows: Rows, index: int) -> int:
        """Start a new episode and write its FIRST time step into row ``index``."""
        if not self._is_empty:
            return self._env.reset_into(rows, index)
        self._env, first = self._spares.take()
        self._is_empty = False
        rows.step_type[index] = FIRST
        rows.reward[index] = first.reward[0]
        rows.discount[index] = first.discount[0]
        for block, value in zip((*rows.observation, *rows.env_info), (*first.observation, *first.env_info)):
            block[index] = value[0]
        return FIRST

    def step_into(self, rows: Rows, index: int, action: Any) -> int:
        """Step, or put a ready environment in place of the one whose episode has ended."""
        if self._is_empty:
            return self.reset_into(rows, index)
        step_type = self._env.step_into(rows, index, action)
        if step_type == LAST:
            self._spares.give(self._env)
            self._is_empty = True
        return step_type

    def close(self) -> None:
        """Close the environment in service."""
        if not self._is_empty:
            self._env.close()
