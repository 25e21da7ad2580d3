"""One reading of a checkpoint: which parts are taken, and how they are checked against the objects."""

from __future__ import annotations

from typing import Any

import torch
from absl import logging
from torch import nn

from alf.utils import _checkpoint_files as files
from alf.utils._checkpoint_files import CheckpointError, DamagedCheckpointError
from alf.utils._checkpoint_parts import (
    OPTIMIZER,
    REPLAY_BUFFER,
    disabled_prefixes,
    has_prefix,
    merge,
    part_names,
    part_of,
)

_NOW = "in the checkpoint, but now"
_HOW_TO_FIT = (
    "Use the configuration it was made with, or leave the differing entries alone with "
    "ignored_parameter_prefixes=[...]; strict=False accepts missing and unexpected ones."
)


class Loading:
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
        included = {OPTIMIZER: including_optimizer, REPLAY_BUFFER: including_replay_buffer}
        self._not_included = [part for part, is_included in included.items() if not is_included]
        self._left_out_parts = list(self._not_included)
        self._including_data_transformers = including_data_transformers
        self._strict = strict

    def load(self, path: str, modules: dict[str, Any]) -> None:
        """Load the checkpoint at `path`: everything is read and checked before any object is changed."""
        manifest = files.read_manifest(path)
        self._left_out_parts = list(self._not_included)
        self._tell_dropped(path, manifest, modules)
        self._tell_other_versions(path, manifest)
        states, problems = {}, []
        for name, module in modules.items():
            if f"{name}.json" not in manifest["files"]:
                problems.append(f"{name}: not in the checkpoint, which holds {part_names(manifest)}")
                continue
            loaded: Any = {}
            for part in ("", OPTIMIZER, REPLAY_BUFFER):
                if part not in self._left_out_parts and f"{name}{part}.json" in manifest["files"]:
                    state = files.read_part(path, manifest, name + part)
                    try:
                        loaded = merge(loaded, state)
                    except (AttributeError, TypeError) as error:
                        raise DamagedCheckpointError(f"{path}: {name}{part}: no part of {name}: {error}") from error
            if isinstance(module, nn.Module) and not isinstance(loaded, dict):
                raise DamagedCheckpointError(f"{path}: {name}: expected entries by name, got {loaded!r:.80}")
            states[name], found = self._fit(name, module, loaded, path)
            problems += found
        if problems:
            told = f"{path} does not fit:\n  " + "\n  ".join(problems)
            if self._strict or any(_NOW in problem for problem in problems):
                raise CheckpointError(f"{told}\n{_HOW_TO_FIT}")
            logging.warning("%s\nMissing entries stay as they are, unexpected ones are not used.", told)
        for name, state in states.items():
            self._check(path, name, modules[name], state)
        for name, state in states.items():
            modules[name].load_state_dict(state)

    def _check(self, path: str, name: str, module: Any, state: Any) -> None:
        """Let an object look at its state, before any is changed: all fields may be there and mean nothing."""
        check = getattr(module, "check_state_dict", None)
        if check is None:
            return
        try:
            check(state)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise DamagedCheckpointError(f"{path}: {name}: {error}") from error

    def _tell_dropped(self, path: str, manifest: dict[str, Any], modules: dict[str, Any]) -> None:
        """Leave alone, and say so, the replay buffers that a newer checkpoint has taken over."""
        dropped = [part for part in manifest.get("dropped", ()) if part.removesuffix(REPLAY_BUFFER) in modules]
        if dropped and REPLAY_BUFFER not in self._left_out_parts:
            self._left_out_parts.append(REPLAY_BUFFER)
            logging.warning(
                "REPLAY BUFFER NOT IN THIS CHECKPOINT: only the newest one keeps it, and %s was not the newest "
                "(it had %s). The buffer begins empty: training collects initial_collect_steps again before it "
                "goes on to learn.",
                path,
                ", ".join(dropped),
            )

    def _tell_other_versions(self, path: str, manifest: dict[str, Any]) -> None:
        """Tell whoever trains on which packages are others than those that wrote the checkpoint."""
        now = files.versions()
        changed = [
            f"{name} {version} -> {now[name]}"
            for name, version in manifest["versions"].items()
            if name in now and now[name] != version
        ]
        if changed and OPTIMIZER not in self._not_included:
            logging.warning(
                "%s was written by other versions: %s. It is loaded; what follows may differ in the last bits "
                "from a run that was not interrupted.",
                path,
                ", ".join(changed),
            )

    def _fit(self, name: str, module: Any, loaded: Any, path: str) -> tuple[Any, list[str]]:
        """Return the state to give to `module`, and what is wrong with it."""
        if not isinstance(loaded, dict):
            return loaded, []
        disabled = disabled_prefixes(module)
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
            if not isinstance(present, torch.Tensor) or isinstance(present, nn.UninitializedParameter):
                continue
            if not isinstance(value, torch.Tensor):
                problems.append(f"{name}.{key}: no tensor but {value!r:.80} {_NOW} {tuple(present.shape)}")
            elif value.shape != present.shape:
                problems.append(f"{name}.{key}: {tuple(value.shape)} {_NOW} {tuple(present.shape)}")
            elif _kind(value) != _kind(present):
                problems.append(f"{name}.{key}: {value.dtype} {_NOW} {present.dtype}")
        for key, _ in module.named_parameters():
            value = loaded.get(key)
            if isinstance(value, torch.Tensor) and value is not current.get(key) and not bool(value.isfinite().all()):
                raise DamagedCheckpointError(f"{path}: {name}.{key}: NaN or infinite, as no saved parameter was")
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
        if part_of(path) in self._left_out_parts or has_prefix(path, disabled):
            return True
        if not self._including_data_transformers and "_data_transformer" in path:
            return True
        prefixes = tuple(self._ignored_prefixes)
        return path.startswith(prefixes) or f"{name}.{path}".startswith(prefixes)


def _kind(tensor: torch.Tensor) -> tuple[bool, ...]:
    """Return what of a dtype may not differ: numbers of one kind become others of it, but no other kind."""
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype is torch.bool
