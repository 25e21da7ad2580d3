"""The memory of this process, and what the C library does with freed memory."""

import ctypes
import os
import sys

# Names from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def resident_memory_bytes() -> int:
    """Return how much of the machine's memory this process has, what it shares with others included."""
    import psutil  # not before it is needed: commands start quicker

    return psutil.Process().memory_info().rss


def keep_freed_memory(trim_threshold_bytes: int = 512 << 20, mmap_threshold_bytes: int = 32 << 20) -> bool:
    """Let the C library keep freed memory instead of giving it back to the system; return whether it does.

    An update frees and allocates the same activations each time. By default glibc returns blocks of some hundred
    kilobytes to the system at once, and every page of the next allocation is a page fault and zeroed: that was 200
    faults and a tenth of the time of a SAC update with batch 256 and two hidden layers of 256. Set
    ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_`` in the environment to decide otherwise; then nothing is
    changed. Only glibc is told.

    Args:
        trim_threshold_bytes: how much free memory may stay at the top of the heap.
        mmap_threshold_bytes: larger blocks are still mapped and unmapped one by one; at most 32 MiB.
    """
    decided = any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"))
    if decided or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, mmap_threshold_bytes)) and bool(
        mallopt(_M_TRIM_THRESHOLD, trim_threshold_bytes))
