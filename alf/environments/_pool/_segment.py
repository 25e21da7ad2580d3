"""Segment: an anonymous shared-memory mapping, and Layout: where every TimeStep field lies in it."""

from __future__ import annotations

import mmap
import os
from typing import Any, NamedTuple

import numpy as np

import alf.nest as nest
from alf.environments._pool._latency import NUM_SAMPLES
from alf.environments._rows import Rows, leaf_layout
from alf.utils.process_sync import SharedFd

NOTE_BYTES = 256  # of what is told of an environment that was reset
_ALIGNMENT = 64  # one cache line: hosts that write neighbouring blocks do not share a line


class Segment:
    """Zeroed memory shared between processes; its size may be decided after the processes have been started.

    It has no name in any file system, so nothing is left behind however its processes end, and it does not
    count against the size of ``/dev/shm``.
    """

    def __init__(self, _fd: SharedFd | None = None):
        self._fd = _fd or SharedFd(os.memfd_create("alf-environments", os.MFD_CLOEXEC))
        self._map: mmap.mmap | None = None

    def __reduce__(self):
        return Segment, (self._fd,)

    def allocate(self, num_bytes: int) -> "Segment":
        """Give the segment its size, reserve the memory and map it.

        Raises:
            MemoryError: if the machine does not have that much memory.
        """
        os.ftruncate(self._fd.fd, num_bytes)
        try:
            # Without this a machine short of memory would kill a process at its first write.
            os.posix_fallocate(self._fd.fd, 0, num_bytes)
        except OSError as error:
            available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            raise MemoryError(
                f"parallel environments: need {num_bytes / 2**20:.1f} MiB of shared memory for time steps, "
                f"about {available / 2**20:.1f} MiB are free ({error}). Use fewer environments, "
                "smaller observations or fewer reserved rows."
            ) from error
        return self.attach(num_bytes)

    def attach(self, num_bytes: int) -> "Segment":
        """Map the segment, which another process has allocated."""
        self._map = mmap.mmap(self._fd.fd, num_bytes)
        return self

    def array(self, place: "Place") -> np.ndarray:
        """Return the memory of a block as an array, which keeps the mapping alive."""
        if 0 in place.shape:
            return np.zeros(place.shape, place.dtype)
        return np.ndarray(place.shape, place.dtype, self._map, place.offset, place.strides)

    def close(self) -> None:
        """Give back the descriptor; the memory itself goes with the last array that refers to it."""
        self._fd.close()


class Specs(NamedTuple):
    """What a pool knows about each of its environments."""

    observation: Any  # nest of TensorSpec
    action: Any  # nest of TensorSpec
    reward: Any  # TensorSpec
    env_info: Any  # nest of TensorSpec
    rows_per_env: int  # batch size of one environment; 1 where unbatched
    batched: bool  # whether the environments have a batch dimension of their own

    @classmethod
    def of(cls, env: Any) -> "Specs":
        """Return the specs of an AlfEnvironment."""
        return cls(
            env.observation_spec(),
            env.action_spec(),
            env.reward_spec(),
            env.env_info_spec(),
            env.batch_size if env.batched else 1,
            bool(env.batched),
        )

    def differences(self, other: "Specs") -> list[str]:
        """Return one line per field in which ``other`` differs, with both values."""
        return [
            f"{name}: {mine!r} against {theirs!r}"
            for name, mine, theirs in zip(self._fields, self, other)
            if not _equal(mine, theirs)
        ]


def _equal(first: Any, second: Any) -> bool:
    try:
        nest.assert_same_structure(first, second)
    except (RuntimeError, TypeError, ValueError):
        return False
    return all(a == b for a, b in zip(nest.flatten(first), nest.flatten(second)))


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


class Place(NamedTuple):
    """Where a block lies in a segment."""

    offset: int  # bytes
    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]  # bytes

    @classmethod
    def contiguous(cls, offset: int, shape: tuple[int, ...], dtype: Any) -> "Place":
        """Return a block without gaps."""
        sizes = np.cumprod((np.dtype(dtype).itemsize,) + shape[:0:-1])
        return cls(offset, shape, np.dtype(dtype), tuple(int(size) for size in sizes[::-1]) if shape else ())

    @property
    def num_bytes(self) -> int:
        """Size of the block, with the gaps between its ring rows."""
        return self.shape[0] * self.strides[0] if self.shape else self.dtype.itemsize


