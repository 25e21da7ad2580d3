"""Where the episodes of stored steps begin and end."""

from __future__ import annotations

import numpy as np
import torch

from alf.data_structures import StepType
from alf.utils.row_storage import RowStorage

_FIRST, _LAST = int(StepType.FIRST), int(StepType.LAST)
_NEVER = np.iinfo(np.int64).max


def new_steps(counts: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what was stored since ``known``: environments ``[E]``, positions ``[E, n]`` and which of them are valid.

    Args:
        counts: int64 ``[3, num_environments]``, see RowStorage.
        known: int64 ``[num_environments]``: positions up to which steps are known.
    """
    begin = np.maximum(known, counts[0] - counts[1])
    env_ids = np.flatnonzero(counts[0] > begin)
    length = (counts[0] - begin)[env_ids].max(initial=0)
    positions = begin[env_ids, None] + np.arange(length)
    return env_ids, positions, positions < counts[0][env_ids, None]


class Episodes:
    """An index of the episodes in a storage, brought up to date when it is asked: steps are looked at once.

    For every step the position where its episode begins is kept; where it ends, and where its discount becomes 0, is
    kept at the earliest stored step of the episode, its head.

    Args:
        storage: the steps.
        step_type_path: dotted path of the step type, int32 ``[]``.
        discount_path: dotted path of the discount, or None if there is none.
    """

    def __init__(self, storage: RowStorage, step_type_path: str, discount_path: str | None):
        self._storage = storage
        self._step_types = storage.view(step_type_path)
        self._discounts = None if discount_path is None else storage.view(discount_path)
        num_environments, self._max_length = self._step_types.shape
        shape = (num_environments, self._max_length)
        self._begin, self._end, self._zero = (np.zeros(shape, np.int64) for _ in range(3))
        self._first = np.zeros(num_environments, np.int64)  # earliest steps
        self._known = np.zeros(num_environments, np.int64)  # steps before these positions are in the index

    def forget(self) -> None:
        """Look at all steps anew."""
        self._first.fill(0)
        self._known.fill(0)

    def update(self) -> None:
        """Take in what was stored since the last time."""
        counts = self._storage.counts.numpy()
        if np.array_equal(counts[0], self._known) and np.array_equal(counts[0] - counts[1], self._first):
            return
        while True:
            snapshot = counts[1].copy()  # sizes before positions: so that the earliest step is never too early
            snapshot = np.stack([counts[0].copy(), snapshot, snapshot])
            env_ids, positions, valid = new_steps(snapshot, self._known)
            read = self._read(env_ids, positions)
            earliest_intact = counts[2] - self._max_length
            if len(env_ids) == 0 or (positions[:, 0] >= earliest_intact[env_ids]).all():
                break  # nothing was overwritten by another process meanwhile
        first = snapshot[0] - snapshot[1]
        self._move_heads(first)
        if len(env_ids):
            self._enter(env_ids, positions, valid, first, *read)
        self._first, self._known = first, snapshot[0]

    def _read(self, env_ids: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return step types and discounts ``[E, n]``."""
        step_types = self._step_types_at(env_ids[:, None], positions)
        if self._discounts is None:
            return step_types, None
        where = torch.from_numpy(env_ids[:, None]), torch.from_numpy(positions % self._max_length)
        return step_types, self._discounts[where].cpu().numpy()

    def _step_types_at(self, env_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        where = torch.from_numpy(env_ids), torch.from_numpy(positions % self._max_length)
        return self._step_types[where].cpu().numpy()

    def _move_heads(self, first: np.ndarray) -> None:
        """Copy what is kept at the first step of an episode to its oldest step that is not overwritten."""
        moved = np.flatnonzero((first > self._first) & (first < self._known))
        new = first[moved]
        begin = self._begin[moved, new % self._max_length]
        old = np.maximum(begin, self._first[moved])
        for kept in (self._end, self._zero):
            kept[moved, new % self._max_length] = kept[moved, old % self._max_length]

    def _enter(self, env_ids, positions, valid, first, step_types, discounts) -> None:
        envs = np.broadcast_to(env_ids[:, None], positions.shape)
        start = positions[:, 0]
        # Steps before a gap are of no use, and the very first step begins an episode whatever its type is.
        goes_on = (self._known[env_ids] == start) & (start > 0)
        # An episode that was lost right after its FIRST step has a LAST one in its place, after that of the one before.
        after_last = np.empty_like(valid)
        after_last[:, 1:] = step_types[:, :-1] == _LAST
        after_last[:, 0] = self._step_types_at(env_ids, start - 1) == _LAST
        is_first = ((step_types == _FIRST) | after_last) & valid
        before = np.where(goes_on, self._begin[env_ids, (start - 1) % self._max_length], start)
        begin = np.maximum(np.maximum.accumulate(np.where(is_first, positions, -1), axis=1), before[:, None])
        head = np.maximum(begin, first[env_ids, None])
        self._begin[envs[valid], positions[valid] % self._max_length] = begin[valid]

        is_new = valid & (head == positions)
        self._zero[envs[is_new], positions[is_new] % self._max_length] = _NEVER
        followed = np.zeros_like(valid)
        followed[:, :-1] = valid[:, 1:] & ~is_first[:, 1:]
        is_end = valid & ~followed
        self._end[envs[is_end], head[is_end] % self._max_length] = positions[is_end]
        if discounts is not None:
            is_zero = valid & (discounts == 0)
            np.minimum.at(self._zero, (envs[is_zero], head[is_zero] % self._max_length), positions[is_zero])

    def _head(self, env_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        self.update()
        outside = (positions < self._first[env_ids]) | (positions >= self._known[env_ids])
        if outside.any():
            env, position = env_ids[outside][0], positions[outside][0]
            raise ValueError(f"pos: expected positions that are stored, which in environment {env} are "
                             f"{self._first[env]} to {self._known[env] - 1}, got {position}.")
        return np.maximum(self._begin[env_ids, positions % self._max_length], self._first[env_ids])

    def begin(self, env_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the positions where episodes begin, or the earliest stored ones if they began before."""
        return self._head(env_ids, positions)

    def end(self, env_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the positions where episodes end, or the latest stored ones if they go on."""
        return self._end[env_ids, self._head(env_ids, positions) % self._max_length]

    def zero_discount(self, env_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the first stored positions of episodes from which on the discount is 0, or -1 where it never is."""
        head = self._head(env_ids, positions)
        zero = self._zero[env_ids, head % self._max_length]
        return np.where(zero == _NEVER, -1, np.maximum(zero, head))
