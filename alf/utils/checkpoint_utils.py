"""`Checkpointer`: saves and loads the state of a run, so that no kill, full disk or bad disk loses it.

A checkpoint is a directory `ckpt-<step>` (see `_checkpoint_files`). The state of each module is split into
three parts: the module itself, its optimizers, and its replay buffer, so that the latter two need not be
read.
"""

from __future__ import annotations

import difflib
import os
from typing import Any, Callable, Iterable, Iterator

import torch
from absl import logging
from torch import nn

from alf.utils import _checkpoint_files as files
from alf.utils._checkpoint_files import CheckpointError, DamagedCheckpointError

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "DamagedCheckpointError",
    "enable_checkpoint",
    "extract_replay_buffer_from_checkpoint",
    "extract_sub_state_dict_from_checkpoint",
    "is_checkpoint_enabled",
]

_OPTIMIZER, _REPLAY_BUFFER = "-optimizer", "-replay_buffer"  # ends of the names of those parts
_NOW = "in the checkpoint, but now"
_HOW_TO_FIT = (
    "Use the configuration it was made with, or leave the differing entries alone with "
    "ignored_parameter_prefixes=[...]; strict=False accepts missing and unexpected ones."
)


def enable_checkpoint(module: nn.Module, flag: bool = True) -> None:
    """Say whether `module`, a part of something that is saved, is in checkpoints; by default it is."""
    module._checkpoint_enabled = flag


def is_checkpoint_enabled(module: nn.Module) -> bool:
    """Return whether `module` is part of checkpoints."""
    return getattr(module, "_checkpoint_enabled", True)


