"""Resolves config names to addresses, and sets checked values there."""

from __future__ import annotations

from alf._config._discover import import_definitions_of
from alf._config._entry import Entry
from alf._config._errors import ConfigError, Place, short_repr
from alf._config._registry import USER_PATH, ends_with, registry
from alf._config._store import LOCK, Setting, store


def register(entry: Entry) -> None:
    """Add a callable, in place of an older one of the same path, and give it the pre-configs waiting for it.

    Raises:
        ConfigError: if a different callable has the path, or its addresses could not be told from others.
    """
    with LOCK:
        old = registry.get(entry.path)
        if old is not None:
            if (old.module, old.qualname) != (entry.module, entry.qualname):
                raise ConfigError(
                    f"Both {old.module}.{old.qualname} and {entry.module}.{entry.qualname} would have the "
                    f"config path {entry.path}. Give one of them another name with "
                    '@alf.configurable("a.name").'
                )
            entry.succeed(old)
        registry.add(entry)
        if store.pending:
            bind_pending(entry)


def bind_pending(entry: Entry) -> None:
    """Set the pre-configs that name an argument of `entry`."""
    for name, setting in list(store.pending.items()):
        prefix, _, arg = name.rpartition(".")
        if (not prefix or ends_with(entry.path, prefix)) and arg in entry.args:
            check_and_set(entry, arg, setting)
            store.handled[name] = store.settings[f"{entry.path}.{arg}"]
            del store.pending[name]


def lookup(name: str, place: Place) -> list[tuple[Entry, str]]:
    """Return the addresses `name` may mean, after importing the module of alf that defines it if need be."""
    found = registry.addresses(name)
    prefix = name.rpartition(".")[0]
    if not found and prefix and not prefix.startswith(USER_PATH):
        try:
            imported = import_definitions_of(prefix)
        except ImportError as error:
            error.add_note(f"Importing what the config name {name} ({place}) belongs to.")
            raise
        if imported:
            found = registry.addresses(name)
    return found


def resolve(name: str, place: Place) -> tuple[Entry, str]:
    """Return the callable and the argument that `name` means.

    Raises:
        ConfigError: if there is none, or several.
    """
    found = lookup(name, place)
    if len(found) == 1:
        return found[0]
    from alf._config import _names  # difflib only for those who need it

    raise ConfigError((_names.ambiguous(name, found, place)) if found else _names.unknown(name, place))


def check_value(entry: Entry, arg: str, setting: Setting) -> None:
    """Raise ConfigError if the value clearly is not what the argument is annotated with."""
    from alf._config._annotations import expected_instead  # `inspect` only when something is configured

    expected = expected_instead(setting.value, entry.args[arg])
    if expected is not None:
        raise ConfigError(
            f"{entry.path}.{arg}: expected {expected}, got {short_repr(setting.value)} "
            f"({type(setting.value).__name__}), set by {setting.place}."
        )


def set_value(entry: Entry, arg: str, setting: Setting) -> None:
    """Set one argument of one callable, whose value has been checked."""
    with LOCK:
        if store.set(f"{entry.path}.{arg}", setting):
            entry.clear_plans()


def check_and_set(entry: Entry, arg: str, setting: Setting) -> None:
    """Set one argument of one callable unless the value does not fit or comes too late."""
    with LOCK:
        check_value(entry, arg, setting)
        store.check_unused(f"{entry.path}.{arg}", setting)
        set_value(entry, arg, setting)
