"""The parts a checkpoint divides the state of an object into: the object itself, its optimizers, its replay buffer."""

from __future__ import annotations

from typing import Any, Iterator

from torch import nn

OPTIMIZER, REPLAY_BUFFER = "-optimizer", "-replay_buffer"  # ends of the names of those parts


def enable_checkpoint(module: nn.Module, flag: bool = True) -> None:
    """Say whether `module`, a part of something that is saved, is in checkpoints; by default it is."""
    module._checkpoint_enabled = flag


def is_checkpoint_enabled(module: nn.Module) -> bool:
    """Return whether `module` is part of checkpoints."""
    return getattr(module, "_checkpoint_enabled", True)


def part_of(path: str) -> str:
    """Return which part of a module's state the entry at the dotted path belongs to."""
    components = path.split(".")
    if any("_optimizers" in component for component in components):
        return OPTIMIZER
    return REPLAY_BUFFER if any(component.endswith("_replay_buffer") for component in components) else ""


def part_names(manifest: dict[str, Any]) -> str:
    """Return the parts that a manifest names, as a text."""
    names = [name.removesuffix(".json") for name in manifest["files"] if name.endswith(".json")]
    return ", ".join(sorted(names))


def disabled_prefixes(module: Any) -> list[str]:
    """Return the dotted paths of what is not saved of `module`, see `enable_checkpoint`."""
    if not isinstance(module, nn.Module):
        return []
    return [path for path, part in module.named_modules() if path and not is_checkpoint_enabled(part)]


def has_prefix(path: str, prefixes: list[str]) -> bool:
    """Return whether a dotted path is one of `prefixes` or below one of them."""
    return any(path == prefix or path.startswith(prefix + ".") for prefix in prefixes)


def split(name: str, state: Any, disabled: list[str]) -> dict[str, Any]:
    """Return {file name: state} of the parts of a module's state, without what is disabled in it."""
    if not isinstance(state, dict):
        return {name: state}
    parts: dict[str, dict] = {"": {}}

    def put(entries: dict, path: tuple[str, ...]) -> None:
        for key, value in entries.items():
            key_path = ".".join([*path, str(key)])
            if has_prefix(key_path, disabled):
                continue
            part = part_of(key_path)
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
        if part_of(key_path) or isinstance(value, dict) and _is_mixed(value, key_path):
            return True
    return False


def merge(target: Any, source: Any) -> Any:
    """Return `source` merged into `target`; what is no dict replaces it."""
    if not isinstance(source, dict):
        return source
    for key, value in source.items():
        target[key] = merge(target.get(key, {}), value)
    return target


def flat(entries: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of what is in nested dicts."""
    for key, value in entries.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
