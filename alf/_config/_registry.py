"""All addresses there are: callables by dotted path, found by any unambiguous end of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from alf._config._errors import ConfigError

if TYPE_CHECKING:
    from alf._config._entry import Entry

USER_PATH = "_CONFIG._USER"
"""Where `define_config` puts its names."""


def module_path(module: str) -> str:
    """Return `module` as it shows in addresses: private segments (`alf.layers._dense`) are invisible.

    A module run as a script is `__main__`, also in the processes it spawns.
    """
    if module in ("__main__", "__mp_main__"):
        return "__main__"
    return ".".join(segment for segment in module.split(".") if not segment.startswith("_"))


def ends_with(path: str, suffix: str) -> bool:
    """Return True if the dotted `suffix` is `path` or the end of it, whole segments only."""
    return path == suffix or path.endswith("." + suffix)


class Registry:
    """The registered callables, indexed by the last segment of their path."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._by_last: dict[str, dict[str, Entry]] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def get(self, path: str) -> Entry | None:
        """Return the entry of exactly this path, None if there is none."""
        return self._entries.get(path)

    def add(self, entry: Entry) -> None:
        """Register `entry`, in place of one with the same path.

        Raises:
            ConfigError: if the full name of an argument would be the end of another full name, so that the
                shorter of them could never be written without ambiguity.
        """
        path = entry.path
        alike = self._by_last.setdefault(path.rpartition(".")[2], {})
        for other_path, other in alike.items():
            if other_path == path or not (ends_with(path, other_path) or ends_with(other_path, path)):
                continue
            both = sorted(set(entry.args).intersection(other.args))
            if both:
                short, long = sorted((path, other_path), key=len)
                raise ConfigError(
                    f"The config name {short}.{both[0]} is the end of {long}.{both[0]}: nobody could tell "
                    f'them apart. Give one of them another name with @alf.configurable("a.name").'
                )
        alike[path] = self._entries[path] = entry

    def keep_only(self, entries: Iterable[Entry]) -> None:
        """Forget all entries but these."""
        self._entries.clear()
        self._by_last.clear()
        for entry in entries:
            self._entries[entry.path] = entry
            self._by_last.setdefault(entry.path.rpartition(".")[2], {})[entry.path] = entry

    def callables(self, suffix: str) -> list[Entry]:
        """Return the entries whose path ends with `suffix`; the one with exactly that path alone."""
        exact = self._entries.get(suffix)
        if exact is not None:
            return [exact]
        alike = self._by_last.get(suffix.rpartition(".")[2], {})
        return [entry for path, entry in alike.items() if ends_with(path, suffix)]

    def addresses(self, name: str) -> list[tuple[Entry, str]]:
        """Return the (entry, argument) pairs whose full name is `name` or ends with it."""
        prefix, _, arg = name.rpartition(".")
        entries = self.callables(prefix) if prefix else self
        found = [(entry, arg) for entry in entries if arg in entry.args]
        if prefix and not found and prefix in self._entries:
            alike = self._by_last[prefix.rpartition(".")[2]]
            found = [(e, arg) for path, e in alike.items() if ends_with(path, prefix) and arg in e.args]
        return found

    def shortest_name(self, path: str) -> str:
        """Return the shortest end of `path` that no other callable shares."""
        segments = path.split(".")
        for first in range(len(segments) - 1, 0, -1):
            suffix = ".".join(segments[first:])
            if len(self.callables(suffix)) == 1:
                return suffix
        return path

    def names(self) -> list[str]:
        """Return all full names, sorted."""
        return sorted(f"{entry.path}.{arg}" for entry in self for arg in entry.args)


registry = Registry()
"""All configurable callables of this process."""
