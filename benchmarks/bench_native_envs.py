"""Environment steps per second of native batches beside Gymnasium's own vector CartPole and SyncVectorEnv.

Usage: python benchmarks/bench_native_envs.py [--cells CartPole-v1:8,Pendulum-v1:128] [--rounds 5] [--seconds 0.3]
                                              [--candidates native,pool,vector,sync] [--json FILE]

All candidates of a cell are alive at the same time and measured in turn, round after round; the table shows medians and
their ratio to SyncVectorEnv. One step is one environment step. Candidates: native (NativeBatchEnvironment), pool
(FastParallelEnvironment of suite_gym), vector (the batch that Gymnasium has of CartPole, in NumPy), sync.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import torch

from alf.environments import suite_gym, suite_native
from alf.environments.fast_parallel_environment import FastParallelEnvironment

CELLS = "CartPole-v1:8,CartPole-v1:32,CartPole-v1:128,Pendulum-v1:128,MountainCar-v0:128,Acrobot-v1:128"


def batches_of_actions(name: str, num_envs: int) -> list[np.ndarray]:
    """Return 64 batches of random actions, in [-1, 1] where they are continuous."""
    env = gymnasium.make(name)
    rng = np.random.default_rng(0)
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return [rng.integers(0, env.action_space.n, num_envs) for _ in range(64)]
    return [rng.uniform(-1, 1, (num_envs, *env.action_space.shape)).astype(np.float32) for _ in range(64)]


class Candidate:
    """A way to step ``num_envs`` environments; ``step(action)`` makes one batched step.

    Raises:
        LookupError: if there is no such way for this environment.
    """

    def __init__(self, kind: str, name: str, num_envs: int):
        self.num_envs = num_envs
        self.actions = batches_of_actions(name, num_envs)
        if kind in ("native", "pool"):
            if kind == "native":
                env = suite_native.load(name, batch_size=num_envs)
            else:
                env = FastParallelEnvironment([functools.partial(suite_gym.load, name)] * num_envs)
            env.seed(0)
            env.reset()
            self.actions = [torch.as_tensor(batch) for batch in self.actions]
        elif kind == "vector":
            if gymnasium.spec(name).vector_entry_point is None:
                raise LookupError(f"Gymnasium has no batch of {name}")
            env = gymnasium.make_vec(name, num_envs=num_envs, vectorization_mode="vector_entry_point")
            env.reset(seed=0)
        else:
            env = gymnasium.vector.SyncVectorEnv([functools.partial(gymnasium.make, name)] * num_envs)
            env.reset(seed=0)
        self.step, self.close = env.step, env.close

    def steps_per_second(self, seconds: float) -> float:
        """Return environment steps per second over about ``seconds``."""
        step, actions = self.step, self.actions
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for action in actions:
                step(action)
            count += len(actions)
        return self.num_envs * count / (time.perf_counter() - began)


def measure_cell(name: str, num_envs: int, kinds: list[str], rounds: int, seconds: float) -> dict[str, float]:
    """Return the median steps per second of each candidate that there is."""
    candidates = {}
    for kind in kinds:
        try:
            candidates[kind] = Candidate(kind, name, num_envs)
        except LookupError:
            continue
    results: dict[str, list[float]] = {kind: [] for kind in candidates}
    for _ in range(rounds):
        for kind, candidate in candidates.items():
            results[kind].append(candidate.steps_per_second(seconds))
    for candidate in candidates.values():
        candidate.close()
    return {kind: statistics.median(values) for kind, values in results.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=CELLS)
    parser.add_argument("--candidates", default="native,pool,vector,sync")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--json", help="file for the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = {}
    for cell in args.cells.split(","):
        name, num_envs = cell.split(":")
        row = measure_cell(name, int(num_envs), args.candidates.split(","), args.rounds, args.seconds)
        table[cell] = row
        parts = [
            f"{kind} {value:,.0f}" + (f" ({value / row['sync']:.1f}x)" if "sync" in row and kind != "sync" else "")
            for kind, value in row.items()
        ]
        print(f"{cell:>20}  {'  '.join(parts)}", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
