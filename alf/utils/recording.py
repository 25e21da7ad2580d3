"""Whether the operations on tensors are being recorded, to be done again with other numbers."""

import contextlib
from typing import Iterator

_depth = 0


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Context in which operations on tensors are recorded: what leaves PyTorch in it would be kept as it is now."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def is_recording() -> bool:
    """Return whether operations are being recorded: then compute with tensors, even where NumPy would be quicker."""
    return _depth > 0
