"""Segment trees: the sum, minimum or maximum of many values that change, and the search in sums."""

from __future__ import annotations

from typing import Callable, Union

import torch
from torch import nn

from alf.experience_replayers._backend import backend

_KINDS = {torch.add: "SumTree", torch.min: "MinTree", torch.minimum: "MinTree", torch.max: "MaxTree",
          torch.maximum: "MaxTree"}
Indices = Union[int, torch.Tensor]


class SegmentTree(nn.Module):
    """Values ``tree[0]`` to ``tree[capacity - 1]``, of which :meth:`summary` is known at any time.

    Setting values costs ``O(log(capacity))`` for each of them. The tree is in main memory and computes in float64,
    whatever ``dtype`` and ``device`` say about what it returns.

    Args:
        capacity: number of values.
        op: ``torch.add``, ``torch.min`` or ``torch.max``. Values that were never set are 0, infinity or -infinity.
        dtype: dtype of results.
        device: device of results.
        name: what messages call it.
    Raises:
        ValueError: for another ``op``, or if ``capacity`` is not positive.
    """

    def __init__(self, capacity: int, op: Callable, dtype: torch.dtype = torch.float32, device: str = "cpu",
                 name: str = "SegmentTree"):
        super().__init__()
        if op not in _KINDS:
            raise ValueError(f"{name}.op: expected torch.add, torch.min or torch.max, got {op!r}.")
        if capacity < 1:
            raise ValueError(f"{name}.capacity: expected at least 1, got {capacity}.")
        self._kind, self._capacity = _KINDS[op], int(capacity)
        self._dtype, self._device, self._name = dtype, torch.device(device), name
        self._tree = getattr(backend(), self._kind)(self._capacity)

    def __getstate__(self):
        state = dict(self.__dict__)
        state["_tree"] = self._values()
        return state

    def __setstate__(self, state):
        values = state["_tree"]
        super().__setstate__({**state, "_tree": getattr(backend(), state["_kind"])(state["_capacity"])})
        self._tree.set(torch.arange(self._capacity, device="cpu"), values)

    def _values(self) -> torch.Tensor:
        return self._tree.get(torch.arange(self._capacity, device="cpu"))

    def _result(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self._device, self._dtype)

    def _indices(self, indices: Indices) -> torch.Tensor:
        indices = torch.as_tensor(indices).to("cpu", torch.int64).contiguous()
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self._capacity:
            raise IndexError(f"{self._name}: indices: expected 0 to {self._capacity - 1}, got {int(indices.min())} to "
                             f"{int(indices.max())}.")
        return indices

    def __len__(self) -> int:
        return self._capacity

    def __setitem__(self, indices: Indices, values) -> None:
        """Set values; of several for one index the last one holds.

        Args:
            indices: int64, any shape, or an int.
            values: numbers that broadcast to the shape of ``indices``.
        Raises:
            IndexError: if an index is out of range.
        """
        indices = self._indices(indices)
        values = torch.as_tensor(values).to("cpu", torch.float64).expand(indices.shape)
        self._tree.set(indices, values.contiguous())

    def __getitem__(self, indices: Indices) -> torch.Tensor:
        """Return values with the shape of ``indices``.

        Raises:
            IndexError: if an index is out of range.
        """
        return self._result(self._tree.get(self._indices(indices)))

    def summary(self) -> torch.Tensor:
        """Return the sum, minimum or maximum of all values, a tensor ``[]``."""
        return self._result(torch.tensor(self._tree.summary(), dtype=torch.float64, device="cpu"))


class SumSegmentTree(SegmentTree):
    """A tree of sums, for drawing indices in proportion to values that are not negative.

    Args:
        capacity: number of values.
        dtype: dtype of results.
        device: device of results.
        name: what messages call it.
    """

    def __init__(self, capacity: int, dtype: torch.dtype = torch.float32, device: str = "cpu",
                 name: str = "SumSegmentTree"):
        super().__init__(capacity, torch.add, dtype, device, name)

    @property
    def nnz(self) -> int:
        """Number of values that are not 0."""
        return self._tree.num_nonzero()

    def find_sum_bound(self, thresholds: torch.Tensor) -> torch.Tensor:
        """Return the smallest ``i`` with ``tree[0] + ... + tree[i] > threshold``, int64 with the shape of thresholds.

        An index whose value is 0 is never returned. If rounding lets no sum exceed a threshold just below the total,
        the last index with a value is.

        Args:
            thresholds: numbers in ``[0, total)``.
        Raises:
            ValueError: if a threshold is outside that range.
        """
        bounds = torch.as_tensor(thresholds).to("cpu", torch.float64).contiguous()
        total = self._tree.summary()
        if bounds.numel() and not 0 <= float(bounds.min()) <= float(bounds.max()) < total:
            raise ValueError(f"{self._name}.find_sum_bound: thresholds: expected numbers in [0, {total}), the total, "
                             f"got {float(bounds.min())} to {float(bounds.max())}.")
        return self._tree.find(bounds).to(self._device)


class MinSegmentTree(SegmentTree):
    """A tree of minima. Arguments as in :class:`SumSegmentTree`."""

    def __init__(self, capacity: int, dtype: torch.dtype = torch.float32, device: str = "cpu",
                 name: str = "MinSegmentTree"):
        super().__init__(capacity, torch.min, dtype, device, name)


class MaxSegmentTree(SegmentTree):
    """A tree of maxima. Arguments as in :class:`SumSegmentTree`."""

    def __init__(self, capacity: int, dtype: torch.dtype = torch.float32, device: str = "cpu",
                 name: str = "MaxSegmentTree"):
        super().__init__(capacity, torch.max, dtype, device, name)
