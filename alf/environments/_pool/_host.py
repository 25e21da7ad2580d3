"""Host: steps its share of the environments, straight into shared rows, in a worker or the main process."""

from __future__ import annotations

import time
from typing import Any, Callable, NamedTuple

import numpy as np

import alf.nest as nest
from alf.environments._pool import _backend
from alf.environments._pool._errors import NonFiniteStepError, attributed
from alf.environments._pool._latency import LatencySampler
from alf.environments._pool._segment import Specs, Views
from alf.environments._pool._twin import UNWRITTEN
from alf.environments._rows import Rows


class Share(NamedTuple):
    """The environments of one host in one part of the batch: indices ``start`` to ``stop - 1``."""

    start: int
    stop: int


class Host:
    """Steps some environments of the batch.

    Args:
        envs: the environments by index; they hold the rows from ``index * rows_per_env`` on.
        shares: which of them belong to each part of the batch.
        specs: specs of one environment.
        views: the shared blocks.
        backend: ``"native"`` or ``"python"``: what does the bookkeeping of rows and makes plain steps.
        interrupted: whether these environments replace others that were lost: then the first ``step`` of each part
            begins new episodes.
        resets_non_finite: whether an environment that returns NaN or infinity is reset, and writes FIRST instead. Why
            is noted for the main process, which ends its episode at the time step before.
    """

    def __init__(
        self,
        envs: dict[int, Any],
        shares: list[Share],
        specs: Specs,
        views: Views,
        backend: str,
        interrupted: bool = False,
        resets_non_finite: bool = False,
    ):
        self._envs = envs
        self._shares = shares
        self._specs = specs
        self._views = views
        self._backend = backend
        self._keeper = _backend.make_row_keeper(backend, views)
        self._rows = [views.rows(ring_row) for ring_row in range(len(views.step_type))]
        self.num_ring_rows = len(self._rows)
        self._per_env = specs.rows_per_env
        self._interrupted = set(range(len(shares))) if interrupted else set()
        self._resets_non_finite = resets_non_finite
        self._latency = LatencySampler(views.step_seconds)
        self._parts = [(*self._rows_of(share), self._bind(share)) for share in shares]
        self.step_count = 0

    def _rows_of(self, share: Share) -> tuple[int, int]:
        return share.start * self._per_env, share.stop * self._per_env

    def _bind(self, share: Share) -> Callable[[int], None]:
        """Return the function that steps the environments of ``share`` and writes a ring row."""
        # Bound methods are looked up once, not in every step.
        indices = range(share.start, share.stop)
        all_rows, batched = self._rows, self._specs.batched
        read_actions = _action_reader(self._specs.action, self._views.actions, batched)
        is_measured = self._latency.is_due
        if batched:
            steps = [
                (self._guarded(i, self._envs[i].step_into_batch), i * self._per_env, (i + 1) * self._per_env)
                for i in indices
            ]

            def step_batched(ring_row: int) -> None:
                times = [time.monotonic()]
                for step_into_batch, first, last in steps:
                    step_into_batch(all_rows[ring_row], first, last, read_actions(first, last))
                    times.append(time.monotonic())
                if is_measured():
                    self._latency.record(share.start, times)

            return step_batched

        envs = [self._envs[i] for i in indices]
        steps = [self._guarded(i, env.step_into) for i, env in zip(indices, envs)]

        def step_measured(ring_row: int) -> None:
            rows, times = all_rows[ring_row], [time.monotonic()]
            for index, step_into, action in zip(indices, steps, read_actions(share.start, share.stop)):
                step_into(rows, index, action)
                times.append(time.monotonic())
            self._latency.record(share.start, times)

        native = _backend.make_gym_stepper(self._backend, self._views, all_rows, share.start, envs)

        def step(ring_row: int) -> None:
            if is_measured():
                step_measured(ring_row)
            elif native is not None:
                native(ring_row)
            else:
                rows, index = all_rows[ring_row], share.start
                for step_into, action in zip(steps, read_actions(share.start, share.stop)):
                    step_into(rows, index, action)
                    index += 1

        return step

    def step(self, part: int, ring_row: int) -> None:
        """Step the environments of ``part`` with the shared actions, and write time step ``ring_row``.

        Raises:
            NonFiniteStepError: if an action, an observation or a reward is NaN or infinite.
            Exception: whatever an environment raises, with a note that names it.
        """
        start, stop, step_envs = self._parts[part]
        bad = self._keeper.begin(ring_row, start, stop)
        if bad is not None:
            raise self._non_finite_action(*bad)
        if self._interrupted and part in self._interrupted:
            self._reset_envs(part, ring_row)
        else:
            step_envs(ring_row)
        self._finish(ring_row, start, stop)
        self.step_count += 1

    def reset(self, part: int, ring_row: int) -> None:
        """Start new episodes in all environments of ``part`` and write time step ``ring_row``."""
        start, stop = self._rows_of(self._shares[part])
        self._keeper.begin(ring_row, start, stop)  # actions are not used: whether they are finite does not matter
        self._reset_envs(part, ring_row)
        self._finish(ring_row, start, stop)

    def _reset_envs(self, part: int, ring_row: int) -> None:
        self._interrupted.discard(part)
        for index in range(self._shares[part].start, self._shares[part].stop):
            self._guarded(index, self._reset_env)(self._rows[ring_row], index)

    def _reset_env(self, rows: Rows, index: int) -> None:
        if self._specs.batched:
            self._envs[index].reset_into_batch(rows, index * self._per_env, (index + 1) * self._per_env)
        else:
            self._envs[index].reset_into(rows, index)

    # --- NaN and infinity ---

    def _finish(self, ring_row: int, start: int, stop: int) -> None:
        """Do the bookkeeping of rows that have been written, and see to NaN and infinity in them."""
        while (bad := self._keeper.finish(ring_row, start, stop)) is not None:
            error = self._non_finite(ring_row, *bad)
            self._begin_anew(error.env_index, self._rows[ring_row], error, str(error))

    def _guarded(self, index: int, write: Callable) -> Callable:
        """Return ``write``, which writes into rows; where it finds NaN or infinity itself, its environment is reset."""
        if not self._resets_non_finite:
            return write

        def guarded(rows: Rows, *arguments: Any) -> None:
            try:
                write(rows, *arguments)
            except NonFiniteStepError as error:
                self._begin_anew(index, rows, error, f"environment {index}, step {self.step_count + 1}: {error}")

        return guarded

    def _begin_anew(self, index: int, rows: Rows, error: NonFiniteStepError, told: str) -> None:
        """Reset an environment that returned NaN or infinity, and note ``told`` of it; or raise the error.

        An environment that does so again in the same step is beyond help.
        """
        note = self._views.reset_notes[index]
        if not self._resets_non_finite or error.blames_caller or note[0]:
            raise error
        text = told.encode()[: len(note)]
        note[: len(text)] = np.frombuffer(text, np.uint8)
        self._reset_env(rows, index)

    def unfinished(self, part: int, ring_row: int) -> int:
        """Return the first environment of ``part`` that has not written time step ``ring_row``, or -1."""
        return first_unwritten(self._views, self._shares[part], ring_row, self._per_env)

    def attributed(self, error: BaseException, part: int, ring_row: int, phase: str) -> BaseException:
        """Return what to raise for ``error``, raised in this process, which is not a worker."""
        index = getattr(error, "env_index", self.unfinished(part, ring_row))
        return attributed(error, index, phase, self.step_count, "the main process")

    def _non_finite_action(self, leaf: int, row: int, offset: int) -> NonFiniteStepError:
        path = leaf_path("action", self._specs.action, leaf)
        block = self._views.actions[leaf]
        error = self._error(
            "action",
            path,
            row,
            block[row].reshape(-1)[offset],
            block.shape[1:],
            offset,
            "The policy has diverged: look at its parameters and gradients.",
        )
        error.blames_caller = True
        return error

    def _non_finite(self, ring_row: int, block_index: int, row: int, offset: int) -> NonFiniteStepError:
        if block_index == 0:
            path, block = "reward", self._views.reward[ring_row]
        else:
            path = leaf_path("observation", self._specs.observation, block_index - 1)
            block = self._views.observation[block_index - 1][ring_row]
        return self._error(
            "time step",
            path,
            row,
            block[row].reshape(-1)[offset],
            block.shape[1:],
            offset,
            "Repair the environment, or end the episode where its simulation breaks down.",
        )

    def _error(
        self, what: str, path: str, row: int, value: Any, shape: tuple, offset: int, hint: str
    ) -> NonFiniteStepError:
        index = row // self._per_env
        position = list(map(int, np.unravel_index(offset, shape))) if shape else ""
        error = NonFiniteStepError(
            f"{what} of environment {index}: {path}{position}: expected a finite number, got {value} "
            f"in step {self.step_count + 1}. {hint}"
        )
        error.env_index = index
        return error