class Checkpointer:
    """Saves and loads the state of several objects together.

    Args:
        ckpt_dir: directory of the checkpoints.
        max_to_keep: number of newest checkpoints kept by `save`; None keeps all. The latest one saved as best
            is kept besides.
        **kwargs: {name: object with `state_dict()` and `load_state_dict()`}; the names are those of the
        files.
    """

    def __init__(self, ckpt_dir: str, *, max_to_keep: int | None = None, **kwargs: Any):
        if max_to_keep is not None and max_to_keep < 1:
            raise ValueError(f"Checkpointer.max_to_keep: expected None or a number >= 1, got {max_to_keep}.")
        for name, module in kwargs.items():
            for method in ("state_dict", "load_state_dict"):
                if not callable(getattr(module, method, None)):
                    raise TypeError(
                        f"Checkpointer: {name} is a {type(module).__name__}, which has no {method}()."
                    )
        self._ckpt_dir = os.path.abspath(os.path.expanduser(ckpt_dir))
        self._max_to_keep = max_to_keep
        self._modules = kwargs
        files.sweep(self._ckpt_dir)

    @property
    def ckpt_dir(self) -> str:
        """Directory of the checkpoints, an absolute path."""
        return self._ckpt_dir

    def save(self, global_step: int, *, is_best: bool = False) -> str:
        """Save everything as `ckpt-<global_step>`, replacing what has that name, then remove the oldest ones.

        Args:
            global_step: number of the checkpoint.
            is_best: keep this one until another one is saved as best.
        Returns:
            The path of the checkpoint.
        Raises:
            CheckpointError: if the disk does not take it. Earlier checkpoints are then as they were, and
                nothing is left behind.
            TypeError: if some state cannot be stored.
        """
        step = int(global_step)
        if step < 0:
            raise ValueError(f"Checkpointer.save: expected global_step >= 0, got {step}.")
        parts = {}
        for name, module in self._modules.items():
            disabled = _disabled_prefixes(module)
            parts.update(_split(name, module.state_dict(), disabled))
        try:
            files.sweep(self._ckpt_dir)
            path = files.write_checkpoint(self._ckpt_dir, step, parts, is_best)
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint of step {step} could not be saved in {self._ckpt_dir}: {error}. Earlier "
                f"checkpoints are untouched. Free disk space, or check that the directory can be written."
            ) from error
        files.rotate(self._ckpt_dir, self._max_to_keep, step)
        return path

    def has_checkpoint(self, global_step: int | str = "latest") -> bool:
        """Return whether there is a checkpoint of that step, any one ("latest"), or a best one ("best").

        It may be damaged.
        """
        if global_step == "latest":
            return bool(files.list_steps(self._ckpt_dir))
        if global_step == "best":
            return files.best_step(self._ckpt_dir) is not None
        return int(global_step) in files.list_steps(self._ckpt_dir)

    def load(
        self,
        global_step: int | str = "latest",
        ignored_parameter_prefixes: Iterable[str] = [],
        including_optimizer: bool = True,
        including_replay_buffer: bool = True,
        including_data_transformers: bool = True,
        strict: bool = True,
    ) -> int:
        """Load a checkpoint into the objects. What is not taken from it stays as it is.

        Args:
            global_step: its step, or "latest" for the newest one that is undamaged, or "best".
            ignored_parameter_prefixes: leave alone what begins with one of these, such as
                `_rl_algorithm._actor_network` or, with the name of the object, `algorithm._rl_algorithm`.
            including_optimizer: load optimizers.
            including_replay_buffer: load replay buffers.
            including_data_transformers: load data transformers.
            strict: require that checkpoint and objects have the same entries; otherwise differences are told.
        Returns:
            The step of the checkpoint, or -1 if there is none.
        Raises:
            CheckpointError: if the checkpoint asked for is missing or damaged, if all are damaged, or if it
                does not fit.
        """
        loading = _Loading(
            list(ignored_parameter_prefixes),
            including_optimizer,
            including_replay_buffer,
            including_data_transformers,
            strict,
        )
        if global_step != "latest":
            step = files.best_step(self._ckpt_dir) if global_step == "best" else int(global_step)
            if step is None or step not in files.list_steps(self._ckpt_dir):
                raise CheckpointError(
                    f"There is no checkpoint of step {global_step} in {self._ckpt_dir}. "
                    f"There are: {files.list_steps(self._ckpt_dir) or 'none'}."
                )
            loading.load(files.checkpoint_path(self._ckpt_dir, step), self._modules)
            # Without optimizers nobody trains on: whoever only acts chose this step on purpose.
            if including_optimizer and step < files.list_steps(self._ckpt_dir)[-1]:
                logging.warning(
                    "%s has later checkpoints than step %d, and they stay the latest. Move them away to go "
                    "on from this one after the next start.",
                    self._ckpt_dir,
                    step,
                )
            return step
        damages = []
        for step in reversed(files.list_steps(self._ckpt_dir)):
            path = files.checkpoint_path(self._ckpt_dir, step)
            try:
                loading.load(path, self._modules)
            except DamagedCheckpointError as error:
                damages.append(str(error))
                logging.error("DAMAGED CHECKPOINT, not used: %s. Trying the one before it.", error)
                continue
            if damages:
                logging.warning("Going on from %s: %d newer ones are damaged.", path, len(damages))
            return step
        if damages:
            raise CheckpointError(
                f"All checkpoints in {self._ckpt_dir} are damaged: {'; '.join(damages)}. "
                f"To start from scratch move the directory away."
            )
        for path in files.list_pickles(self._ckpt_dir):
            logging.warning(
                "%s is a file and no checkpoint of this framework. It is not read: pickles can run code.",
                path,
            )
        return -1


