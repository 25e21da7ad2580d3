"""What to tell somebody who wrote a config name that does not exist, or that means several things."""

from __future__ import annotations

import difflib

from alf._config import _discover
from alf._config._entry import Entry
from alf._config._errors import Place
from alf._config._registry import registry


def ambiguous(name: str, found: list[tuple[Entry, str]], place: Place) -> str:
    """Return the message for a name that means several addresses."""
    names = sorted(f"{entry.path}.{arg}" for entry, arg in found)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"Config name {name} is ambiguous ({place}): it is the end of {', '.join(names[:3])}{more}. "
        "Write as much of one of them as makes it unique."
    )


def unknown(name: str, place: Place) -> str:
    """Return the message for a name that means no address: why, and the nearest that exist."""
    text = f"Cannot find config name {name} ({place})."
    prefix, _, arg = name.rpartition(".")
    entries = registry.callables(prefix) if prefix else []
    if len(entries) == 1:
        return text + _unknown_argument(entries[0], arg)
    if entries:
        args = sorted({other for entry in entries for other in entry.args})
        near = [f"{prefix}.{other}" for other in difflib.get_close_matches(arg, args, 3)]
        several = ", ".join(sorted(entry.path for entry in entries)[:3])
        return f"{text}{_did_you_mean(near)} No {prefix} ({several}, ...) has an argument {arg!r}."
    near = _near_names(prefix, arg)
    if near:
        return text + _did_you_mean(near)
    return (
        f"{text} Nothing of a similar name is configurable. If its module is still to be imported, import it "
        "first or use alf.pre_config."
    )


def _unknown_argument(entry: Entry, arg: str) -> str:
    if arg in entry.params.by_name:
        return f" {entry.path} keeps its argument {arg!r} out of the configuration (whitelist or blacklist)."
    short = registry.shortest_name(entry.path)
    near = [f"{short}.{other}" for other in difflib.get_close_matches(arg, entry.args, 3)]
    if near:
        return f"{_did_you_mean(near)} {entry.path} has no argument {arg!r}."
    return f" {entry.path} has no argument {arg!r}; its arguments are {', '.join(entry.args) or 'none'}."


def _near_names(prefix: str, arg: str) -> list[str]:
    """Return up to three existing names that look like `prefix.arg`, nearest first."""
    if not prefix:
        names = {name: name for entry in registry for name in entry.args}
        return difflib.get_close_matches(arg, names, 3)
    length = prefix.count(".") + 1
    paths = {entry.path: entry for entry in registry}
    suffixes = {}
    for path in (*_discover.configurables_in_package(), *paths):
        suffixes.setdefault(".".join(path.split(".")[-length:]), path)
    near = []
    for suffix in difflib.get_close_matches(prefix, suffixes, 3):
        entry = paths.get(suffixes[suffix])
        best = difflib.get_close_matches(arg, entry.args, 1) if entry is not None else [arg]
        near.append(f"{suffix}.{best[0]}" if best else suffix)
    return near


def _did_you_mean(names: list[str]) -> str:
    return f" Did you mean {' or '.join(names)}?" if names else ""