class Layout:
    """Where the fields of ``num_ring_rows`` batched time steps lie in one segment.

    Every leaf of a TimeStep is one block ``[R, B, ...]``: ring row first, so that R successive time steps are a
    time-major batch. Actions are blocks ``[B, ...]``. Each ring row is contiguous and begins a cache line: matrix
    products may differ in the last bit with the alignment of their operands, and no result may depend on which ring
    row a time step happens to be in. Layouts are equal in all processes because they are computed from the same
    arguments.

    Args:
        specs: specs of one environment.
        batch_size: number of rows B of a time step.
        num_ring_rows: number of time steps R that are kept.
    """

    def __init__(self, specs: Specs, batch_size: int, num_ring_rows: int):
        self.specs = specs
        self.batch_size = batch_size
        self.num_ring_rows = num_ring_rows
        self._num_bytes = 0
        observation, action, env_info = (
            leaf_layout(s) for s in (specs.observation, specs.action, specs.env_info)
        )
        reward_shape = tuple(specs.reward.shape)
        self._actions = [self._place((batch_size,) + shape, dtype) for shape, dtype in action]
        self._step_type = self._ring((), np.int32)
        self._reward = self._ring(reward_shape, np.float32)
        self._discount = self._ring((), np.float32)
        self._observation = [self._ring(shape, dtype) for shape, dtype in observation]
        self._prev_action = [self._ring(shape, dtype) for shape, dtype in action]
        self._env_info = [self._ring(shape, dtype) for shape, dtype in env_info]
        num_envs = batch_size // specs.rows_per_env
        self._step_seconds = self._place((NUM_SAMPLES, num_envs), np.float32)
        self._reset_notes = self._place((num_envs, NOTE_BYTES), np.uint8)

    def _place(self, shape: tuple[int, ...], dtype: Any) -> Place:
        return self._put(Place.contiguous(self._num_bytes, shape, dtype))

    def _ring(self, shape: tuple[int, ...], dtype: Any) -> Place:
        row = Place.contiguous(self._num_bytes, (self.batch_size,) + shape, dtype)
        strides = (_aligned(row.num_bytes), *row.strides)
        return self._put(Place(row.offset, (self.num_ring_rows, *row.shape), row.dtype, strides))

    def _put(self, place: Place) -> Place:
        self._num_bytes += _aligned(place.num_bytes)
        return place

    @property
    def num_bytes(self) -> int:
        """Size of the segment."""
        return max(self._num_bytes, _ALIGNMENT)

    def views(self, segment: Segment) -> "Views":
        """Return the arrays of this layout in ``segment``."""
        return Views(
            actions=[segment.array(place) for place in self._actions],
            step_type=segment.array(self._step_type),
            reward=segment.array(self._reward),
            discount=segment.array(self._discount),
            observation=[segment.array(place) for place in self._observation],
            prev_action=[segment.array(place) for place in self._prev_action],
            env_info=[segment.array(place) for place in self._env_info],
            step_seconds=segment.array(self._step_seconds),
            reset_notes=segment.array(self._reset_notes),
        )


class Views(NamedTuple):
    """The arrays of a segment; lists have one array per leaf, in flatten order."""

    actions: list[np.ndarray]  # [B, ...]
    step_type: np.ndarray  # int32 [R, B]
    reward: np.ndarray  # float32 [R, B, ...]
    discount: np.ndarray  # float32 [R, B]
    observation: list[np.ndarray]  # [R, B, ...]
    prev_action: list[np.ndarray]  # [R, B, ...]
    env_info: list[np.ndarray]  # [R, B, ...]
    step_seconds: np.ndarray  # float32 [NUM_SAMPLES, num_envs]: how long sampled steps of environments took, or 0
    reset_notes: np.ndarray  # uint8 [num_envs, NOTE_BYTES]: why an environment was reset, or zeros

    def rows(self, ring_row: int) -> Rows:
        """Return the columns that environments write for time step ``ring_row`` of the ring."""
        return Rows(
            self.step_type[ring_row],
            self.reward[ring_row],
            self.discount[ring_row],
            [block[ring_row] for block in self.observation],
            [block[ring_row] for block in self.env_info],
        )