class _Loading:
    """One reading of a checkpoint: which parts are taken, and how they are checked against the objects."""

    def __init__(
        self,
        ignored_prefixes: list[str],
        including_optimizer: bool,
        including_replay_buffer: bool,
        including_data_transformers: bool,
        strict: bool,
    ):
        self._ignored_prefixes = ignored_prefixes
        included = {_OPTIMIZER: including_optimizer, _REPLAY_BUFFER: including_replay_buffer}
        self._left_out_parts = [part for part, is_included in included.items() if not is_included]
        self._including_data_transformers = including_data_transformers
        self._strict = strict

    def load(self, path: str, modules: dict[str, Any]) -> None:
        """Load the checkpoint at `path`: everything is read and checked before any object is changed."""
        manifest = files.read_manifest(path)
        states, problems = {}, []
        for name, module in modules.items():
            if f"{name}.json" not in manifest["files"]:
                problems.append(f"{name}: not in the checkpoint, which holds {_part_names(manifest)}")
                continue
            loaded: Any = {}
            for part in ("", _OPTIMIZER, _REPLAY_BUFFER):
                if part not in self._left_out_parts and f"{name}{part}.json" in manifest["files"]:
                    loaded = _merge(loaded, files.read_part(path, manifest, name + part))
            states[name], found = self._fit(name, module, loaded)
            problems += found
        if problems:
            told = f"{path} does not fit:\n  " + "\n  ".join(problems)
            if self._strict or any(_NOW in problem for problem in problems):
                raise CheckpointError(f"{told}\n{_HOW_TO_FIT}")
            logging.warning("%s\nMissing entries stay as they are, unexpected ones are not used.", told)
        for name, state in states.items():
            modules[name].load_state_dict(state)

    def _fit(self, name: str, module: Any, loaded: Any) -> tuple[Any, list[str]]:
        """Return the state to give to `module`, and what is wrong with it."""
        if not isinstance(loaded, dict):
            return loaded, []
        disabled = _disabled_prefixes(module)
        current = module.state_dict()
        self._keep_current(current, loaded, "", name, disabled)
        if not isinstance(module, nn.Module):
            return loaded, []  # only of modules it is known that their entries do not come and go
        problems = []
        missing = [key for key in current if key not in loaded]
        unexpected = [key for key in loaded if key not in current]
        for kind, keys in (("missing", missing), ("unexpected", unexpected)):
            if keys:
                problems.append(f"{name}: {kind} in the checkpoint: {', '.join(keys)}")
        if not self._strict:
            loaded.update({key: current[key] for key in missing})
            for key in unexpected:
                del loaded[key]
        for key, value in loaded.items():
            present = current.get(key)
            if not isinstance(value, torch.Tensor) or not isinstance(present, torch.Tensor):
                continue
            if not isinstance(present, nn.UninitializedParameter) and value.shape != present.shape:
                problems.append(f"{name}.{key}: {tuple(value.shape)} {_NOW} {tuple(present.shape)}")
        return loaded, problems

    def _keep_current(self, current: dict, loaded: dict, path: str, name: str, disabled: list[str]) -> None:
        """Replace in `loaded` what is not to be taken by what is in `current`."""
        for key in [*loaded, *(key for key in current if key not in loaded)]:
            if not isinstance(key, str):
                continue
            key_path = f"{path}.{key}" if path else key
            if self._is_left_alone(key_path, name, disabled):
                loaded.pop(key, None)
                if key in current:
                    loaded[key] = current[key]
            elif isinstance(current.get(key), dict) and isinstance(loaded.get(key), dict):
                self._keep_current(current[key], loaded[key], key_path, name, disabled)

    def _is_left_alone(self, path: str, name: str, disabled: list[str]) -> bool:
        if _part_of(path) in self._left_out_parts or _has_prefix(path, disabled):
            return True
        if not self._including_data_transformers and "_data_transformer" in path:
            return True
        prefixes = tuple(self._ignored_prefixes)
        return path.startswith(prefixes) or f"{name}.{path}".startswith(prefixes)


def _part_of(path: str) -> str:
    """Return which part of a module's state the entry at the dotted path belongs to."""
    components = path.split(".")
    if any("_optimizers" in component for component in components):
        return _OPTIMIZER
    return _REPLAY_BUFFER if any(component.endswith("_replay_buffer") for component in components) else ""


def _part_names(manifest: dict[str, Any]) -> str:
    names = [name.removesuffix(".json") for name in manifest["files"] if name.endswith(".json")]
    return ", ".join(sorted(names))


def _disabled_prefixes(module: Any) -> list[str]:
    if not isinstance(module, nn.Module):
        return []
    return [path for path, part in module.named_modules() if path and not is_checkpoint_enabled(part)]


def _has_prefix(path: str, prefixes: list[str]) -> bool:
    return any(path == prefix or path.startswith(prefix + ".") for prefix in prefixes)


def _split(name: str, state: Any, disabled: list[str]) -> dict[str, Any]:
    """Return {file name: state} of the parts of a module's state, without what is disabled in it."""
    if not isinstance(state, dict):
        return {name: state}
    parts: dict[str, dict] = {"": {}}

    def put(entries: dict, path: tuple[str, ...]) -> None:
        for key, value in entries.items():
            key_path = ".".join([*path, str(key)])
            if _has_prefix(key_path, disabled):
                continue
            part = _part_of(key_path)
            if not part and isinstance(value, dict) and _is_mixed(value, key_path):
                put(value, (*path, key))
                continue
            target = parts.setdefault(part, {})
            for level in path:
                target = target.setdefault(level, {})
            target[key] = value

    put(state, ())
    return {name + part: content for part, content in parts.items()}


def _is_mixed(entries: dict, path: str) -> bool:
    """Return whether some entry of a nested dict belongs to another part than the module itself."""
    if not all(isinstance(key, str) for key in entries):
        return False
    for key, value in entries.items():
        key_path = f"{path}.{key}"
        if _part_of(key_path) or isinstance(value, dict) and _is_mixed(value, key_path):
            return True
    return False


