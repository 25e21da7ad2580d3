"""Stored experience in files: reads replay buffers that runs or other programs left, writes plain ones, checks both.

A stored buffer is one of

- a checkpoint of a run that kept its replay buffer (``alf.config("ReplayBuffer", enable_checkpoint=True)``): the
  directory of the run, its ``train/algorithm``, or one ``ckpt-<step>`` in it;
- a ``.safetensors`` file, as :func:`write_offline_buffer` writes it;
- a local Minari dataset, ``"minari:<dataset id>"``.

The first two hold tensors ``[num_envs, length, ...]`` by the path of their field in an Experience, its parts joined by
``|``: ``time_step|observation``, ``time_step|reward``, ``action`` and so on. ``_current_size`` ``[num_envs]`` is the
number of steps that count, ``_current_pos`` ``[num_envs]`` the position after the newest of them; both count modulo
``length``, as a ring does. Without them all steps count, oldest first.

Nothing read here can run code: pickles are refused.
"""

import dataclasses
import hashlib
import os
from typing import Dict, List, Optional

import torch

from alf.data_structures import Experience, StepType
from alf.device_ctx import device
from alf.experience_replayers import _minari
from alf.nest import flatten, map_structure
from alf.nest.nest import py_map_structure_with_path
from alf.tensor_specs import TensorSpec
from alf.utils.checkpoint_utils import CheckpointError, extract_replay_buffer_from_checkpoint

_FIRST, _LAST = int(StepType.FIRST), int(StepType.LAST)
_SIZE, _POSITION = "_current_size", "_current_pos"
_FORMAT = "alf-replay-buffer"
_MINARI = "minari:"
_LARGEST_POSITION = 2**62  # beyond it positions could not be added to
# What can be told from the other fields.
_DERIVED = ("time_step|prev_action", "time_step|env_id")
_BOUND_TOLERANCE = 1e-5  # of actions, relative to bounds above 1


class OfflineBufferError(ValueError):
    """A stored buffer cannot be read, is damaged, or does not fit the environment."""


@dataclasses.dataclass
class OfflineSteps:
    """Steps of stored experience, one after the other.

    Attributes:
        source: where they come from, for messages.
        fields: tensors ``[N, ...]`` by the path of their field.
        starts: int64 ``[K]``, ascending from 0: rows that do not follow the row before in time.
    """
    source: str
    fields: Dict[str, torch.Tensor]
    starts: torch.Tensor


# ---- writing ---------------------------------------------------------------------------------------------------------


def named_leaves(nest) -> Dict[str, object]:
    """Return the leaves of a nest by their path, its parts joined by ``|``: ``{"time_step|reward": ...}``."""
    names = flatten(py_map_structure_with_path(lambda path, leaf: path.replace(".", "|"), nest))
    return dict(zip(names, flatten(nest), strict=True))


