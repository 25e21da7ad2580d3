"""The Python twin of what `alf._replay` does for sampling: same names, same results, NumPy instead of C++.

Trees have sixteen children a node, and a node is reduced by halves, so that sums are equal to the last bit.
"""

from __future__ import annotations

import numpy as np
import torch

_FAN_OUT = 16


class _Tree:
    """Sums, minima or maxima of the float64 values that children, children of children, ... have."""

    _combine = np.add
    _identity = 0.0

    def __init__(self, capacity: int):
        self._capacity = size = capacity
        self._levels = []
        while not self._levels or size > 1:
            size = -(-size // _FAN_OUT)
            self._levels.append(np.full((size, _FAN_OUT), self._identity))

    def _reduce(self, children: np.ndarray) -> np.ndarray:
        half = _FAN_OUT // 2
        while half:
            children = self._combine(children[..., :half], children[..., half:])
            half //= 2
        return children[..., 0]

    def set(self, indices: torch.Tensor, values: torch.Tensor) -> None:
        """Set values; of several for one index the last one holds."""
        nodes, values = indices.reshape(-1).numpy(), values.reshape(-1).numpy()
        _check_indices(nodes, self._capacity, "indices")
        if len(nodes) != len(values):
            raise ValueError(f"values: expected {len(nodes)} elements, got {len(values)}")
        self._levels[0].reshape(-1)[nodes] = values
        for children, level in zip(self._levels, self._levels[1:]):
            nodes = np.unique(nodes // _FAN_OUT)
            level.reshape(-1)[nodes] = self._reduce(children[nodes])

    def get(self, indices: torch.Tensor) -> torch.Tensor:
        """Return values, float64 with the shape of ``indices``."""
        _check_indices(indices.numpy(), self._capacity, "indices")
        return torch.from_numpy(self._levels[0].reshape(-1)[indices.numpy()])

    def summary(self) -> float:
        """Return the sum, minimum or maximum of all values."""
        return float(self._reduce(self._levels[-1][0]))


class SumTree(_Tree):
    """Sums."""

    def num_nonzero(self) -> int:
        """Return how many values are not 0."""
        return int(np.count_nonzero(self._levels[0]))

    def find(self, bounds: torch.Tensor) -> torch.Tensor:
        """Return the first indices at which running sums exceed ``bounds``, among values above 0."""
        if bounds.numel() and not self.summary() > 0:
            raise ValueError("find: the sum of the values is not positive")
        left = bounds.reshape(-1).numpy().copy()
        nodes = np.zeros(len(left), np.int64)
        for level in reversed(self._levels):
            children = level[nodes]
            sums = np.cumsum(children, axis=1)  # one after the other, as the extension does
            chosen = (sums <= left[:, None]).sum(axis=1)
            last = _FAN_OUT - 1 - np.argmax(children[:, ::-1] > 0, axis=1)
            chosen = np.where(chosen == _FAN_OUT, last, chosen)
            before = np.take_along_axis(sums, np.maximum(chosen - 1, 0)[:, None], axis=1)[:, 0]
            left -= np.where(chosen > 0, before, 0.0)
            nodes = nodes * _FAN_OUT + chosen
        return torch.from_numpy(nodes).view(bounds.shape)


class MinTree(_Tree):
    """Minima."""

    _combine = np.minimum
    _identity = np.inf


class MaxTree(_Tree):
    """Maxima."""

    _combine = np.maximum
    _identity = -np.inf


def _check_indices(indices: np.ndarray, end: int, name: str) -> None:
    wrong = np.flatnonzero((indices < 0) | (indices >= end))
    if len(wrong):
        raise IndexError(f"{name}[{wrong[0]}]: expected 0 to {end - 1}, got {indices.reshape(-1)[wrong[0]]}")


def _start_ranges(counts, length: int, ignored: int, interval: int, recent: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first start of each environment and the number of starts.

    Of the ``sizes`` steps before ``positions``, those are starts that are multiples of ``interval``, have
    ``length - 1`` steps after them and are not among the first ``ignored``; of these the last ``recent`` ones if > 0.
    """
    positions, sizes, _ = counts.numpy()
    first = -(-(positions - sizes + ignored) // interval) * interval
    number = np.maximum(-(-(positions - length + 1 - first) // interval), 0)
    if recent > 0:
        first = first + np.maximum(number - recent, 0) * interval
        number = np.minimum(number, recent)
    return first, number


def count_starts(counts: torch.Tensor, length: int, ignored: int, interval: int, recent: int) -> int:
    """Return how many starts of sequences of ``length`` steps there are; ``counts`` as in RowStorage."""
    return int(_start_ranges(counts, length, ignored, interval, recent)[1].sum())


def locate_starts(drawn: torch.Tensor, counts: torch.Tensor, length: int, ignored: int, interval: int, recent: int):
    """Return environments and positions, int64 ``[B]``, of starts numbered from 0 through all environments."""
    first, number = _start_ranges(counts, length, ignored, interval, recent)
    ends = number.cumsum()
    _check_indices(drawn.numpy(), int(ends[-1]), "drawn")
    env_ids = np.searchsorted(ends, drawn.numpy(), side="right")
    positions = first[env_ids] + (drawn.numpy() - (ends - number)[env_ids]) * interval
    return torch.from_numpy(env_ids), torch.from_numpy(positions)


def repeated(drawn: torch.Tensor) -> list[int]:
    """Return the places of numbers that stand in ``drawn`` before."""
    is_first = np.zeros(len(drawn), bool)
    is_first[np.unique(drawn.numpy(), return_index=True)[1]] = True
    return np.flatnonzero(~is_first).tolist()


class Priorities:
    """The priorities of steps, float64 ``[num_environments, max_length]``, and a sum-tree of those that are starts.

    A step enters the tree when enough steps follow it and leaves it when it is overwritten; both happen at the next
    sampling, for all steps since the last one together.
    """

    def __init__(self, priorities: torch.Tensor, counts: torch.Tensor, interval: int):
        self._priorities, self._counts, self._interval = priorities.numpy().reshape(-1), counts, interval
        self._max_length = priorities.numel() // counts.shape[1]
        self._tree = SumTree(priorities.numel())
        self._first = np.zeros(counts.shape[1], np.int64)
        self._end = np.zeros(counts.shape[1], np.int64)

    def _index(self, env_ids, positions):
        return env_ids * self._max_length + positions % self._max_length

    def fill(self, env_ids: torch.Tensor, num_steps: int, value: float) -> None:
        """Set the priority of the latest steps of environments."""
        env_ids = env_ids.numpy()[:, None]
        positions = self._counts[0].numpy()[env_ids] - 1 - np.arange(min(num_steps, self._max_length))
        self._priorities[self._index(env_ids, positions)] = value

    def update(self, env_ids: torch.Tensor, positions: torch.Tensor, values: torch.Tensor) -> tuple[int, int, float]:
        """Set priorities of stored steps.

        Returns:
            - 0; or 1 if a value is negative, NaN or infinite, 2 if a position is not stored yet: then nothing is done
            - index of the first one that is wrong
            - the largest value
        """
        env_ids, positions, values = (tensor.reshape(-1).numpy() for tensor in (env_ids, positions, values))
        _check_indices(env_ids, len(self._first), "env_ids")
        _check_indices(positions, 2**63 - 1, "positions")
        for name, array in (("positions", positions), ("priorities", values)):
            if len(array) != len(env_ids):
                raise ValueError(f"{name}: expected {len(env_ids)} elements, got {len(array)}")
        current, sizes, _ = self._counts.numpy()
        for problem, wrong in ((1, ~((values >= 0) & (values < np.inf))), (2, positions >= current[env_ids])):
            if wrong.any():
                return problem, int(wrong.argmax()), 0.0
        largest = float(values.max(initial=0))
        held = positions >= (current - sizes)[env_ids]
        env_ids, positions, values = env_ids[held], positions[held], values[held]
        index = self._index(env_ids, positions)
        self._priorities[index] = values
        is_start = (positions >= self._first[env_ids]) & (positions < self._end[env_ids])
        is_start &= positions % self._interval == 0
        self._tree.set(torch.from_numpy(index[is_start]), torch.from_numpy(values[is_start]))
        return 0, len(values), largest

    def synchronize(self, length: int, ignored: int) -> float:
        """Make the tree hold the starts of sequences of ``length`` steps; return its sum."""
        current = self._counts[0].numpy()
        firsts = _start_ranges(self._counts, length, ignored, self._interval, 0)[0]
        indices, values = [np.zeros(0, np.int64)], [np.zeros(0)]
        for env, (first, end) in enumerate(zip(firsts, np.maximum(firsts, current - length + 1))):
            old_first, old_end = self._first[env], self._end[env]

            def starts(begin, stop, env=env):
                begin = -(-begin // self._interval) * self._interval
                return self._index(env, np.arange(begin, max(begin, stop), self._interval))

            for gone in (starts(old_first, min(old_end, first)), starts(max(old_first, end), old_end)):
                indices.append(gone)
                values.append(np.zeros(len(gone)))
            for new in (starts(first, min(end, old_first)), starts(max(first, old_end), end)):
                indices.append(new)
                values.append(self._priorities[new])
            self._first[env], self._end[env] = first, end
        self._tree.set(torch.from_numpy(np.concatenate(indices)), torch.from_numpy(np.concatenate(values)))
        return self._tree.summary()

    def find(self, bounds: torch.Tensor):
        """Return environments, positions and priorities ``[B]`` of the starts at ``bounds`` in the running sum."""
        index = self._tree.find(bounds)
        env_ids, slots = index // self._max_length, index % self._max_length
        first = torch.from_numpy(self._first)[env_ids]
        return env_ids, first + (slots - first) % self._max_length, self._tree.get(index)

    def weights(self, env_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return what the starts at positions have in the tree."""
        return self._tree.get(self._index(env_ids, positions))
