"""`RowStorage`: a ring of steps for each environment, whose leaves lie side by side in one row of bytes per step.

One gather then fetches a whole step, where one array a leaf costs a cache miss for each leaf. In main memory the
extension `alf._replay` copies; on other devices, and without the extension, torch does.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import torch

import alf.nest as nest
from alf.nest.utils import convert_device
from alf.tensor_specs import TensorSpec
from alf.utils import native_replay

#: Leaves with more bytes keep a ring of their own: beside them a cache miss costs nothing, and no row grows by them.
MAX_PACKED_BYTES = 1024
_ALIGNMENT = 8  # bytes; what every dtype view needs


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Where one leaf of a step lies."""

    path: str  # dotted path in the nest
    spec: TensorSpec
    ring: int  # which ring
    offset: int  # bytes from the beginning of its row
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class Ring:
    """Rows of one kind, one for every ``interval``-th position."""

    row_bytes: int
    interval: int
    is_sparse: bool  # of a sequence only the first row is read


@dataclasses.dataclass(frozen=True)
class Layout:
    """How steps are laid out in rings."""

    leaves: list[Leaf]  # in the order of nest.flatten
    rings: list[Ring]
    bytes_per_step: float  # of one environment


def layout_of(data_spec: nest.Nest, sparse_field: Optional[str] = None, interval: int = 1) -> Layout:
    """Return how steps of ``data_spec`` are laid out. Arguments as in :class:`RowStorage`.

    Raises:
        TypeError: if a leaf is no TensorSpec.
        ValueError: if there is no leaf at all.
    """
    kinds: dict[Any, list[tuple[str, TensorSpec]]] = {}
    order: list[str] = []

    def visit(path, spec):
        if not isinstance(spec, TensorSpec):
            raise TypeError(f"data_spec: expected a nest of TensorSpecs, got {type(spec).__name__} at '{path}'.")
        is_sparse = sparse_field is not None and (path == sparse_field or path.startswith(sparse_field + "."))
        is_packed = spec.numel * spec.dtype.itemsize <= MAX_PACKED_BYTES
        kinds.setdefault((is_sparse, None if is_packed else path), []).append((path, spec))
        order.append(path)

    nest.py_map_structure_with_path(visit, data_spec)
    if not order:
        raise ValueError("data_spec: expected at least one TensorSpec, got an empty nest.")
    leaves, rings = {}, []
    for (is_sparse, _), members in kinds.items():
        offset = 0
        for path, spec in members:
            num_bytes = spec.numel * spec.dtype.itemsize
            leaves[path] = Leaf(path, spec, len(rings), offset, num_bytes)
            offset += -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
        rings.append(Ring(max(offset, _ALIGNMENT), interval if is_sparse else 1, is_sparse))
    return Layout([leaves[path] for path in order], rings, sum(ring.row_bytes / ring.interval for ring in rings))


