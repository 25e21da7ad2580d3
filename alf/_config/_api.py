"""What users call: set values, ask for them, list them."""

from __future__ import annotations

from collections.abc import Mapping

from alf._config._conf_files import note_python_imports, note_user_name
from alf._config._entry import Entry
from alf._config._errors import ConfigError, place_of, user_frame
from alf._config._registry import USER_PATH, registry
from alf._config._setting import bind_pending, check_and_set, check_value, resolve, set_value
from alf._config._store import INHERITED, LOCK, Setting, store


def config(
    prefix_or_dict: str | Mapping[str, object], mutable: bool = True, raise_if_used: bool = True, **kwargs
) -> None:
    """Set arguments of configurable callables.

    `alf.config("FC", activation=torch.tanh)` and `alf.config({"FC.activation": torch.tanh})` are the same.
    The last setting wins, so a conf overrides what the confs it imports have set. If one of several names or
    values is wrong, none is set.

    Args:
        prefix_or_dict: (any unambiguous end of) the path of a callable, whose arguments follow as keywords;
            or full names with their values.
        mutable: if False, later settings of these names are ignored with a warning.
        raise_if_used: if False, a value that a call has already consumed may change for the calls to come.

    Raises:
        ConfigError: if a name means no address or several, if a value clearly does not fit the annotation of
            its argument, or if another value has already been used.
    """
    if isinstance(prefix_or_dict, str) and not kwargs:
        # `alf.config("PPOLoss.gamma", 0.9)` would set nothing: its 0.9 is the argument `mutable`.
        raise ConfigError(
            f"alf.config: expected keywords with the values to set in {prefix_or_dict!r}, got none "
            f'({place_of(user_frame())}). A single value is set by alf.config1("{prefix_or_dict}", value).'
        )
    if isinstance(prefix_or_dict, str):
        configs = {f"{prefix_or_dict}.{name}": value for name, value in kwargs.items()}
    elif isinstance(prefix_or_dict, Mapping) and not kwargs:
        configs = prefix_or_dict
    else:
        raise ConfigError(
            'alf.config: expected ("prefix", name=value, ...) or ({"prefix.name": value, ...}), '
            f"got {prefix_or_dict!r}{' and keywords' if kwargs else ''} ({place_of(user_frame())})."
        )
    _set_all(configs, mutable, raise_if_used)


def config1(config_name: str, value: object, mutable: bool = True, raise_if_used: bool = True) -> None:
    """Set one argument by (any unambiguous end of) its full name; otherwise as `config`."""
    _set_all({config_name: value}, mutable, raise_if_used)


def _set_all(configs: Mapping[str, object], mutable: bool, raise_if_used: bool) -> None:
    frame = user_frame()
    note_python_imports(frame)
    place = place_of(frame)
    resolved = [(*resolve(name, place), Setting(value, mutable, place)) for name, value in configs.items()]
    with LOCK:
        for entry, arg, setting in resolved:
            check_value(entry, arg, setting)
            if raise_if_used:
                store.check_unused(f"{entry.path}.{arg}", setting)
        for entry, arg, setting in resolved:
            set_value(entry, arg, setting)


def pre_config(
    configs: Mapping[str, object], *, origin: str | None = None, sources: Mapping[str, str] | None = None
) -> None:
    """Set values for good, also of names that nothing has defined yet: those are set once they are defined.

    This is how the command line and a grid search win over the conf file: later settings are ignored with a
    warning.

    Args:
        configs: names (unambiguous ends of full names) with their values.
        origin: what to show in messages as the place of the setting, e.g. "--conf_param"; by default file and
            line of the call.
        sources: for some of the names the Python expression of the value, which `save_config` then writes.

    Raises:
        ConfigError: as `config`.
    """
    frame = user_frame()
    note_python_imports(frame)
    place = place_of(frame)
    place.origin = origin
    for name, value in configs.items():
        setting = Setting(value, False, place)
        with LOCK:
            if sources and name in sources:
                store.sources[name] = sources[name]
            if not registry.addresses(name):
                store.pending.setdefault(name, setting)
            else:
                entry, arg = resolve(name, place)
                check_and_set(entry, arg, setting)
                store.handled[name] = store.settings[f"{entry.path}.{arg}"]