def write_offline_buffer(path: str,
                         experience: Experience,
                         current_size: Optional[torch.Tensor] = None,
                         current_pos: Optional[torch.Tensor] = None) -> None:
    """Write experience to a file that ``TrainerConfig.offline_buffer_dir`` can name; replaces what is there.

    At every moment the old or the new file is whole.

    Args:
        path: name of the file, with the ending ``.safetensors``.
        experience: tensors ``[num_envs, length, ...]``: ``time_step`` with ``step_type``, ``reward``, ``discount`` and
            ``observation``, and ``action`` within the bounds that the algorithm acts in.
        current_size: int64 ``[num_envs]``; None: all steps count.
        current_pos: int64 ``[num_envs]``; None: the oldest step is the first.
    Raises:
        OfflineBufferError: if the tensors have not the same ``num_envs`` and ``length``.
    """
    from safetensors.torch import save_file

    if not path.endswith(".safetensors"):
        raise OfflineBufferError(f"write_offline_buffer.path: expected a name that ends with .safetensors, got {path}.")
    tensors = {name: leaf.detach().cpu().clone(memory_format=torch.contiguous_format)
               for name, leaf in named_leaves(experience).items()}
    for name, value in ((_SIZE, current_size), (_POSITION, current_pos)):
        if value is not None:
            tensors[name] = torch.as_tensor(value, dtype=torch.int64).cpu()
    _check_outer_shape(path, tensors)
    temporary = f"{path}.tmp-{os.getpid()}"
    try:
        save_file(tensors, temporary, metadata={"format": _FORMAT, "sha256": _digest(tensors)})
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _digest(tensors: Dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names and contents."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_offline_steps(location: str, spec: Experience, max_length: Optional[int] = None) -> OfflineSteps:
    """Return the steps of a stored buffer, in main memory, those of one environment after those of another.

    Args:
        location: directory, ``.safetensors`` file or ``"minari:<dataset id>"``.
        spec: nest of specs of ``time_step`` and ``action``.
        max_length: take at most so many steps of each environment, the newest; of a Minari dataset as many in all.
    Raises:
        OfflineBufferError: if there is no such buffer, it is damaged, or it does not fit ``spec``.
    """
    with device("cpu"):
        steps = _read_steps(location, spec, max_length)
        # A policy may draw actions out of bounds, which the environment clips: what a run has kept of its own is as it
        # is.
        is_checkpoint = not location.startswith(_MINARI) and os.path.isdir(os.path.expanduser(location))
        _check_fields(steps, named_leaves(spec), check_actions=not is_checkpoint)
        _check_times(steps)
    return steps


def _read_steps(location: str, spec: Experience, max_length: Optional[int]) -> OfflineSteps:
    if not location.startswith(_MINARI):
        return _in_time_order(*_read_tensors(os.path.abspath(os.path.expanduser(location))), max_length)
    dataset_id = location.removeprefix(_MINARI)
    try:
        fields, starts = _minari.read_dataset(dataset_id, spec, max_length)
    except _minari.MinariError as error:
        raise OfflineBufferError(str(error)) from error
    return OfflineSteps(location, {path.replace(".", "|"): leaf for path, leaf in fields.items()}, starts)


def _read_tensors(path: str):
    """Return the file that was read, and its tensors ``[num_envs, length, ...]`` by name."""
    if os.path.isdir(path):
        in_run = os.path.join(path, "train", "algorithm")
        try:
            source, state = extract_replay_buffer_from_checkpoint(in_run if os.path.isdir(in_run) else path)
        except CheckpointError as error:
            raise OfflineBufferError(f"offline_buffer_dir: {error}") from error
        return source, state
    if not os.path.exists(path):
        raise OfflineBufferError(f"offline_buffer_dir: there is no {path}. Expected the directory of a run or of a "
                                 "checkpoint, a .safetensors file, or minari:<dataset id>.")
    if not path.endswith(".safetensors"):
        raise OfflineBufferError(
            f"offline_buffer_dir: {path} is not a .safetensors file. Files that torch.save wrote are pickles, which "
            "can run code, and are not read. If you trust it, convert it once: state = torch.load(path, "
            "weights_only=True)['algorithm']; safetensors.torch.save_file({name.removeprefix('_replay_buffer.'): "
            "value.contiguous() for name, value in state.items() if name.startswith('_replay_buffer.')}, "
            "'buffer.safetensors').")
    return path, _read_file(path)


def _read_file(path: str) -> Dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise OfflineBufferError(f"{path}: cannot be read: {error}. It is damaged, cut off, or no safetensors file; "
                                 "make or copy it again.") from error
    if metadata.get("format") == _FORMAT and "sha256" not in metadata:
        raise OfflineBufferError(f"{path}: its metadata names the format {_FORMAT}, which has a checksum 'sha256' "
                                 f"beside it; got {sorted(metadata)}. Make it by write_offline_buffer.")
    if metadata.get("format") == _FORMAT and metadata["sha256"] != _digest(tensors):
        raise OfflineBufferError(f"{path}: does not match its checksum: its content has changed since it was written. "
                                 "Make or copy it again.")
    return tensors


def _in_time_order(source: str, tensors: Dict[str, torch.Tensor], max_length: Optional[int]) -> OfflineSteps:
    """Return the steps that count, oldest first, of one environment after the other."""
    # Others, such as priorities and recurrent states, are of no use to another run, and may have other shapes.
    tensors = {name: leaf for name, leaf in tensors.items()
               if name.split("|")[0] in ("time_step", "action", _SIZE, _POSITION)}
    num_envs, length = _check_outer_shape(source, tensors)
    sizes = tensors.pop(_SIZE, torch.full((num_envs, ), length))
    ends = tensors.pop(_POSITION, sizes)
    _check_counts(source, _SIZE, sizes, 0, length)
    _check_counts(source, _POSITION, ends, 0, _LARGEST_POSITION)
    counts = sizes if max_length is None else sizes.clamp(max=max_length)
    rows = []
    counts, ends = counts.long(), ends.long()
    for env_id, (count, end) in enumerate(zip(counts.tolist(), ends.tolist(), strict=True)):
        rows.append(env_id * length + torch.arange(end - count, end) % length)
    starts = (counts.cumsum(0) - counts)[counts > 0]
    if not len(starts):
        raise OfflineBufferError(f"{source}: there are no steps in it.")
    index = torch.cat(rows)
    return OfflineSteps(source, {name: leaf.flatten(0, 1)[index] for name, leaf in tensors.items()}, starts)


def _check_counts(source: str, name: str, counts: torch.Tensor, low: int, high: int) -> None:
    """Raise if ``counts`` are not whole numbers in a range; as float32 or float64 they are read, too."""
    whole = counts.dtype is not torch.bool and not counts.is_complex() and bool((counts == counts.floor()).all())
    if not whole or bool((counts < low).any()) or bool((counts > high).any()):
        raise OfflineBufferError(f"{source}: {name}: expected whole numbers from {low} to {high}, got {counts.dtype} "
                                 f"{counts.tolist()}.")


# ---- checking --------------------------------------------------------------------------------------------------------


def _check_outer_shape(source: str, tensors: Dict[str, torch.Tensor]):
    """Return ``(num_envs, length)``, which all tensors must have in common."""
    name, first = next(((name, leaf) for name, leaf in tensors.items() if name.endswith("step_type")), (None, None))
    if name is None or first.ndim != 2:
        raise OfflineBufferError(f"{source}: expected a tensor time_step|step_type [num_envs, length], got "
                                 f"{'none' if name is None else f'shape {tuple(first.shape)}'}. There are: "
                                 f"{', '.join(sorted(tensors))}.")
    outer = tuple(first.shape)
    for other, leaf in tensors.items():
        expected = outer[:1] if other in (_SIZE, _POSITION) else outer
        got = tuple(leaf.shape) if other in (_SIZE, _POSITION) else tuple(leaf.shape[:2])
        if got != expected:
            raise OfflineBufferError(f"{source}: {other}: expected a shape that begins with {expected}, as that of "
                                     f"{name}, got {tuple(leaf.shape)}.")
    return outer


def _check_fields(steps: OfflineSteps, specs: Dict[str, TensorSpec], check_actions: bool) -> None:
    """Check that each field that ``specs`` asks for is there, with its shape, its dtype and sound values.

    Args:
        steps: the steps.
        specs: by the path of the field.
        check_actions: whether continuous actions must be in their bounds.
    Raises:
        OfflineBufferError: telling all fields that are wrong.
    """
    problems = []
    for name, spec in specs.items():
        leaf = steps.fields.get(name)
        if leaf is None:
            if not name.startswith(_DERIVED):
                problems.append(f"{name}: expected {_told(spec.shape, spec.dtype)}, got nothing")
        elif tuple(leaf.shape[1:]) != spec.shape or leaf.dtype != spec.dtype:
            problems.append(f"{name}: expected {_told(spec.shape, spec.dtype)}, got "
                            f"{_told(leaf.shape[1:], leaf.dtype)}")
        elif leaf.is_floating_point():
            count = int((~torch.isfinite(leaf)).sum())
            if count:
                problems.append(f"{name}: {count} of its {leaf.numel()} values are not finite")
            elif check_actions and name.split("|")[0] == "action" and spec.is_bounded():
                problems += _actions_out_of_bounds(name, leaf, spec, steps.fields.get("time_step|step_type"))
        elif spec.is_bounded():
            low, high = torch.tensor(spec.minimum), torch.tensor(spec.maximum)
            if bool((leaf < low).any()) or bool((leaf > high).any()):
                problems.append(f"{name}: expected values from {low.tolist()} to {high.tolist()}, got {leaf.min()} to "
                                f"{leaf.max()}")
    if problems:
        raise OfflineBufferError(
            f"{steps.source} does not fit this environment and its wrappers:\n  " + "\n  ".join(problems) +
            f"\nIt has: {', '.join(sorted(steps.fields))}. Use the environment and wrappers that it was made with, or "
            "make it again.")


def _actions_out_of_bounds(name: str, actions: torch.Tensor, spec: TensorSpec,
                           step_type: Optional[torch.Tensor]) -> List[str]:
    """Return what is wrong with continuous actions ``[N, ...]``; those at LAST are not used, whatever they are."""
    if step_type is not None:
        actions = actions[step_type != _LAST]
    low, high = (torch.tensor(bound, device=actions.device) for bound in (spec.minimum, spec.maximum))
    tolerance_low, tolerance_high = (_BOUND_TOLERANCE * bound.abs().clamp(min=1) for bound in (low, high))
    excess = torch.maximum(low - actions - tolerance_low, actions - high - tolerance_high)
    is_outside = excess > 0
    if not bool(is_outside.any()):
        return []
    num_rows = int(is_outside.reshape(len(actions), -1).any(1).sum())
    return [f"{name}: expected actions in the bounds of the spec, {low.tolist()} to {high.tolist()} (usually "
            f"normalised to [-1, 1]); in {num_rows} of {len(actions)} steps they are outside, the farthest is "
            f"{actions.reshape(-1)[excess.argmax()].item():g}"]


def _told(shape, dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


def _check_times(steps: OfflineSteps) -> None:
    """Check that step types follow one another as in episodes, and let pieces begin where one did not end."""
    step_type, discount = steps.fields["time_step|step_type"], steps.fields["time_step|discount"]
    if bool((step_type < _FIRST).any()) or bool((step_type > _LAST).any()):
        raise OfflineBufferError(f"{steps.source}: time_step|step_type: expected 0 (FIRST), 1 (MID) or 2 (LAST), got "
                                 f"values from {int(step_type.min())} to {int(step_type.max())}.")
    if bool((discount < 0).any()) or bool((discount > 1).any()):
        raise OfflineBufferError(f"{steps.source}: time_step|discount: expected values from 0 to 1, got "
                                 f"{float(discount.min())} to {float(discount.max())}.")
    begins = torch.zeros(len(step_type), dtype=torch.bool)
    begins[steps.starts] = True
    wrong = (step_type[:-1] == _LAST) & (step_type[1:] != _FIRST) & ~begins[1:]
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise OfflineBufferError(f"{steps.source}: time_step|step_type: expected 0 (FIRST) after 2 (LAST), got "
                                 f"{int(step_type[row + 1])} in step {row + 1}. An episode ends with a LAST step that "
                                 "holds its true last observation, and the next one begins with FIRST.")
    begins |= step_type == _FIRST
    steps.starts = begins.nonzero().squeeze(1)


# ---- experience ------------------------------------------------------------------------------------------------------


def load_offline_experience(locations: List[str], spec: Experience, max_length: Optional[int] = None) -> Experience:
    """Return all steps of stored buffers as one experience, as if one environment had made them; ``[N, ...]``, in main
    memory.

    Where one piece of experience ends and another begins, the last step becomes LAST, with the discount that it
    has, and the next one FIRST. So nothing is learned across, and a piece that was cut off is bootstrapped from like
    an episode that ended by a time limit.

    Args:
        locations: stored buffers.
        spec: nest of specs of ``time_step`` and ``action``; other fields are not read. What is not stored of
            ``prev_action`` and ``env_id`` is told from the other fields.
        max_length: take at most so many steps of each environment of each buffer, the newest.
    Raises:
        OfflineBufferError: if a buffer cannot be read or does not fit ``spec``.
    """
    with device("cpu"):
        parts = [_as_experience(read_offline_steps(location, spec, max_length), spec) for location in locations]
        return parts[0] if len(parts) == 1 else map_structure(lambda *leaves: torch.cat(leaves), *parts)


def _as_experience(steps: OfflineSteps, spec: Experience) -> Experience:
    fields, starts = dict(steps.fields), steps.starts
    step_type = fields["time_step|step_type"].clone()
    num_steps = len(step_type)
    ends = torch.cat([starts[1:], torch.tensor([num_steps])]) - 1
    step_type[starts] = _FIRST
    step_type[ends] = _LAST  # also of a piece of one step: nothing may be learned from it to the next one
    fields["time_step|step_type"] = step_type
    for name in named_leaves(spec):
        if name not in fields and name.startswith("time_step|prev_action"):
            action = fields["action" + name.removeprefix("time_step|prev_action")]
            fields[name] = torch.cat([torch.zeros_like(action[:1]), action[:-1]])
            fields[name][starts] = 0
    fields.setdefault("time_step|env_id", torch.zeros(num_steps, dtype=torch.int32))
    return py_map_structure_with_path(lambda path, _: fields[path.replace(".", "|")], spec)