class RowStorage:
    """Rings of ``max_length`` steps for each of ``num_environments``; memory is touched when it is first written.

    Positions count the steps that an environment has stored since the beginning and never wrap.

    Args:
        data_spec: nest of TensorSpecs of one step.
        num_environments: number of rings.
        max_length: steps in a ring.
        device: where the rings are. What is counted is in main memory.
        shared: let rings and counts lie in shared memory, for other processes.
        sparse_field: dotted path of a part of the data of which only every ``interval``-th step is stored, and of
            sequences only the first step is read.
        interval: see ``sparse_field``.
    """

    def __init__(self, data_spec: nest.Nest, num_environments: int, max_length: int, device: str = "cpu",
                 shared: bool = False, sparse_field: Optional[str] = None, interval: int = 1):
        self._data_spec = data_spec
        self._num_environments, self._max_length = num_environments, max_length
        self._layout = layout_of(data_spec, sparse_field, interval)
        self._num_slots = [-(-max_length // ring.interval) for ring in self._layout.rings]
        self._rings = [
            torch.empty((num_environments * num_slots, ring.row_bytes), dtype=torch.uint8, device=device)
            for ring, num_slots in zip(self._layout.rings, self._num_slots)
        ]
        #: int64 [3, num_environments]: next positions; numbers of steps stored; positions up to which steps are stored
        #: or being written.
        self.counts = torch.zeros((3, num_environments), dtype=torch.int64, device="cpu")
        if shared:
            for tensor in (*self._rings, self.counts):
                tensor.share_memory_()
        self._connect()

    def _connect(self) -> None:
        """Make what cannot be sent to another process."""
        self._views = [
            _rows_as_leaf(self._rings[leaf.ring], leaf).view(self._num_environments, self._num_slots[leaf.ring],
                                                             *leaf.spec.shape) for leaf in self._layout.leaves
        ]
        self._index_nest = nest.pack_sequence_as(self._data_spec, list(range(len(self._views))))
        self._fields: dict[Optional[str], tuple[nest.Nest, list[int]]] = {}
        self._native = None
        extension = native_replay.extension() if self.device.type == "cpu" else None
        if extension is not None:
            self._native = extension.RowStore(
                [(rows, num_slots, ring.interval, ring.is_sparse)
                 for rows, num_slots, ring in zip(self._rings, self._num_slots, self._layout.rings)],
                [(leaf.ring, leaf.offset, torch.empty(leaf.spec.shape, dtype=leaf.spec.dtype, device="cpu"))
                 for leaf in self._layout.leaves], _plan(self._index_nest), self.counts, self._max_length)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items()
                if name not in ("_views", "_index_nest", "_fields", "_native")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._connect()

    @property
    def device(self) -> torch.device:
        """Where the rings are."""
        return self._rings[0].device

    @property
    def data_spec(self) -> nest.Nest:
        """Nest of specs of one step."""
        return self._data_spec

    @property
    def max_length(self) -> int:
        """Steps in a ring."""
        return self._max_length

    @property
    def layout(self) -> Layout:
        """Where each leaf lies."""
        return self._layout

    def view(self, path: str) -> torch.Tensor:
        """Return the ring of a leaf, ``[num_environments, num_slots, *shape]``: no copy.

        The step at a position is in slot ``position // interval % num_slots``; the interval is 1 unless the leaf is in
        ``sparse_field``.

        Raises:
            LookupError: if there is no leaf at that dotted path.
        """
        for leaf, view in zip(self._layout.leaves, self._views):
            if leaf.path == path:
                return view
        raise LookupError(f"'{path}' is no leaf of {[leaf.path for leaf in self._layout.leaves]}.")

    # ---- storing -----------------------------------------------------------------------------------------------------

    def append(self, data: nest.Nest, has_time: bool, env_ids: Optional[torch.Tensor] = None) -> int:
        """Store steps behind those that the environments have, and return how many in each.

        Args:
            data: nest ``[B, ...]``, or ``[T, B, ...]`` if ``has_time``.
            has_time: whether there is a time dimension.
            env_ids: int64 ``[B]`` in main memory, none twice; None: all environments.
        Raises:
            ValueError: if shape or dtype of a leaf is not what ``data_spec`` says.
        """
        num_steps = self._append_natively(data, has_time, env_ids)
        if num_steps < 0:
            data = convert_device(data, self.device)
            num_steps = self._append_natively(data, has_time, env_ids)
        return self._append_with_torch(data, has_time, env_ids) if num_steps < 0 else num_steps

    def _append_natively(self, data: nest.Nest, has_time: bool, env_ids: Optional[torch.Tensor]) -> int:
        """Return what :meth:`append` does, or -1 if nothing is stored: data are elsewhere, or not as they must be."""
        return -1 if self._native is None else self._native.append(data, has_time, env_ids)

    @torch.no_grad()
    def _append_with_torch(self, data: nest.Nest, has_time: bool, env_ids: Optional[torch.Tensor]) -> int:
        leaves = self._flat(data)
        num_steps = leaves[0].shape[0] if has_time and leaves[0].ndim else 1
        batch_size = self._num_environments if env_ids is None else len(env_ids)
        self._check(leaves, (num_steps, batch_size) if has_time else (batch_size, ))
        if not has_time:
            leaves = [leaf.unsqueeze(0) for leaf in leaves]
        envs = torch.arange(batch_size, device="cpu") if env_ids is None else env_ids
        positions, sizes, reserved = self.counts
        begin = positions[envs]
        reserved[envs] = begin + num_steps
        skipped = max(0, num_steps - self._max_length)
        steps = torch.arange(skipped, num_steps, device="cpu").unsqueeze(1) + begin
        self._store([leaf[skipped:] for leaf in leaves], envs.expand_as(steps), steps)
        positions[envs] = begin + num_steps
        sizes[envs] = (sizes[envs] + num_steps).clamp(max=self._max_length)
        return num_steps

    def _store(self, leaves: list, env_ids: torch.Tensor, positions: torch.Tensor) -> None:
        """Store leaves ``[*shape, ...]`` at int64 ``[*shape]``, of a sparse field those that belong there."""
        places = {}
        for leaf, view, value in zip(self._layout.leaves, self._views, leaves):
            if leaf.ring not in places:
                interval = self._layout.rings[leaf.ring].interval
                keep = slice(None) if interval == 1 else positions % interval == 0
                slots = positions[keep] // interval % self._num_slots[leaf.ring]
                places[leaf.ring] = keep, env_ids[keep].to(self.device), slots.to(self.device)
            keep, envs, slots = places[leaf.ring]
            view[envs, slots] = value if isinstance(keep, slice) else value[keep.to(value.device)]

    def _flat(self, data: nest.Nest) -> list:
        nest.assert_same_structure(self._data_spec, data)
        return nest.flatten(data)

    def _check(self, leaves: list, outer_shape: tuple) -> None:
        for leaf, value in zip(self._layout.leaves, leaves):
            expected = (*outer_shape, *leaf.spec.shape)
            if not isinstance(value, torch.Tensor):
                raise ValueError(f"'{leaf.path}': expected a tensor {list(expected)}, got a {type(value).__name__}.")
            if value.dtype is not leaf.spec.dtype or tuple(value.shape) != expected:
                raise ValueError(
                    f"'{leaf.path}': expected {leaf.spec.dtype} {list(expected)}, got {value.dtype} "
                    f"{list(value.shape)}. What is stored must be as data_spec says, with the batch before it.")

    # ---- reading -----------------------------------------------------------------------------------------------------

    def read(self, env_ids: torch.Tensor, positions: torch.Tensor, field: Optional[str] = None) -> nest.Nest:
        """Return stored steps ``[*shape, ...]``, or the part of them at a dotted path.

        Args:
            env_ids: int64 ``[*shape]``.
            positions: int64 ``[*shape]``; that they are stored is not checked here.
            field: dotted path; None for everything.
        Raises:
            LookupError: if there is no such part.
            IndexError: if an environment does not exist or a position is negative.
        """
        structure, wanted = self._field(field)
        if self._native is not None:
            values = self._native.read(wanted, env_ids.cpu().contiguous(), positions.cpu().contiguous())
        else:
            values = self._read_with_torch(wanted, env_ids, positions, self.device)
        return values[0] if isinstance(structure, int) else nest.pack_sequence_as(structure, values)

    def read_sequences(self, env_ids: torch.Tensor, positions: torch.Tensor, length: int,
                       device: Optional[torch.device] = None, time_major: bool = False) -> nest.Nest:
        """Return sequences ``[B, length, ...]``, which lie time-major in memory; of a sparse field ``[B, 1, ...]``.

        Args:
            env_ids: int64 ``[B]`` in main memory.
            positions: int64 ``[B]`` in main memory, of the first steps.
            length: number of steps.
            device: where to; None: where the rings are.
            time_major: return the time before the batch.
        """
        device = self.device if device is None else device
        if self._native is not None and device.type == "cpu":
            return self._native.read_sequences(env_ids, positions, length, time_major)
        values: list = [None] * len(self._views)
        steps = torch.arange(length, device="cpu").unsqueeze(1) + positions  # [T, B]
        for is_sparse in (False, True):
            wanted = [i for i, leaf in enumerate(self._layout.leaves)
                      if self._layout.rings[leaf.ring].is_sparse == is_sparse]
            where = steps[:1] if is_sparse else steps
            for index, value in zip(wanted, self._read_with_torch(wanted, env_ids.expand_as(where), where, device)):
                values[index] = value if time_major else value.transpose(0, 1)
        return nest.pack_sequence_as(self._data_spec, values)

    def _read_with_torch(self, wanted: list, env_ids: torch.Tensor, positions: torch.Tensor, device) -> list:
        """Return leaves ``[*shape, ...]`` on ``device``: one gather and one transfer for each ring."""
        if positions.is_cpu:
            self._check_places(env_ids, positions)
        gathered: dict[int, torch.Tensor] = {}
        values = []
        for index in wanted:
            leaf = self._layout.leaves[index]
            if leaf.ring not in gathered:
                num_slots = self._num_slots[leaf.ring]
                slots = positions // self._layout.rings[leaf.ring].interval % num_slots
                rows = convert_device(env_ids * num_slots + slots, self.device)
                ring = self._rings[leaf.ring]
                if len(wanted) == 1:  # what lies beside it is not asked for
                    ring = ring[:, leaf.offset:leaf.offset + leaf.num_bytes]
                    leaf = dataclasses.replace(leaf, offset=0)
                found = convert_device(ring.index_select(0, rows.reshape(-1)), device)
                gathered[leaf.ring] = found.view(*rows.shape, found.shape[1])
            values.append(_rows_as_leaf(gathered[leaf.ring], leaf))
        return values

    def _check_places(self, env_ids: torch.Tensor, positions: torch.Tensor) -> None:
        if positions.numel() == 0:
            return
        low, high = int(env_ids.min()), int(env_ids.max())
        if low < 0 or high >= self._num_environments:
            raise IndexError(f"env_ids: expected 0 to {self._num_environments - 1}, got {low if low < 0 else high}")
        if int(positions.min()) < 0:
            raise IndexError(f"positions: expected >= 0, got {int(positions.min())}")

    def _field(self, field: Optional[str]) -> tuple[nest.Nest, list[int]]:
        """Return the nest of indices of the leaves at a path, and those indices."""
        found = self._fields.get(field)
        if found is None:
            structure = self._index_nest if not field else nest.get_field(self._index_nest, field)
            found = self._fields[field] = structure, nest.flatten(structure)
        return found

    # ---- loading -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def restore(self, path: str, values: torch.Tensor, env_ids: torch.Tensor, positions: torch.Tensor) -> None:
        """Put values ``[K, ...]`` of the leaf at ``path`` where the steps int64 ``[K]`` are; counts stay."""
        for leaf, view in zip(self._layout.leaves, self._views):
            if leaf.path == path:
                slots = positions // self._layout.rings[leaf.ring].interval % self._num_slots[leaf.ring]
                view[env_ids.to(self.device), slots.to(self.device)] = values.to(self.device)


def _rows_as_leaf(rows: torch.Tensor, leaf: Leaf) -> torch.Tensor:
    """Return the part of rows ``[..., row_bytes]`` that is a leaf, as a view ``[..., *shape]``."""
    part = rows[..., leaf.offset:leaf.offset + leaf.num_bytes]
    return part.view(leaf.spec.dtype).view(*rows.shape[:-1], *leaf.spec.shape)


def _plan(index_nest: nest.Nest) -> Any:
    """Return what RowStore needs to find the leaves: an index, or class, children and keys of a container."""
    if not nest.is_nested(index_nest):
        return index_nest
    if isinstance(index_nest, dict):
        return type(index_nest), [_plan(child) for child in index_nest.values()], list(index_nest)
    return type(index_nest), [_plan(child) for child in index_nest]
