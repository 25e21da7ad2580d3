"""Environment steps per second: FastParallelEnvironment beside a raw loop and Gymnasium's vectorizers.

Usage: python benchmarks/bench_envs.py [--cells CartPole-v1:8,HalfCheetah-v5:32] [--rounds 5] [--seconds 0.5]
                                       [--candidates raw,sync,async,alf] [--json FILE]

All candidates of a cell are alive at the same time and measured in turn, round after round; the table shows
medians and their ratio to SyncVectorEnv. One step is one environment step (Pong: four frames). Further
candidates: sb3 (SubprocVecEnv of Stable-Baselines3, which must be installed beside); and, to see what placement
decides between, alf-main (no workers), alf-1 (one worker and the main process), alf-2w (two workers),
alf-python (the Python twin).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import torch

import alf.environments.suite_gym as suite_gym
from alf.environments.fast_parallel_environment import FastParallelEnvironment

CELLS = (
    "CartPole-v1:8,CartPole-v1:32,CartPole-v1:128,HalfCheetah-v5:8,HalfCheetah-v5:32,LunarLander-v3:32,Pong:8"
)
ALF_OPTIONS = {
    "alf": {},
    "alf-main": {"num_workers": 0},
    "alf-1": {"num_workers": 1, "main_steps": True},
    "alf-2w": {"num_workers": 2},
    "alf-python": {"backend": "python"},
}


def make_gym(name: str) -> gymnasium.Env:
    """Return the Gymnasium environment; Pong with its usual preprocessing in Python."""
    if name != "Pong":
        return gymnasium.make(name)
    import ale_py

    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)
    env = gymnasium.wrappers.AtariPreprocessing(env, frame_skip=4, screen_size=84, noop_max=30)
    return gymnasium.wrappers.FrameStackObservation(env, 4)


def make_alf(name: str, env_id: int = 0):
    """Return the same environment as an AlfEnvironment."""
    if name != "Pong":
        return suite_gym.load(name, env_id=env_id)
    return suite_gym.wrap_env(make_gym(name), env_id=env_id, image_channel_first=False)


def batches_of_actions(name: str, num_envs: int) -> list[np.ndarray]:
    """Return 64 batches of random actions."""
    space = make_gym(name).action_space
    rng = np.random.default_rng(0)
    if isinstance(space, gymnasium.spaces.Discrete):
        return [rng.integers(0, space.n, num_envs) for _ in range(64)]
    return [
        rng.uniform(space.low, space.high, (num_envs,) + space.shape).astype(np.float32) for _ in range(64)
    ]


class Candidate:
    """A way to step ``num_envs`` environments; ``step(i)`` makes one batched step."""

    def __init__(self, kind: str, name: str, num_envs: int):
        actions = batches_of_actions(name, num_envs)
        self.num_envs = num_envs
        self.note = ""
        if kind == "raw":
            self.num_envs = 1
            env = make_gym(name)
            env.reset(seed=0)
            singles = [batch[0] for batch in actions]

            def step(i: int) -> None:
                _, _, terminated, truncated, _ = env.step(singles[i & 63])
                if terminated or truncated:
                    env.reset()
        elif kind in ("sync", "async"):
            cls = gymnasium.vector.SyncVectorEnv if kind == "sync" else gymnasium.vector.AsyncVectorEnv
            env = cls([functools.partial(make_gym, name)] * num_envs)
            env.reset(seed=0)

            def step(i: int) -> None:
                env.step(actions[i & 63])
        elif kind == "sb3":
            from stable_baselines3.common.vec_env import SubprocVecEnv

            env = SubprocVecEnv([functools.partial(make_gym, name)] * num_envs, start_method="fork")
            env.reset()

            def step(i: int) -> None:
                env.step(actions[i & 63])
        else:
            env = FastParallelEnvironment([functools.partial(make_alf, name)] * num_envs, **ALF_OPTIONS[kind])
            env.seed(0)
            env.reset()
            tensors = [torch.as_tensor(batch) for batch in actions]
            self.note = env.placement.describe(num_envs)

            def step(i: int) -> None:
                env.step(tensors[i & 63])

        self.step = step
        self.close = env.close

    def steps_per_second(self, seconds: float) -> float:
        """Return environment steps per second over about ``seconds``, after a short warm-up."""
        for i in range(10):
            self.step(i)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for i in range(16):
                self.step(i)
            count += 16
        return self.num_envs * count / (time.perf_counter() - began)


def measure_cell(name: str, num_envs: int, kinds: list[str], rounds: int, seconds: float) -> dict[str, float]:
    """Return the median steps per second of each candidate."""
    candidates = {kind: Candidate(kind, name, num_envs) for kind in kinds}
    results: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, candidate in candidates.items():
            results[kind].append(candidate.steps_per_second(seconds))
    for kind, candidate in candidates.items():
        if kind == "alf":
            print(f"    {candidate.note}")
        candidate.close()
    return {kind: statistics.median(values) for kind, values in results.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=CELLS)
    parser.add_argument("--candidates", default="raw,sync,async,alf")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--json")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = []
    for cell in args.cells.split(","):
        name, num_envs = cell.rsplit(":", 1)
        medians = measure_cell(name, int(num_envs), args.candidates.split(","), args.rounds, args.seconds)
        sync = medians.get("sync")
        parts = [
            f"{kind} {value / 1e3:.1f}k" + (f" ({value / sync:.2f}x)" if sync else "")
            for kind, value in medians.items()
        ]
        print(f"{name} x {num_envs}: " + ", ".join(parts), flush=True)
        rows.append({"env": name, "num_envs": int(num_envs), **medians})
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
