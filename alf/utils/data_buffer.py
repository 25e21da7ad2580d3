"""Ring buffers of nests: `RingBuffer`, a queue for each environment, and `DataBuffer`, one for all."""

from __future__ import annotations

import functools
import numbers
import threading
import time
from typing import Callable, Optional, Sequence, Union

import torch
from torch import nn

import alf.nest as nest
from alf.utils.process_sync import ProcessLock
from alf.utils.row_storage import RowStorage

_POLL_SECONDS = 0.0005  # how often something that waits looks again


def whole_number(name: str, value) -> int:
    """Return a count as an int; a float such as 1e4 is one, too.

    Args:
        name: of the argument, for the message.
        value: the count.
    Raises:
        ValueError: if it is no whole number.
    """
    if type(value) is int:
        return value
    if not isinstance(value, numbers.Real) or not float(value).is_integer():
        raise ValueError(f"{name}: expected a whole number, got {value!r}.")
    return int(value)


def atomic(func: Callable) -> Callable:
    """Return the method ``func`` such that, of one buffer, one thread or process runs it at a time."""

    @functools.wraps(func)
    def wrapped(self, *args, **kwargs):
        with self._lock:
            return func(self, *args, **kwargs)

    return wrapped


class RingBuffer(nn.Module):
    """A queue of steps for each environment, in a ring that is allocated once.

    Positions count the steps that an environment has stored since the beginning; they never wrap. The environment holds
    those in ``[get_earliest_position(), get_current_position())``.

    Args:
        data_spec: nest of TensorSpecs of one step.
        num_environments: number of queues.
        max_length: steps that a queue can hold.
        device: where the data are.
        allow_multiprocess: keep everything in shared memory, so that a buffer given to another process is the same one.
        name: what messages call it.
    """

    def __init__(self, data_spec: nest.Nest, num_environments: int, max_length: int = 1024, device: str = "cpu",
                 allow_multiprocess: bool = False, name: str = "RingBuffer"):
        super().__init__()
        for argument, value in (("num_environments", num_environments), ("max_length", max_length)):
            if whole_number(f"{name}.{argument}", value) < 1:
                raise ValueError(f"{name}.{argument}: expected at least 1, got {value}.")
        self._name = name
        self._num_environments, self._max_length = int(num_environments), int(max_length)
        self._allow_multiprocess = allow_multiprocess
        self._storage = self._make_storage(data_spec, device)
        self._all_env_ids = torch.arange(self._num_environments, device="cpu")
        self._lock = ProcessLock() if allow_multiprocess else threading.RLock()
        self._stopped = torch.zeros((), dtype=torch.bool, device="cpu")
        if allow_multiprocess:
            self._stopped.share_memory_()

    def _make_storage(self, data_spec: nest.Nest, device: str) -> RowStorage:
        return RowStorage(data_spec, self._num_environments, self._max_length, device, self._allow_multiprocess)

    def __getstate__(self):
        state = dict(self.__dict__)
        if not self._allow_multiprocess:
            del state["_lock"]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if not self._allow_multiprocess:
            self._lock = threading.RLock()

    # ---- what is there -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._name

    @property
    def device(self) -> str:
        """Type of the device where the data are."""
        return self._storage.device.type

    @property
    def num_environments(self) -> int:
        """Number of queues."""
        return self._num_environments

    @property
    def max_length(self) -> int:
        """Steps that a queue can hold."""
        return self._max_length

    @property
    def data_spec(self) -> nest.Nest:
        """Nest of TensorSpecs of one step."""
        return self._storage.data_spec

    @property
    def current_size(self) -> torch.Tensor:
        """Numbers of steps that the environments hold, int64 ``[num_environments]``."""
        return self._storage.counts[1].clone()

    def get_current_position(self) -> torch.Tensor:
        """Return the positions of the next steps, int64 ``[num_environments]``."""
        return self._storage.counts[0].clone()

    def get_earliest_position(self, env_ids: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Return the positions of the earliest steps that are held, int64 with the shape of ``env_ids``.

        Args:
            env_ids: int64, any shape; None: all environments.
        """
        earliest = self._storage.counts[0] - self._storage.counts[1]
        return earliest if env_ids is None else earliest[env_ids.cpu()]

    def circular(self, pos: torch.Tensor) -> torch.Tensor:
        """Return where in the ring the steps at positions ``pos`` are."""
        return pos % self._max_length

    def check_convert_env_ids(self, env_ids: Union[None, torch.Tensor, Sequence[int]]) -> torch.Tensor:
        """Return ``env_ids`` as int64 ``[B]`` in main memory; None means all environments.

        Raises:
            ValueError: if they are not a list, if there is no such environment, or if one is there twice.
        """
        if env_ids is None:
            return self._all_env_ids
        env_ids = torch.as_tensor(env_ids).to("cpu", torch.int64)
        if env_ids.ndim != 1:
            raise ValueError(f"{self._name}: env_ids: expected one dimension, got shape {list(env_ids.shape)}.")
        if len(env_ids):
            low, high = int(env_ids.min()), int(env_ids.max())
            if low < 0 or high >= self._num_environments:
                raise ValueError(f"{self._name}: env_ids: expected 0 to {self._num_environments - 1}, got "
                                 f"{low if low < 0 else high}.")
            if len(env_ids.unique()) != len(env_ids):
                raise ValueError(f"{self._name}: env_ids: expected each environment once, got {env_ids.tolist()}.")
        return env_ids.contiguous()

    def has_space(self, env_ids: Optional[torch.Tensor] = None) -> bool:
        """Return whether each of the environments can take a step without losing one."""
        return bool((self._storage.counts[1][self.check_convert_env_ids(env_ids)] < self._max_length).all())

    def has_data(self, env_ids: Optional[torch.Tensor] = None, n: int = 1) -> bool:
        """Return whether each of the environments holds at least ``n`` steps."""
        return bool((self._storage.counts[1][self.check_convert_env_ids(env_ids)] >= n).all())

    # ---- in and out --------------------------------------------------------------------------------------------------

    def _wait(self, is_ready: Callable[[], bool]) -> bool:
        """Return True once ``is_ready()``, or False when the buffer is stopped."""
        while not self._stopped:
            with self._lock:
                if is_ready():
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def enqueue(self, batch: nest.Nest, env_ids: Optional[torch.Tensor] = None, blocking: bool = False) -> bool:
        """Store one step of some environments; return whether there was space for it.

        Args:
            batch: nest ``[B, ...]``.
            env_ids: int64 ``[B]``, none twice; None: all environments.
            blocking: wait for space, or for :meth:`stop`.
        """
        env_ids = self.check_convert_env_ids(env_ids)
        while True:
            if blocking and not self._wait(lambda: self.has_space(env_ids)):
                return False
            with self._lock:
                if self.has_space(env_ids):  # else another one was quicker
                    self._storage.append(batch, False, env_ids)
                    return True
            if not blocking:
                return False

    def dequeue(self, env_ids: Optional[torch.Tensor] = None, n: int = 1,
                blocking: bool = False) -> Optional[nest.Nest]:
        """Remove the earliest ``n`` steps of some environments and return them, ``[B, n, ...]``.

        Args:
            env_ids: int64 ``[B]``, none twice; None: all environments.
            n: number of steps.
            blocking: wait for them, or for :meth:`stop`; then the result is None.
        Raises:
            ValueError: if an environment holds fewer and ``blocking`` is False, or if it could never hold so many.
        """
        env_ids = self.check_convert_env_ids(env_ids)
        if not 1 <= n <= self._max_length:
            raise ValueError(f"{self._name}.dequeue: n: expected 1 to max_length={self._max_length}, got {n}.")
        while True:
            if blocking and not self._wait(lambda: self.has_data(env_ids, n)):
                return None
            with self._lock:
                if self.has_data(env_ids, n):
                    steps = self.get_earliest_position(env_ids).unsqueeze(1) + torch.arange(n, device="cpu")
                    batch = self._storage.read(env_ids.unsqueeze(1).expand_as(steps), steps)
                    self._storage.counts[1][env_ids] -= n
                    return batch
            if not blocking:
                raise ValueError(f"{self._name}.dequeue: expected at least n={n} steps in each environment, got "
                                 f"{self._storage.counts[1][env_ids].tolist()}. Store more, or wait with "
                                 f"blocking=True.")

    @atomic
    def remove_up_to(self, n: int, env_ids: Optional[torch.Tensor] = None) -> None:
        """Remove the earliest ``n`` steps of some environments, or all where there are fewer."""
        env_ids = self.check_convert_env_ids(env_ids)
        sizes = self._storage.counts[1]
        sizes[env_ids] = (sizes[env_ids] - n).clamp(min=0)

    @atomic
    def clear(self, env_ids: Optional[torch.Tensor] = None) -> None:
        """Remove all steps of some environments. Positions go on, so that those of removed steps stay invalid."""
        self._storage.counts[1][self.check_convert_env_ids(env_ids)] = 0

    def stop(self) -> None:
        """Make everything that waits return, now and later."""
        self._stopped.fill_(True)

    def revive(self) -> None:
        """Undo :meth:`stop`."""
        self._stopped.fill_(False)


class DataBuffer(RingBuffer):
    """A ring of items that do not belong to environments; the newest ``capacity`` of them are kept.

    Args:
        data_spec: nest of TensorSpecs of one item.
        capacity: number of items.
        device: where they are.
        name: what messages call it.
    """

    def __init__(self, data_spec: nest.Nest, capacity: int, device: str = "cpu", name: str = "DataBuffer"):
        super().__init__(data_spec, 1, capacity, device, False, name)

    @property
    def current_size(self) -> int:
        """Number of items."""
        return int(self._storage.counts[1])

    @property
    def current_pos(self) -> int:
        """Number of items that were ever added."""
        return int(self._storage.counts[0])

    def is_full(self) -> bool:
        """Return whether there are ``capacity`` items."""
        return self.current_size == self._max_length

    @atomic
    def add_batch(self, batch: nest.Nest) -> None:
        """Add items ``[B, ...]``."""
        self._storage.append(nest.map_structure(lambda leaf: leaf.unsqueeze(1), batch), True)

    def get_batch(self, batch_size: int) -> nest.Nest:
        """Return random items ``[batch_size, ...]``; one may come more than once.

        Raises:
            ValueError: if there is none.
        """
        if self.current_size == 0:
            raise ValueError(f"{self._name}.get_batch: expected at least one item, got none. Add some first.")
        return self.get_batch_by_indices(torch.randint(self.current_size, (batch_size, ), device="cpu"))

    @atomic
    def get_batch_by_indices(self, indices: torch.Tensor) -> nest.Nest:
        """Return items ``[*shape, ...]``.

        Args:
            indices: int64 ``[*shape]``; 0 is the earliest item.
        Raises:
            IndexError: if there is no such item.
        """
        indices = torch.as_tensor(indices).to("cpu", torch.int64)
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self.current_size:
            raise IndexError(f"{self._name}: indices: expected 0 to {self.current_size - 1}, got {int(indices.min())} "
                             f"to {int(indices.max())}.")
        positions = indices + (self.current_pos - self.current_size)
        return self._storage.read(torch.zeros_like(positions), positions)

    def get_all(self) -> nest.Nest:
        """Return all items ``[current_size, ...]``, the earliest first."""
        return self.get_batch_by_indices(torch.arange(self.current_size, device="cpu"))
