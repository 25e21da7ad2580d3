"""Nests of tensors in shared memory: rows that one process writes and another reads."""

from multiprocessing.connection import Connection
from typing import List, Tuple

import torch

from alf.nest import Nest, flatten, pack_sequence_as

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
        context: of the module multiprocessing.
        length: steps that may wait.
    """

    def __init__(self, context, length: int):
        self._length = length
        self._free = context.Semaphore(length)
        self._filled = context.Semaphore(0)
        self._rows = None
        self._next = 0  # row that the writer writes, or the reader reads, next
        self._num_held = 0  # rows from `_next` on that the reader knows to be filled

    # ---- the writer ----------------------------------------------------------------------------------------------

    def put(self, step: Nest, reader: Connection, timeout_seconds: float) -> bool:
        """Add a step, and return True; or return False if the queue stayed full for ``timeout_seconds``.

        Args:
            step: nest of tensors, the same structure and shapes each time.
            reader: where the memory is sent at the first step.
            timeout_seconds: how long to wait for room.
        """
        if not self._free.acquire(timeout=timeout_seconds):
            return False
        if self._rows is None:
            self._rows = SharedRows(step, self._length)
            reader.send(self._rows)
        self._rows.write(self._next, step)
        self._next = (self._next + 1) % self._length
        self._filled.release()
        return True

    # ---- the reader ----------------------------------------------------------------------------------------------

    def attach(self, rows: SharedRows) -> None:
        """Use the memory that the writer sent."""
        self._rows = rows

    def wait(self, num_steps: int, timeout_seconds: float) -> bool:
        """Return whether ``num_steps`` steps can be taken, waiting at most ``timeout_seconds`` for each."""
        while self._num_held < num_steps:
            if not self._filled.acquire(timeout=timeout_seconds):
                return False
            self._num_held += 1
        return True

    def size(self) -> int:
        """Return how many steps can be taken without waiting."""
        while self._filled.acquire(block=False):
            self._num_held += 1
        return self._num_held

    def take(self, num_steps: int, num_look_ahead: int = 0) -> Nest:
        """Return ``num_steps + num_look_ahead`` steps ``[T, ...]``; the last ``num_look_ahead`` stay in the queue."""
        steps = self._rows.read(self._next, num_steps + num_look_ahead)
        self._next = (self._next + num_steps) % self._length
        self._num_held -= num_steps
        for _ in range(num_steps):
            self._free.release()
        return steps


class SharedParameters:
    """The newest parameters of an algorithm, handed from the process that trains it to one that acts with it.

    Args:
        context: of the module multiprocessing.
        module: whose parameters and buffers are shared.
    """

    def __init__(self, context, module: torch.nn.Module):
        self._lock = context.Lock()
        self._version = context.Value("q", 0, lock=False)
        self._rows = SharedRows(_tensors(module), num_rows=1)
        self._loaded = -1
        self.publish(module)

    def publish(self, module: torch.nn.Module) -> None:
        """Copy the parameters and buffers of ``module`` into shared memory."""
        with self._lock:
            self._rows.write(0, _tensors(module))
            self._version.value += 1

    def refresh(self, module: torch.nn.Module) -> int:
        """Give ``module`` the newest values, if it does not have them, and return their version."""
        if self._version.value != self._loaded:
            with self._lock, torch.no_grad():
                newest = self._rows.read(0, 1)
                self._loaded = self._version.value
            for target, value in zip(flatten(_tensors(module)), flatten(newest), strict=True):
                target.copy_(value[0])
        return self._loaded

    @property
    def version(self) -> int:
        """How often parameters were published."""
        return self._version.value


def _tensors(module: torch.nn.Module) -> dict:
    state = torch.nn.Module.state_dict(module)
    return {name: value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}
