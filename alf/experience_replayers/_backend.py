"""Chooses between the extension `alf._replay` and its Python twin."""

from types import ModuleType

from alf.experience_replayers import _twin
from alf.utils import native_replay


def backend() -> ModuleType:
    """Return the module with the trees, the priorities and the starts: the extension where there is one."""
    extension = native_replay.extension()
    return _twin if extension is None else extension
