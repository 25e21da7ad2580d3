"""The contents of a replay buffer as a dictionary of tensors, and back."""

from __future__ import annotations

from typing import Dict, Optional

import torch

from alf.experience_replayers._sampling import PrioritizedStarts
from alf.utils.row_storage import Leaf, RowStorage

_SIZE, _POSITION, _PRIORITY, _LARGEST = "_current_size", "_current_pos", "_priority", "_largest_priority"


def _key(leaf: Leaf) -> str:
    return leaf.path.replace(".", "|") or "_data"


def save(storage: RowStorage, priorities: Optional[PrioritizedStarts]) -> Dict[str, torch.Tensor]:
    """Return the contents: tensors ``[num_environments, length, ...]`` by the names of the leaves, joined by ``|``.

    The step at a position is at index ``position % length`` (of a part that is stored at intervals: at ``position //
    interval % length``). As long as no ring has been full, ``length`` is what has been stored.
    """
    positions, sizes, _ = storage.counts
    contents = {_SIZE: sizes.clone(), _POSITION: positions.clone()}
    used = max(1, int(positions.max()))  # slots; those after them were never written
    for leaf in storage.layout.leaves:
        interval = storage.layout.rings[leaf.ring].interval
        contents[_key(leaf)] = storage.view(leaf.path)[:, :-(-used // interval)]
    if priorities is not None:
        contents[_PRIORITY] = priorities.values[:, :used]
        contents[_LARGEST] = torch.tensor(priorities.largest, dtype=torch.float64, device="cpu")
    return contents


def load(name: str, storage: RowStorage, priorities: Optional[PrioritizedStarts],
         contents: Dict[str, torch.Tensor]) -> None:
    """Take over contents; of a longer buffer the latest steps.

    Raises:
        ValueError: if they are those of another kind of buffer.
    """
    expected = {_SIZE, _POSITION, *map(_key, storage.layout.leaves)}
    missing = sorted(expected - set(contents))
    unexpected = sorted(set(contents) - expected - {_PRIORITY, _LARGEST})
    if missing or unexpected:
        raise ValueError(f"{name}: the saved contents do not fit data_spec: missing {missing}, unexpected "
                         f"{unexpected}.")
    num_environments = storage.counts.shape[1]
    saved_sizes, saved_positions = contents[_SIZE].cpu(), contents[_POSITION].cpu()
    if tuple(saved_sizes.shape) != (num_environments, ):
        raise ValueError(f"{name}: expected the contents of {num_environments} environments, got "
                         f"{list(saved_sizes.shape)}.")
    _check_counts(name, saved_sizes, saved_positions)
    least_length = int(saved_sizes.clamp(max=storage.max_length).max())
    outer = {_key(leaf): storage.layout.rings[leaf.ring].interval for leaf in storage.layout.leaves}
    if priorities is not None and _PRIORITY in contents:
        outer[_PRIORITY] = 1
        if not bool(torch.isfinite(contents[_PRIORITY]).all()) or bool((contents[_PRIORITY] < 0).any()):
            raise ValueError(f"{name}: '{_PRIORITY}': expected finite numbers >= 0.")
    for key, interval in outer.items():
        shape = list(contents[key].shape[:2])
        if len(shape) < 2 or shape[0] != num_environments or shape[1] < max(1, least_length // interval):
            raise ValueError(f"{name}: '{key}': expected at least {[num_environments, least_length // interval]} "
                             f"steps, got a tensor {list(contents[key].shape)}.")
    for leaf in storage.layout.leaves:
        value = contents[_key(leaf)]
        if value.dtype is not leaf.spec.dtype or tuple(value.shape[2:]) != leaf.spec.shape:
            raise ValueError(f"{name}: '{_key(leaf)}': expected {leaf.spec.dtype} {list(leaf.spec.shape)}, got "
                             f"{value.dtype} {list(value.shape[2:])}.")
    max_length = storage.max_length
    sizes = saved_sizes.clamp(max=max_length)
    for env in range(num_environments):
        steps = torch.arange(int(saved_positions[env] - sizes[env]), int(saved_positions[env]), device="cpu")
        for leaf in storage.layout.leaves:
            interval = storage.layout.rings[leaf.ring].interval
            kept = steps[steps % interval == 0]
            value = contents[_key(leaf)]
            rows = value[env].index_select(0, (kept // interval % value.shape[1]).to(value.device))
            storage.restore(leaf.path, rows, torch.full_like(kept, env), kept)
        if priorities is not None and _PRIORITY in contents:
            saved = contents[_PRIORITY]
            priorities.values[env, steps % max_length] = saved[env].cpu()[steps % saved.shape[1]]
    storage.counts[0], storage.counts[1], storage.counts[2] = saved_positions, sizes, saved_positions
    if priorities is not None:
        if _PRIORITY in contents:
            priorities.largest = float(contents[_LARGEST])
        else:  # of a buffer that sampled uniformly
            priorities.values.fill_(priorities.largest)
        priorities.rebuild()


def _check_counts(name: str, sizes: torch.Tensor, positions: torch.Tensor) -> None:
    """Raise if sizes and positions are not those that a buffer counts.

    Raises:
        ValueError: naming what is wrong.
    """
    for key, value, least in ((_SIZE, sizes, torch.zeros_like(sizes)), (_POSITION, positions, sizes)):
        if value.dtype is not torch.int64 or value.shape != sizes.shape or bool((value < least).any()):
            raise ValueError(f"{name}: '{key}': expected int64 {list(sizes.shape)} from {least.tolist()} on, got "
                             f"{value.dtype} {value.tolist()}.")
