"""How much memory a replay buffer needs, and whether the machine has it."""

from __future__ import annotations

import pathlib

import torch
from absl import logging

_MEMINFO = pathlib.Path("/proc/meminfo")
_CGROUP_LIMITS = (  # (limit, use) of the versions 2 and 1
    (pathlib.Path("/sys/fs/cgroup/memory.max"), pathlib.Path("/sys/fs/cgroup/memory.current")),
    (pathlib.Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
     pathlib.Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_bytes(device: str) -> int | None:
    """Return how many bytes of memory ``device`` has left, or None if that cannot be known."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0]
    known = []
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        known.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass  # not Linux, or a very old one
    for limit, used in _CGROUP_LIMITS:
        try:
            known.append(int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):
            pass  # no such control group, or no limit in it ("max")
    return min(known, default=None)


def gib(num_bytes: float) -> str:
    """Return a number of bytes as people read it."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"


def bytes_beside_steps(has_priorities: bool, has_episodes: bool, has_returns: bool) -> float:
    """Return how many bytes of main memory are kept beside each step.

    Args:
        has_priorities: a float64, and a leaf of the sum-tree, which has one inner node with a stamp for 15 leaves.
        has_episodes: three int64, see Episodes; memory is taken when questions are first asked.
        has_returns: a float32.
    """
    return has_priorities * (8 + 8 + (8 + 8) / 15) + has_episodes * 3 * 8 + has_returns * 4


def check_memory(name: str, step_bytes: float, beside_bytes: float, num_environments: int, max_length: int,
                 device: str) -> None:
    """Tell how much memory a buffer will need, and refuse what the machine does not have.

    Args:
        name: of the buffer.
        step_bytes: of one step of one environment.
        beside_bytes: of what is kept beside it, which is always in main memory.
        num_environments: number of environments.
        max_length: steps of each environment.
        device: where the buffer will be.
    Raises:
        MemoryError: if there is not enough.
    """
    if torch.device(device).type == "cpu":
        _check_device(name, step_bytes + beside_bytes, num_environments, max_length, device)
        return
    _check_device(name, step_bytes, num_environments, max_length, device)
    if beside_bytes:
        _check_device(f"{name}: priorities and episodes", beside_bytes, num_environments, max_length, "cpu")


def _check_device(name: str, bytes_per_step: float, num_environments: int, max_length: int, device: str) -> None:
    needed = bytes_per_step * num_environments * max_length
    available = available_bytes(device)
    told = (f"{bytes_per_step:.0f} bytes a step x {num_environments} environments x max_length={max_length} = "
            f"{gib(needed)}")
    logging.info("%s: %s; available on %s: %s.", name, told, device,
                 "unknown" if available is None else gib(available))
    if available is not None and needed > available:
        fits = int(available // (bytes_per_step * num_environments))
        raise MemoryError(
            f"{name}: {told}, but only {gib(available)} are available on {device}. At most max_length={fits} fits. Use "
            f"a shorter buffer (TrainerConfig.replay_buffer_length counts steps of one environment), store images as "
            f"uint8, or store single frames and stack them with FrameStacker when sampling.")
