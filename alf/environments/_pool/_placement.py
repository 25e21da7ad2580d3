"""Placement: how many processes step the environments, by the time of one step and the number of cores."""

from __future__ import annotations

import math
import os
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import alf.nest as nest
from alf.environments._rows import Rows

# What one batched step costs beside the steps of its environments: the hand-shake with
# one worker, each further worker, and the Python of a host. Measured on a two-core x86-64 server, rounded up.
_FIRST_WORKER_SECONDS = 40e-6
_NEXT_WORKER_SECONDS = 3e-6
# Processes are started only if they save at least this much: they also cost memory, start-up and caches.
_LEAST_SPEEDUP = 1.15
# An environment that was not measured, because making it takes long, is taken for a slow one.
_UNKNOWN_STEP_SECONDS = 10e-3

_MEASURE_SECONDS = 0.05
_MIN_STEPS = 3


class Placement(NamedTuple):
    """Where the environments of a batch are stepped."""

    num_workers: int  # worker processes; 0: the main process does everything
    main_steps: bool  # whether the main process steps a share of the environments
    step_seconds: float | None  # measured time of one step of one environment; None: not measured
    num_cores: int  # cores this process may use

    @property
    def num_hosts(self) -> int:
        """Number of processes that step environments."""
        return self.num_workers + self.main_steps

    @property
    def spin(self) -> bool:
        """Whether there is a core for every process, so that waiting may spin."""
        return 0 < self.num_workers < self.num_cores

    def describe(self, num_envs: int) -> str:
        """Return the decision in one line."""
        step = "not measured" if self.step_seconds is None else f"{self.step_seconds * 1e6:.1f} us"
        if not self.num_workers:
            where = "in the main process"
        else:
            plural = "" if self.num_workers == 1 else "es"
            where = f"in {self.num_workers} worker process{plural}" + (
                " and the main process" if self.main_steps else ""
            )
        return f"{num_envs} environments {where} (one step: {step}, cores: {self.num_cores})"


def usable_cores() -> int:
    """Return the number of cores this process may use, by its affinity and its control group's quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no control groups (version 2) here, hence no quota
    return cores


def choose(num_envs: int, step_seconds: float | None, num_cores: int, main_may_step: bool) -> Placement:
    """Return the placement with the shortest batched step, by a model of its cost.

    Args:
        num_envs: number of environments.
        step_seconds: time of one step of one environment; None: unknown, taken for long.
        num_cores: number of usable cores; there are never more processes than that.
        main_may_step: whether the main process may step a share of the environments while it waits.
    """
    step = _UNKNOWN_STEP_SECONDS if step_seconds is None else step_seconds
    best, best_seconds = (0, True), num_envs * step / _LEAST_SPEEDUP
    for num_workers in range(1, min(num_cores, num_envs + 1)):
        num_hosts = num_workers + main_may_step
        if num_hosts > num_envs:
            break
        overhead = _FIRST_WORKER_SECONDS + (num_workers - 1) * _NEXT_WORKER_SECONDS
        seconds = math.ceil(num_envs / num_hosts) * step + overhead
        if seconds < best_seconds:
            best, best_seconds = (num_workers, main_may_step), seconds
    return Placement(best[0], best[1], step_seconds, num_cores)


def choose_beside_acting(num_envs: int, step_seconds: float | None, num_cores: int) -> Placement:
    """Return the placement for a batch whose parts are stepped by turns, while the main process acts for another part.

    Workers step everything, also where one worker is not faster than the main process: what they do meanwhile costs
    nothing. Only where a part takes less time than its hand-shake the main process does everything.

    Args:
        num_envs: number of environments of one part.
        step_seconds: time of one step of one environment; None: unknown, taken for long.
        num_cores: number of usable cores; there are never more processes than that.
    """
    step = _UNKNOWN_STEP_SECONDS if step_seconds is None else step_seconds
    best, best_seconds = (0, True), math.inf
    if num_envs * step > _FIRST_WORKER_SECONDS:
        for num_workers in range(1, min(num_cores, num_envs + 1)):
            seconds = math.ceil(num_envs / num_workers) * step + (num_workers - 1) * _NEXT_WORKER_SECONDS
            if seconds < best_seconds:
                best, best_seconds = (num_workers, False), seconds
    return Placement(best[0], best[1], step_seconds, num_cores)


def measure_step_seconds(env: Any) -> float:
    """Return the time of one step of ``env`` with random actions, its resets included.

    Spends about 50 ms, at least a few steps. The random numbers of the process are left as they were; those
    of the environment are not, so it is to be thrown away.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        return _measure(env)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _measure(env: Any) -> float:
    batched = env.batched
    size = env.batch_size if batched else 1
    rows = Rows.allocate(env, size)
    actions = _random_actions(env.action_spec(), size, batched)
    if batched:
        env.reset_into_batch(rows, 0, size)
    else:
        env.reset_into(rows, 0)
    times = []
    began = time.perf_counter()
    while len(times) < _MIN_STEPS or time.perf_counter() - began < _MEASURE_SECONDS:
        action = actions[len(times) % len(actions)]
        start = time.perf_counter()
        if batched:
            env.step_into_batch(rows, 0, size, action)
        else:
            env.step_into(rows, 0, action)
        times.append(time.perf_counter() - start)
    # The first steps warm caches up. The largest times are another process's; resets, which are rare but
    # long, belong to the mean and are only lost if they are rarer than one step in a hundred.
    steady = np.sort(times[len(times) // 5 :])
    return float(np.mean(steady[: max(1, math.ceil(0.99 * len(steady)))]))


def _random_actions(spec: Any, size: int, batched: bool) -> list:
    generator = np.random.RandomState(0)
    specs = nest.flatten(spec)

    def draw() -> Any:
        leaves = []
        for leaf in specs:
            outer = (size,) if batched else ()
            if leaf.is_bounded():
                value = np.asarray(leaf.numpy_sample(outer, generator))
            else:
                value = leaf.numpy_zeros(outer)
            leaves.append(value)
        if (
            not batched
            and len(leaves) == 1
            and not nest.is_nested(spec)
            and specs[0].is_discrete
            and not specs[0].shape
        ):
            return int(leaves[0])
        return nest.pack_sequence_as(spec, leaves)

    return [draw() for _ in range(32)]


def shares_of_hosts(num_envs: int, num_parts: int, num_hosts: int) -> list[list[tuple[int, int]]]:
    """Return for every host its range of environments in every part of the batch.

    Part ``p`` is the p-th of ``num_parts`` equal ranges, and every host has its even share of every part.
    Hosts that come first have the remainders of even parts, those that come last those of odd ones.
    """
    shares: list[list[tuple[int, int]]] = [[] for _ in range(num_hosts)]
    per_part = num_envs // num_parts
    for part in range(num_parts):
        base, extra = divmod(per_part, num_hosts)
        sizes = [base + (host < extra) for host in range(num_hosts)]
        if part % 2:
            sizes.reverse()
        start = part * per_part
        for host, size in enumerate(sizes):
            shares[host].append((start, start + size))
            start += size
    return shares
