"""Finds the C++ extension `alf._replay`; whatever uses it has a Python twin that does the same, more slowly."""

import functools
import logging
from types import ModuleType
from typing import Optional

try:
    import alf._replay as _native
except ImportError:
    _native = None


@functools.cache
def _notify_missing() -> None:
    logging.getLogger(__name__).warning(
        "The native extension alf._replay is missing: replay buffers use its Python twin, which is slower. "
        "Install a C++17 compiler and reinstall alf-rl.")


def extension() -> Optional[ModuleType]:
    """Return the extension, or None, and then say so once."""
    if _native is None:
        _notify_missing()
    return _native