def _merge(target: Any, source: Any) -> Any:
    """Return `source` merged into `target`; what is no dict replaces it."""
    if not isinstance(source, dict):
        return source
    for key, value in source.items():
        target[key] = _merge(target.get(key, {}), value)
    return target


def extract_sub_state_dict_from_checkpoint(checkpoint_prefix: str, checkpoint_path: str) -> dict[str, Any]:
    """Return the parameters of a part of a saved algorithm, to preload a part of another one.

    Args:
        checkpoint_prefix: the name the algorithm was saved under ("alg" stands for "algorithm") and the path
            of the part in it: "alg" is all of it, "alg._rl_algorithm._actor_network" one network.
        checkpoint_path: a checkpoint directory, or a directory of checkpoints, of which the newest undamaged
            is used.
    Returns:
        {path below the prefix: value}, without optimizers and replay buffers.
    Raises:
        CheckpointError: if there is no such checkpoint, or nothing in it has that prefix.
    """
    name, _, prefix = checkpoint_prefix.partition(".")

    def read(candidate, manifest):
        found = "algorithm" if name == "alg" and "alg.json" not in manifest["files"] else name
        if f"{found}.json" not in manifest["files"]:
            raise CheckpointError(f"{candidate} holds nothing named {found!r}, but {_part_names(manifest)}.")
        return found, files.read_part(candidate, manifest, found)

    candidate, (name, state) = _read_newest(checkpoint_path, read)
    if not prefix:
        return state
    found = {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(prefix + ".")}
    if not found:
        known = {key[:end] for key in state for end in range(len(key)) if key[end] == "."}
        nearest = difflib.get_close_matches(prefix, known, n=3)
        raise CheckpointError(f"{candidate}: nothing of {name!r} begins with {prefix!r}. Nearest: {nearest}.")
    return found


def extract_replay_buffer_from_checkpoint(checkpoint_path: str) -> tuple[str, dict[str, Any]]:
    """Return the checkpoint that was read, and the replay buffer saved in it.

    Args:
        checkpoint_path: a checkpoint directory, or a directory of checkpoints, of which the newest undamaged
            is used.
    Returns:
        - the path of the checkpoint
        - {path below the buffer: value}
    Raises:
        CheckpointError: if there is no such checkpoint, or not exactly one replay buffer in it.
    """

    def read(candidate, manifest):
        names = [name.removesuffix(".json") for name in manifest["files"]]
        parts = {name: files.read_part(candidate, manifest, name) for name in names if name.endswith(_REPLAY_BUFFER)}
        buffers: dict[str, dict] = {}
        for path, value in _flat(parts):
            if isinstance(value, torch.Tensor) and _part_of(path) == _REPLAY_BUFFER:
                buffer, _, name = path.rpartition("_replay_buffer.")
                buffers.setdefault(f"{buffer}_replay_buffer", {})[name] = value
        return buffers

    candidate, buffers = _read_newest(checkpoint_path, read)
    if len(buffers) != 1:
        raise CheckpointError(
            f"{candidate}: expected one replay buffer, got {sorted(buffers) or 'none'}. A run keeps it in its "
            f'checkpoints with alf.config("ReplayBuffer", enable_checkpoint=True).'
        )
    return candidate, next(iter(buffers.values()))


def _flat(entries: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of what is in nested dicts."""
    for key, value in entries.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_newest(checkpoint_path: str, read: Callable[[str, dict], Any]) -> tuple[str, Any]:
    """Return the path of a checkpoint and what `read` returns for it.

    Args:
        checkpoint_path: a checkpoint directory, or a directory of checkpoints, of which the newest undamaged
            is used.
        read: called with path and manifest.
    """
    path = os.path.abspath(os.path.expanduser(checkpoint_path))
    if not os.path.isdir(path):
        raise CheckpointError(
            f"{path} is not a checkpoint directory. Pickled checkpoints are not read, for they can run code."
        )
    steps = files.list_steps(path)
    candidates = [files.checkpoint_path(path, step) for step in reversed(steps)] or [path]
    for candidate in candidates[:-1]:
        try:
            return candidate, read(candidate, files.read_manifest(candidate))
        except DamagedCheckpointError as error:
            logging.error("DAMAGED CHECKPOINT, not used: %s. Trying the one before it.", error)
    return candidates[-1], read(candidates[-1], files.read_manifest(candidates[-1]))