def validate_pre_configs() -> None:
    """Raise ConfigError if a pre-config belongs to nothing, or to several things; call it after the conf."""
    for name, setting in list(store.pending.items()):
        entry, arg = resolve(name, setting.place)  # may import the module that defines it, which binds it
        if name in store.pending:
            bind_pending(entry)
    for name, setting in store.handled.items():
        resolve(name, setting.place)


def get_handled_pre_configs() -> list[tuple[str, object]]:
    """Return the (name, value) pairs of the pre-configs that have met their address."""
    return [(name, setting.value) for name, setting in store.handled.items()]


def define_config(name: str, default_value: object) -> object:
    """Define a value of the user's own, `_CONFIG._USER.<name>`, and return it.

    A conf so gets a knob that `alf.pre_config` (the command line) can turn:
    `hidden = alf.define_config("hidden", 256)`.

    Args:
        name: name of the value, may have dots.
        default_value: its value unless it is configured.

    Returns:
        The configured value, else `default_value`. It counts as used from now on.

    Raises:
        ConfigError: if the name has already been defined.
    """
    from alf._config._params import Param, Params

    frame = user_frame()
    note_python_imports(frame)
    prefix, _, arg = f"{USER_PATH}.{name}".rpartition(".")
    with LOCK:
        entry = registry.get(prefix)
        if entry is None:
            entry = Entry(prefix, USER_PATH, prefix)
            entry.attach(None, Params)
            registry.add(entry)
        if arg in entry.args:
            raise ConfigError(
                f"{prefix}.{arg} has already been defined. Define it once, and read it elsewhere with "
                f"alf.get_config_value({name!r}) ({place_of(frame)})."
            )
        entry.args[arg] = Param(arg, default_value)
        note_user_name(f"{prefix}.{arg}", frame)
        if store.pending:
            bind_pending(entry)
        return entry.use_value(arg)


def get_config_value(config_name: str) -> object:
    """Return the configured value of an address, else its default. It counts as used from now on.

    Raises:
        ConfigError: if the name means no address or several, or the address has no value.
    """
    frame = user_frame()
    note_python_imports(frame)
    place = place_of(frame)
    entry, arg = resolve(config_name, place)
    with LOCK:
        if not entry.has_value(arg):
            raise ConfigError(
                f"{entry.path}.{arg} has no value ({place}): it is not configured and has no default. "
                f"Set it with alf.config({registry.shortest_name(entry.path)!r}, {arg}=...)."
            )
        return entry.use_value(arg)


def get_all_config_names() -> list[str]:
    """Return the full names of all addresses of the callables imported so far, sorted."""
    return registry.names()


def get_operative_configs(*, places: bool = False) -> list[tuple]:
    """Return the sorted (name, value) pairs that calls have used, defaults among them.

    Args:
        places: add to each pair where the value was set: `file:line`, "default" if it was not.
    """
    operative = []
    for name, use in sorted(store.uses.items()):
        if use.value is not INHERITED:
            operative.append((name, use.value, _set_at(name)) if places else (name, use.value))
    return operative


def get_inoperative_configs(*, places: bool = False) -> list[tuple]:
    """Return the sorted (name, value) pairs that were configured but that no call has used (so far).

    Args:
        places: add to each pair where the value was set, `file:line`.
    """
    inoperative = []
    for name, setting in sorted(store.settings.items()):
        use = store.uses.get(name)
        if use is None or use.value is INHERITED:
            inoperative.append((name, setting.value, _set_at(name)) if places else (name, setting.value))
    return inoperative


def _set_at(name: str) -> str:
    setting = store.settings.get(name)
    return "default" if setting is None else str(setting.place)
