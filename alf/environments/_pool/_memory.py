"""Records the memory of each worker, to be reported when the system has killed one for want of memory."""

from __future__ import annotations

import os

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Remembers the resident memory of processes, which cannot be asked for once they have ended."""

    def __init__(self):
        self._resident_bytes: dict[int, int] = {}  # by worker
        self._kills_before = out_of_memory_kills()

    def look(self, process_ids: dict[int, int]) -> None:
        """Note the resident memory of every worker that lives.

        Args:
            process_ids: by worker.
        """
        for worker, process_id in process_ids.items():
            size = resident_bytes(process_id)
            if size:
                self._resident_bytes[worker] = size

    def table(self) -> str:
        """Return a line for each worker with the memory last seen, and what is known of the system."""
        lines = ["Resident memory when last seen:"]
        lines += [f"  worker {worker}: {_mib(size)}" for worker, size in sorted(self._resident_bytes.items())]
        lines.append(f"  main process: {_mib(resident_bytes(os.getpid()))}")
        free = os.sysconf("SC_AVPHYS_PAGES") * _PAGE_BYTES
        lines.append(f"  free now: {_mib(free)} of {_mib(os.sysconf('SC_PHYS_PAGES') * _PAGE_BYTES)}")
        kills = out_of_memory_kills() - self._kills_before
        if kills > 0:
            lines.append(f"  The system has killed {kills} processes for want of memory since these were started.")
        return "\n".join(lines)


def resident_bytes(process_id: int) -> int:
    """Return the resident memory of a process, 0 if it has ended."""
    try:
        with open(f"/proc/{process_id}/statm") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def out_of_memory_kills() -> int:
    """Return how many processes the system has killed for want of memory ever, 0 if it does not tell."""
    try:
        with open("/proc/vmstat") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        return 0


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
