"""Environments and random actions of the benchmarks of environments; needs Gymnasium and NumPy only."""

import time
from typing import Callable, List, Tuple

import gymnasium
import numpy as np


def parse(case: str) -> Tuple[str, int]:
    """Return the environment and the number of them: ``"CartPole-v1 x 8"`` is CartPole-v1, 8."""
    name, _, number = case.partition(" x ")
    return name, int(number)


def make_gym(name: str) -> gymnasium.Env:
    """Return the Gymnasium environment; Pong with its usual preprocessing in Python."""
    if name != "Pong":
        return gymnasium.make(name)
    import ale_py

    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)
    env = gymnasium.wrappers.AtariPreprocessing(env, frame_skip=4, screen_size=84, noop_max=30)
    return gymnasium.wrappers.FrameStackObservation(env, 4)


def batches_of_actions(space: gymnasium.Space, num_envs: int) -> List[np.ndarray]:
    """Return 64 batches of random actions.

    Args:
        space: of one action.
        num_envs: actions in a batch.
    """
    rng = np.random.default_rng(0)
    if isinstance(space, gymnasium.spaces.Discrete):
        return [rng.integers(0, space.n, num_envs) for _ in range(64)]
    return [rng.uniform(space.low, space.high, (num_envs, *space.shape)).astype(np.float32) for _ in range(64)]


def rate(step: Callable[[int], object], num_envs: int) -> Callable[[float], float]:
    """Return what measures environment steps per second over about so many seconds.

    Args:
        step: makes one batched step; gets a running number.
        num_envs: environment steps in it.
    """
    def measure(seconds: float) -> float:
        for i in range(4):
            step(i)
        count, began = 0, time.perf_counter()
        while True:
            for i in range(16):
                step(i)
            count += 16
            passed = time.perf_counter() - began
            if passed >= seconds:
                return num_envs * count / passed

    return measure
