"""Nests of tensors in shared memory: rows that one process writes and another reads."""

from multiprocessing.connection import Connection
from typing import List, Tuple

import torch

from alf.nest import Nest, flatten, pack_sequence_as
from alf.utils.process_sync import ProcessCounter, ProcessLock

_ALIGNMENT = 16  # bytes; a view of any dtype may begin there


class SharedRows:
    """``num_rows`` nests of tensors, side by side in one block of shared memory.

    Args:
        example: nest of tensors like those of a row.
        num_rows: how many.
    """

    def __init__(self, example: Nest, num_rows: int):
        leaves = flatten(example)
        self._structure = pack_sequence_as(example, [None] * len(leaves))
        self._layout = [(tuple(leaf.shape), leaf.dtype) for leaf in leaves]
        num_bytes = sum(_padded(shape, dtype) for shape, dtype in self._layout)
        self._block = torch.zeros((num_rows, num_bytes), dtype=torch.uint8, device="cpu").share_memory_()
        self._leaves = self._views()

    def _views(self) -> List[torch.Tensor]:
        """Return views ``[num_rows, ...]`` of the block, one for each leaf."""
        views, begin = [], 0
        for shape, dtype in self._layout:
            num_bytes = _num_bytes(shape, dtype)
            columns = self._block[:, begin:begin + num_bytes].view(dtype)
            views.append(columns.unflatten(1, shape) if shape else columns.squeeze(1))
            begin += _padded(shape, dtype)
        return views

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._block.shape[0]

    def write(self, row: int, nest: Nest) -> None:
        """Copy ``nest``, on any device, into a row."""
        for view, leaf in zip(self._leaves, flatten(nest), strict=True):
            view[row].copy_(leaf)

    def read(self, begin: int, num_rows: int) -> Nest:
        """Return copies ``[num_rows, ...]``, on the CPU, of rows from ``begin`` on; after the last comes row 0."""
        rows = torch.arange(begin, begin + num_rows, device="cpu") % self.num_rows
        return pack_sequence_as(self._structure, [view.index_select(0, rows) for view in self._leaves])

    def __getstate__(self) -> Tuple:
        return self._structure, self._layout, self._block

    def __setstate__(self, state: Tuple) -> None:
        self._structure, self._layout, self._block = state
        self._leaves = self._views()


def _num_bytes(shape: Tuple[int, ...], dtype: torch.dtype) -> int:
    return torch.Size(shape).numel() * dtype.itemsize


def _padded(shape: Tuple[int, ...], dtype: torch.dtype) -> int:
    return -(-_num_bytes(shape, dtype) // _ALIGNMENT) * _ALIGNMENT


class StepQueue:
    """A queue of experience between two processes: the writer waits when it is full.

    The memory is made by the writer at its first step, whose tensors say how much is needed, and sent to the reader.

    Args:
        length: steps that may wait.
    """

    def __init__(self, length: int):
        self._length = length
        self._freed, self._filled = ProcessCounter(), ProcessCounter()
        self._rows = None
        self._next = 0  # row that the writer writes, or the reader reads, next
        self._num_free = length  # rows from `_next` on that the writer knows to be free
        self._num_held = 0  # rows from `_next` on that the reader knows to be filled

    # ---- the writer ----------------------------------------------------------------------------------------------

    def put(self, step: Nest, reader: Connection, timeout_seconds: float) -> bool:
        """Add a step, and return True; or return False if the queue stayed full for ``timeout_seconds``.

        Args:
            step: nest of tensors, the same structure and shapes each time.
            reader: where the memory is sent at the first step.
            timeout_seconds: how long to wait for room.
        """
        if self._num_free == 0:
            self._num_free = self._freed.take(timeout_seconds)
            if self._num_free == 0:
                return False
        if self._rows is None:
            self._rows = SharedRows(step, self._length)
            reader.send(self._rows)
        self._rows.write(self._next, step)
        self._next = (self._next + 1) % self._length
        self._num_free -= 1
        self._filled.add(1)
        return True

    # ---- the reader ----------------------------------------------------------------------------------------------

    def attach(self, rows: SharedRows) -> None:
        """Use the memory that the writer sent."""
        self._rows = rows

    def wait(self, num_steps: int, timeout_seconds: float) -> bool:
        """Return whether ``num_steps`` steps can be taken, waiting at most ``timeout_seconds`` for each."""
        while self._num_held < num_steps:
            num_filled = self._filled.take(timeout_seconds)
            if num_filled == 0:
                return False
            self._num_held += num_filled
        return True

    def size(self) -> int:
        """Return how many steps can be taken without waiting."""
        self._num_held += self._filled.take()
        return self._num_held

    def take(self, num_steps: int, num_look_ahead: int = 0) -> Nest:
        """Return ``num_steps + num_look_ahead`` steps ``[T, ...]``; the last ``num_look_ahead`` stay in the queue."""
        steps = self._rows.read(self._next, num_steps + num_look_ahead)
        self._next = (self._next + num_steps) % self._length
        self._num_held -= num_steps
        self._freed.add(num_steps)
        return steps


class SharedParameters:
    """The newest parameters of an algorithm, handed from the process that trains it to one that acts with it.

    Args:
        module: whose parameters and buffers are shared.
    """

    def __init__(self, module: torch.nn.Module):
        self._lock = ProcessLock()
        self._version = torch.zeros((), dtype=torch.int64, device="cpu").share_memory_()
        self._rows = SharedRows(_tensors(module), num_rows=1)
        self._loaded = -1
        self.publish(module)

    def publish(self, module: torch.nn.Module) -> None:
        """Copy the parameters and buffers of ``module`` into shared memory."""
        with self._lock:
            self._rows.write(0, _tensors(module))
            self._version += 1

    def refresh(self, module: torch.nn.Module) -> int:
        """Give ``module`` the newest values, if it does not have them, and return their version."""
        if self.version != self._loaded:
            with self._lock, torch.no_grad():
                newest = self._rows.read(0, 1)
                self._loaded = self.version
            for target, value in zip(flatten(_tensors(module)), flatten(newest), strict=True):
                target.copy_(value[0])
        return self._loaded

    @property
    def version(self) -> int:
        """How often parameters were published."""
        return int(self._version)


def _tensors(module: torch.nn.Module) -> dict:
    state = torch.nn.Module.state_dict(module)
    return {name: value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}
