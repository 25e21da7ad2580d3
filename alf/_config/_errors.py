"""The error of the configuration system, and where in the user's files something happened."""

from __future__ import annotations

import sys
from types import FrameType

CONF_MODULE_NAME = "<run_path>"
"""`__name__` inside a conf file while it runs (what `runpy.run_path` uses)."""

_OWN_MODULES = ("alf._config", "alf.config_util")


class ConfigError(ValueError):
    """A mistake in a configuration: a name, a value, a conf file. The text says where and how to mend it."""


class Place:
    """A line of a file, printed as `path:line`; `origin` prints instead for what comes from no file."""

    __slots__ = ("filename", "line", "origin")

    def __init__(self, filename: str, line: int, origin: str | None = None):
        self.filename = filename
        self.line = line
        self.origin = origin

    def __str__(self) -> str:
        return self.origin or f"{self.filename}:{self.line}"


def is_own_frame(frame: FrameType) -> bool:
    """Return True if `frame` runs code of the configuration system."""
    return frame.f_globals.get("__name__", "").startswith(_OWN_MODULES)


def user_frame() -> FrameType:
    """Return the innermost frame of the running thread that is not the configuration system's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_own_frame(frame):
        frame = frame.f_back
    return frame


def place_of(frame: FrameType) -> Place:
    """Return the line `frame` is at."""
    return Place(frame.f_code.co_filename, frame.f_lineno)


def conf_place(frame: FrameType | None) -> Place | None:
    """Return the line of the conf file that led to `frame`, None if no conf file is running above it."""
    while frame is not None:
        if frame.f_globals.get("__name__") == CONF_MODULE_NAME and frame.f_code.co_name == "<module>":
            return place_of(frame)
        frame = frame.f_back
    return None


def short_repr(value: object, limit: int = 120) -> str:
    """Return `repr(value)` on one line of at most `limit` characters; a broken repr is no new error."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # the repr of a user's object; what is being reported matters more
        return f"<{type(value).__name__} whose repr failed: {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."
