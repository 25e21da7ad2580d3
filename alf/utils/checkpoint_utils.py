"""`Checkpointer`: saves and loads the state of a run, so that no kill, full disk or bad disk loses it.

A checkpoint is a directory `ckpt-<step>` (see `_checkpoint_files`). The state of each module is split into
three parts: the module itself, its optimizers, and its replay buffer, so that the latter two need not be
read.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import os
import shutil
from typing import Any, Callable, Iterable, NamedTuple

import torch
from absl import logging

from alf.utils import _checkpoint_files as files
from alf.utils._checkpoint_files import CheckpointError, DamagedCheckpointError
from alf.utils._checkpoint_loading import Loading
from alf.utils._checkpoint_parts import (
    REPLAY_BUFFER,
    disabled_prefixes,
    enable_checkpoint,
    flat,
    is_checkpoint_enabled,
    part_names,
    part_of,
    split,
)

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "DamagedCheckpointError",
    "enable_checkpoint",
    "extract_replay_buffer_from_checkpoint",
    "extract_sub_state_dict_from_checkpoint",
    "is_checkpoint_enabled",
]

_BEST = "best"  # folder of the best checkpoint


class Snapshot(NamedTuple):
    """A copy of the state of a moment."""

    step: int  # number of the checkpoint that it may become
    parts: dict[str, Any]  # {file name: state}
    dropped: tuple[str, ...]  # file names that are left out


class Checkpointer:
    """Saves and loads the state of several objects together.

    Args:
        ckpt_dir: directory of the checkpoints.
        max_to_keep: number of newest checkpoints kept by `save`; None keeps all. The best one, see `save_best`, is
            kept besides.
        **kwargs: {name: object with `state_dict()` and `load_state_dict()`}; the names are those of the
        files. One that also has `check_state_dict(state)` is asked whether a state is fit to be loaded, before any
        object is changed: what it raises is told as damage of the checkpoint.
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

    def save(self, global_step: int) -> str:
        """Save everything as `ckpt-<global_step>`, replacing what has that name, then remove the oldest ones.

        Args:
            global_step: number of the checkpoint.
        Returns:
            The path of the checkpoint.
        Raises:
            CheckpointError, TypeError: as :meth:`write`.
        """
        path = self.write(global_step)
        self.drop_older(global_step)
        return path

    def write(self, global_step: int) -> str:
        """Save everything as `ckpt-<global_step>`, replacing what has that name.

        Args:
            global_step: number of the checkpoint.
        Returns:
            The path of the checkpoint.
        Raises:
            CheckpointError: if the disk does not take it. Earlier checkpoints are then as they were, and
                nothing is left behind.
            TypeError: if some state cannot be stored.
        """
        step = int(global_step)
        if step < 0:
            raise ValueError(f"Checkpointer.write: expected global_step >= 0, got {step}.")
        return self._write(self._ckpt_dir, step, self._parts(self._modules))

    def drop_older(self, global_step: int) -> None:
        """Remove the oldest checkpoints, and the replay buffers of all but this one.

        They may be a thousand times as large as the rest.

        Args:
            global_step: number of a checkpoint that is whole and on the disk.
        """
        files.rotate(self._ckpt_dir, self._max_to_keep, int(global_step))
        files.drop_parts(self._ckpt_dir, REPLAY_BUFFER, int(global_step))

    def snapshot(self, global_step: int, names: Iterable[str]) -> Snapshot:
        """Return a copy of the present state of some objects, which `save_best` can write later.

        Args:
            global_step: number of the checkpoint that it may become.
            names: of the objects. Replay buffers are left out.
        """
        parts = self._parts({name: self._modules[name] for name in names})
        dropped = tuple(name for name in parts if name.endswith(REPLAY_BUFFER))
        kept = {name: copy.deepcopy(part) for name, part in parts.items() if name not in dropped}
        return Snapshot(int(global_step), kept, dropped)

    def save_best(self, snapshot: Snapshot, score: float) -> str:
        """Save a snapshot as `best/ckpt-<step>`, in the place of the best one so far.

        It is beside the others, so that it is neither rotated away nor taken for the newest.

        Args:
            snapshot: what to save.
            score: how good it is, told by `best_score`.
        Returns:
            The path of the checkpoint.
        Raises:
            CheckpointError: if the disk does not take it. The best one so far is then as it was.
        """
        directory = os.path.join(self._ckpt_dir, _BEST)
        path = self._write(directory, snapshot.step, snapshot.parts, float(score), snapshot.dropped)
        files.rotate(directory, 1, snapshot.step)
        for step in files.list_steps(directory):
            if step > snapshot.step:  # of a run that went on from an earlier checkpoint
                shutil.rmtree(files.checkpoint_path(directory, step), ignore_errors=True)
        return path

    def best_score(self) -> float | None:
        """Return the score of the best checkpoint, or None if there is none that is undamaged."""
        directory = os.path.join(self._ckpt_dir, _BEST)
        for step in reversed(files.list_steps(directory)):
            with contextlib.suppress(CheckpointError):
                return files.read_manifest(files.checkpoint_path(directory, step)).get("score")
        return None

    def state_bytes(self) -> tuple[int, int]:
        """Return the bytes of the tensors to be saved: without replay buffers, and of replay buffers as they are."""
        sizes = [0, 0]
        for name, part in self._parts(self._modules).items():
            for _, value in flat({name: part}):
                if isinstance(value, torch.Tensor):
                    sizes[name.endswith(REPLAY_BUFFER)] += value.numel() * value.element_size()
        return sizes[0], sizes[1]

    @staticmethod
    def _parts(modules: dict[str, Any]) -> dict[str, Any]:
        """Return {file name: state} of objects."""
        parts = {}
        for name, module in modules.items():
            parts.update(split(name, module.state_dict(), disabled_prefixes(module)))
        return parts

    @staticmethod
    def _write(
        directory: str, step: int, parts: dict[str, Any], score: float | None = None, dropped: Iterable[str] = ()
    ) -> str:
        try:
            files.sweep(directory)
            return files.write_checkpoint(directory, step, parts, score, tuple(dropped))
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint of step {step} could not be saved in {directory}: {error}. Earlier "
                f"checkpoints are untouched. Free disk space, or check that the directory can be written."
            ) from error

    def has_checkpoint(self, global_step: int | str = "latest") -> bool:
        """Return whether there is a checkpoint of that step, any one ("latest"), or a best one ("best").

        It may be damaged.
        """
        if global_step == "latest":
            return bool(files.list_steps(self._ckpt_dir))
        if global_step == "best":
            return bool(files.list_steps(os.path.join(self._ckpt_dir, _BEST)))
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
        loading = Loading(
            list(ignored_parameter_prefixes),
            including_optimizer,
            including_replay_buffer,
            including_data_transformers,
            strict,
        )
        if global_step == "best":
            directory = os.path.join(self._ckpt_dir, _BEST)
            steps = files.list_steps(directory)
            if not steps:
                raise CheckpointError(f"There is no best checkpoint in {directory}: it is made by evaluation.")
            loading.load(files.checkpoint_path(directory, steps[-1]), self._modules)
            return steps[-1]
        if global_step != "latest":
            step = int(global_step)
            if step not in files.list_steps(self._ckpt_dir):
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
            raise CheckpointError(f"{candidate} holds nothing named {found!r}, but {part_names(manifest)}.")
        state = files.read_part(candidate, manifest, found)
        if not isinstance(state, dict):
            raise DamagedCheckpointError(f"{candidate}: {found}: expected entries by name, got {state!r:.80}")
        return found, state

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
        parts = {name: files.read_part(candidate, manifest, name) for name in names if name.endswith(REPLAY_BUFFER)}
        buffers: dict[str, dict] = {}
        for path, value in flat(parts):
            if isinstance(value, torch.Tensor) and part_of(path) == REPLAY_BUFFER:
                buffer, _, name = path.rpartition("_replay_buffer.")
                buffers.setdefault(f"{buffer}_replay_buffer", {})[name] = value
        return buffers

    candidate, buffers = _read_newest(checkpoint_path, read)
    if len(buffers) != 1:
        raise CheckpointError(
            f"{candidate}: expected one replay buffer, got {sorted(buffers) or 'none'}. A run keeps it in its "
            f'newest checkpoint with alf.config("ReplayBuffer", enable_checkpoint=True).'
        )
    return candidate, next(iter(buffers.values()))


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