def first_unwritten(views: Views, share: Share, ring_row: int, rows_per_env: int) -> int:
    """Return the first environment of ``share`` that has not written time step ``ring_row``, or -1."""
    types = views.step_type[ring_row, share.start * rows_per_env : share.stop * rows_per_env]
    unwritten = np.flatnonzero(types == UNWRITTEN)
    return share.start + int(unwritten[0]) // rows_per_env if len(unwritten) else -1


def leaf_path(root: str, spec: Any, leaf: int) -> str:
    """Return the dotted path of one leaf of ``spec``, in flatten order, below ``root``."""
    paths: list[str] = []
    nest.py_map_structure_with_path(lambda path, _: paths.append(path), spec)
    return ".".join(filter(None, (root, paths[leaf])))


def _action_reader(spec: Any, blocks: list[np.ndarray], batched: bool) -> Callable[[int, int], Any]:
    """Return a function ``(start, stop) -> actions`` that copies actions out of shared memory.

    They are copied because an environment may keep the action it was given and compare it with the next. For
    batched environments the result is a nest of arrays ``[stop - start, ...]``, else a list of actions.
    """
    leaves = nest.flatten(spec)
    if batched:
        return lambda start, stop: nest.pack_sequence_as(spec, [block[start:stop].copy() for block in blocks])
    if len(leaves) == 1 and not nest.is_nested(spec):
        block = blocks[0]
        if leaves[0].is_discrete and leaves[0].shape == ():
            # NumPy integers, not Python's: Gymnasium's Discrete.contains takes 0.5 us less for them.
            return lambda start, stop: list(block[start:stop])
        if leaves[0].shape:
            return lambda start, stop: list(block[start:stop].copy())

    def read(start: int, stop: int) -> list:
        copies = [block[start:stop].copy() for block in blocks]
        return [nest.pack_sequence_as(spec, [copy[i, ...] for copy in copies]) for i in range(stop - start)]

    return read
