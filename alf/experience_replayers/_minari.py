"""Local Minari datasets (https://minari.farama.org) as steps in the time convention of TimeStep."""

from typing import Dict, List, Optional, Tuple

import numpy as np
import torch

from alf._install import how_to_install
from alf.data_structures import Experience, StepType
from alf.nest import flatten
from alf.nest.nest import is_nested, level_items, py_map_structure_with_path
from alf.tensor_specs import TensorSpec


class MinariError(ValueError):
    """A dataset is missing, or cannot be expressed in the specs of the environment."""


def read_dataset(dataset_id: str, spec: Experience,
                 max_length: Optional[int]) -> Tuple[Dict[str, torch.Tensor], torch.Tensor]:
    """Return the steps of a dataset, ``[N, ...]`` by dotted path, and the rows where episodes begin.

    An episode of ``n`` transitions becomes ``n + 1`` steps, of which the last holds the final observation: LAST, with
    discount 0 if the episode terminated, 1 if it was truncated or its recording stopped. The action of that step is 0.

    Args:
        dataset_id: a dataset that ``minari`` finds on this machine.
        spec: nest of specs of ``time_step`` and ``action``. Numbers are converted to its dtypes, and actions from the
            bounds of the dataset to its bounds.
        max_length: take so many episodes from the end that they have at most so many steps, one episode at least.
    Raises:
        MinariError: if Minari is not installed, there is no such dataset, or its structure is not that of ``spec``.
    """
    try:
        import minari
    except ImportError as error:
        raise MinariError(f"offline_buffer_dir: minari:{dataset_id} needs the package minari, which is not installed. "
                          f"Install the extra: {how_to_install('offline')}.") from error
    try:
        dataset = minari.load_dataset(dataset_id)
    except FileNotFoundError as error:
        known = sorted(minari.list_local_datasets())
        raise MinariError(f"offline_buffer_dir: there is no Minari dataset {dataset_id!r} on this machine. There are: "
                          f"{', '.join(known) or 'none'}. Get it with: minari download {dataset_id}") from error
    episodes = []
    num_steps = 0
    for i in reversed(range(dataset.total_episodes)):
        episode = next(iter(dataset.iterate_episodes([dataset.episode_indices[i]])))
        num_steps += len(episode) + 1
        if episodes and max_length is not None and num_steps > max_length:
            break
        episodes.append(_episode_steps(f"minari:{dataset_id}", episode, spec, dataset.action_space))
    episodes.reverse()
    if not episodes:
        raise MinariError(f"minari:{dataset_id}: there are no episodes in it.")
    lengths = torch.tensor([len(episode["time_step.step_type"]) for episode in episodes])
    fields = {path: torch.cat([episode[path] for episode in episodes]) for path in episodes[0]}
    return fields, lengths.cumsum(0) - lengths


def _episode_steps(source: str, episode, spec: Experience, action_space) -> Dict[str, torch.Tensor]:
    """Return the steps ``[n + 1, ...]`` of an episode by dotted path."""
    num_transitions = len(episode)
    step_type = torch.full((num_transitions + 1, ), int(StepType.MID), dtype=torch.int32)
    step_type[0], step_type[-1] = int(StepType.FIRST), int(StepType.LAST)
    discount = torch.ones(num_transitions + 1)
    discount[-1] = 0.0 if bool(episode.terminations[-1]) else 1.0
    reward = _converted(source, "rewards", episode.rewards, spec.time_step.reward)
    fields = {
        "time_step.step_type": step_type,
        "time_step.discount": discount,
        "time_step.reward": torch.cat([torch.zeros_like(reward[:1]), reward]),
    }
    observations = _leaves_like(source, "observations", spec.time_step.observation, episode.observations)
    _add(source, fields, "time_step.observation", spec.time_step.observation, observations)
    spaces = _leaves_like(source, "action_space", spec.action, _as_plain(action_space))
    actions = _leaves_like(source, "actions", spec.action, episode.actions)
    rescaled = [_rescaled(np.asarray(a), space, s)
                for a, space, s in zip(actions, spaces, flatten(spec.action), strict=True)]
    _add(source, fields, "action", spec.action, [np.concatenate([a, np.zeros_like(a[:1])]) for a in rescaled])
    return fields


def _add(source: str, fields: Dict[str, torch.Tensor], prefix: str, spec, leaves: List[np.ndarray]) -> None:
    paths = flatten(py_map_structure_with_path(lambda path, _: f"{prefix}.{path}".rstrip("."), spec))
    for path, leaf, leaf_spec in zip(paths, leaves, flatten(spec), strict=True):
        fields[path] = _converted(source, path, leaf, leaf_spec)


def _converted(source: str, path: str, array, spec: TensorSpec) -> torch.Tensor:
    """Return an array with the dtype of ``spec``, if only its precision differs."""
    array = np.asarray(array)
    kinds = ("f", "iub")
    wanted = "f" if spec.dtype.is_floating_point else "iub"
    if not any(array.dtype.kind in kind and kind == wanted for kind in kinds):
        raise MinariError(f"{source}: {path}: expected {spec.dtype_str}{list(spec.shape)}, got "
                          f"{array.dtype}{list(array.shape[1:])}.")
    return torch.as_tensor(array.astype(np.dtype(spec.dtype_str)))


def _as_plain(space):
    """Return a nest of leaf spaces from a Dict or Tuple space."""
    if hasattr(space, "spaces"):
        items = space.spaces
        if isinstance(items, (list, tuple)):
            return tuple(_as_plain(item) for item in items)
        return {name: _as_plain(item) for name, item in items.items()}
    return space


def _leaves_like(source: str, path: str, spec, value) -> list:
    """Return the leaves of ``value``, dictionaries and tuples, in the order of those of ``spec``."""
    if not is_nested(spec):
        if isinstance(value, (dict, tuple)):
            raise MinariError(f"{source}: {path}: expected one array of {spec}, got a {type(value).__name__}.")
        return [value]
    children = level_items(spec)
    names = [name for name, _ in children]
    if isinstance(value, tuple):
        value = {str(i): item for i, item in enumerate(value)}
    if not isinstance(value, dict) or sorted(value) != sorted(names):
        got = sorted(value) if isinstance(value, dict) else "one array"
        raise MinariError(f"{source}: {path}: expected {sorted(names)}, got {got}.")
    return [leaf for name, child in children for leaf in _leaves_like(source, f"{path}.{name}", child, value[name])]


def _rescaled(action: np.ndarray, space, spec: TensorSpec) -> np.ndarray:
    """Return actions moved from the bounds of a dataset's space to those of ``spec``; discrete ones count from 0."""
    if not spec.is_continuous:
        return action - np.asarray(getattr(space, "start", 0), action.dtype)
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    if not spec.is_bounded() or not (np.isfinite(low) & np.isfinite(high)).all():
        return action
    fraction = (action - low) / (high - low)
    return (spec.minimum + fraction * (spec.maximum - spec.minimum)).astype(np.float32)
