"""What has been set and what has been used: the changing half of the configuration."""

from __future__ import annotations

import threading
import warnings

from alf._config._errors import ConfigError, Place, short_repr
from alf._config._values import same_value

LOCK = threading.RLock()
"""Held while values or plans change; configured calls with a cached plan do not take it."""


INHERITED = type("Inherited", (), {"__repr__": lambda self: "<as its base>"})()
"""The value used of an argument that a class leaves to its configurable base."""


class Setting:
    """One `alf.config` of one address; never changed, only replaced."""

    __slots__ = ("mutable", "place", "value")

    def __init__(self, value: object, mutable: bool, place: Place):
        self.value = value
        self.mutable = mutable
        self.place = place


class Use:
    """A value that a call consumed: where the first such call was, and the conf line that led there."""

    __slots__ = ("conf_place", "place", "value")

    def __init__(self, value: object, place: Place, conf_place: Place | None):
        self.value = value
        self.place = place
        self.conf_place = conf_place

    def __str__(self) -> str:
        if self.conf_place is None or str(self.conf_place) == str(self.place):
            return str(self.place)
        return f"{self.place}, reached from {self.conf_place}"


class Store:
    """Settings and uses by full name, and the pre-configs whose names were not defined yet."""

    def __init__(self) -> None:
        self.settings: dict[str, Setting] = {}
        self.uses: dict[str, Use] = {}
        self.pending: dict[str, Setting] = {}
        self.handled: dict[str, Setting] = {}
        self.sources: dict[str, str] = {}

    def clear(self) -> None:
        """Forget everything."""
        for part in self._parts():
            part.clear()

    def snapshot(self) -> tuple[dict, ...]:
        """Return what `restore` needs to bring back the present state."""
        return tuple(dict(part) for part in self._parts())

    def restore(self, snapshot: tuple[dict, ...]) -> None:
        """Go back to the state of `snapshot`."""
        for part, saved in zip(self._parts(), snapshot, strict=True):
            part.clear()
            part.update(saved)

    def _parts(self) -> tuple[dict, ...]:
        return self.settings, self.uses, self.pending, self.handled, self.sources

    def check_unused(self, name: str, setting: Setting) -> None:
        """Raise ConfigError if the address `name` has been used with another value and would now change."""
        old, use = self.settings.get(name), self.uses.get(name)
        if use is None or same_value(use.value, setting.value):
            return
        if old is None or (old.mutable and not same_value(old.value, setting.value)):
            raise ConfigError(_already_used(name, setting, use))

    def set(self, name: str, setting: Setting) -> bool:
        """Set the address with the full name `name`; return True if its value changed.

        A value that was set for good stays, with a warning.
        """
        old = self.settings.get(name)
        if old is not None and same_value(old.value, setting.value):
            if old.mutable and not setting.mutable:
                self.settings[name] = Setting(old.value, False, setting.place)
            return False
        if old is not None and not old.mutable:
            warnings.warn_explicit(
                f"{name} was set to {short_repr(old.value)} for good by {old.place}; "
                f"{short_repr(setting.value)} set here is ignored.",
                UserWarning,
                setting.place.filename,
                setting.place.line,
            )
            return False
        self.settings[name] = setting
        return True


def _already_used(name: str, setting: Setting, use: Use) -> str:
    text = (
        f"{name} has already been used. You should config its value before using it. "
        f"It is set to {short_repr(setting.value)} by {setting.place}, "
        f"after its value {short_repr(use.value)} was used by {use}."
    )
    if use.conf_place is not None:
        text += (
            f" Move the setting above line {use.conf_place.line} of {use.conf_place.filename} "
            "(asking for specs, as alf.get_observation_spec() does, creates the environment then and there)."
        )
    return text


store = Store()
"""What has been set and used in this process."""
