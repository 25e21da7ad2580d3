"""Stores in and samples from replay buffers of peers, for bench_replay.py. See _server.py."""

import functools

import _replay
import _server
import numpy as np
from _replay import ACTION, BATCH, NUM_ENVS, OBSERVATION


def _step():
    rng = np.random.default_rng(0)
    observation = rng.standard_normal((NUM_ENVS, OBSERVATION)).astype(np.float32)
    action = rng.uniform(-1, 1, (NUM_ENVS, ACTION)).astype(np.float32)
    return observation, action, np.ones(NUM_ENVS, np.float32), np.zeros(NUM_ENVS, np.float32)


def stable_baselines3(capacity: int):
    """Return {job: function} of Stable-Baselines3's ReplayBuffer."""
    import gymnasium
    import torch
    from stable_baselines3.common.buffers import ReplayBuffer

    torch.set_num_threads(1)
    observation, action, reward, done = _step()
    buffer = ReplayBuffer(capacity, gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION, ), np.float32),
                          gymnasium.spaces.Box(-1, 1, (ACTION, ), np.float32), device="cpu", n_envs=NUM_ENVS)
    for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards, buffer.dones):
        array[:] = 1
    buffer.full = True
    infos = [{} for _ in range(NUM_ENVS)]
    return {"store": lambda: buffer.add(observation, observation, action, reward, done, infos),
            "sample": lambda: buffer.sample(BATCH)}


def cpprb(capacity: int, prioritized: bool):
    """Return {job: function} of cpprb's buffers."""
    import cpprb

    observation, action, reward, done = _step()
    kind = cpprb.PrioritizedReplayBuffer if prioritized else cpprb.ReplayBuffer
    buffer = kind(capacity, {"obs": {"shape": OBSERVATION}, "act": {"shape": ACTION}, "rew": {},
                             "next_obs": {"shape": OBSERVATION}, "done": {}})
    step = {"obs": observation, "act": action, "rew": reward[:, None], "next_obs": observation, "done": done[:, None]}
    chunk = min(10_000, capacity)
    many = {name: np.ones((chunk, *array.shape[1:]), np.float32) for name, array in step.items()}
    for _ in range(capacity // chunk):
        buffer.add(**many)
    priorities = np.random.default_rng(0).uniform(0.1, 1, BATCH).astype(np.float32)

    def sample_and_update():
        buffer.update_priorities(buffer.sample(BATCH)["indexes"], priorities)

    return {"store": lambda: buffer.add(**step), "sample": lambda: buffer.sample(BATCH),
            "sample and update": sample_and_update}


def torchrl(capacity: int):
    """Return {job: function} of TorchRL's TensorDictReplayBuffer."""
    import torch
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

    torch.set_num_threads(1)

    def steps(number):
        reward, flag = torch.ones(number, 1), torch.zeros(number, 1, dtype=torch.bool)
        after = {"observation": torch.ones(number, OBSERVATION), "reward": reward, "done": flag, "terminated": flag}
        return TensorDict({"observation": torch.ones(number, OBSERVATION), "action": torch.ones(number, ACTION),
                           "next": after}, [number])

    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(capacity), batch_size=BATCH)
    buffer.extend(steps(capacity))
    step = steps(NUM_ENVS)
    return {"store": lambda: buffer.extend(step), "sample": buffer.sample}


def tianshou(capacity: int, prioritized: bool):
    """Return {job: function} of tianshou's buffers of several environments."""
    import torch
    from tianshou.data import Batch, PrioritizedVectorReplayBuffer, VectorReplayBuffer

    torch.set_num_threads(1)
    observation, action, reward, _ = _step()
    ended = np.zeros(NUM_ENVS, bool)
    step = Batch(obs=observation, act=action, rew=reward, terminated=ended, truncated=ended, done=ended,
                 obs_next=observation, info=Batch())
    buffer = (PrioritizedVectorReplayBuffer(capacity, NUM_ENVS, alpha=0.6, beta=0.4) if prioritized
              else VectorReplayBuffer(capacity, NUM_ENVS))
    buffer.add(step)
    # Filled from within: it has no way to add many steps at once, and one by one they take minutes.
    for name in ("obs", "act", "rew", "obs_next"):
        getattr(buffer, name)[:] = 1
    for part in buffer.buffers:
        part._size = part.maxsize
    buffer._lengths[:] = [part.maxsize for part in buffer.buffers]
    jobs = {"store": lambda: buffer.add(step), "sample": lambda: buffer.sample(BATCH)}
    if not prioritized:
        return jobs
    rng = np.random.default_rng(0)
    buffer.weight[np.arange(capacity)] = rng.uniform(0.1, 1, capacity)
    priorities = rng.uniform(0.1, 1, BATCH)

    def sample_and_update():
        buffer.update_weight(buffer.sample(BATCH)[1], priorities)

    return {**jobs, "sample and update": sample_and_update}


@functools.lru_cache(maxsize=1)
def filled(candidate: str, kind: str, capacity: int):
    """Return {job: function} of a filled buffer.

    Args:
        candidate: ``"sb3"``, ``"cpprb"``, ``"tianshou"`` or ``"torchrl"``.
        kind: ``"uniform"`` or ``"prioritized"``.
        capacity: transitions.
    Raises:
        LookupError: if the candidate has no such buffer.
    """
    if candidate in ("cpprb", "tianshou"):
        return {"cpprb": cpprb, "tianshou": tianshou}[candidate](capacity, kind == "prioritized")
    if kind == "prioritized":
        # That of TorchRL needs an extension built for one version of PyTorch.
        raise LookupError(f"no prioritized buffer of {candidate} is measured")
    return stable_baselines3(capacity) if candidate == "sb3" else torchrl(capacity)


def open_case(candidate: str, case: str) -> _server.Opened:
    """Return how to measure a case: kind of buffer, job and capacity, such as ``"uniform, sample, 1000000"``."""
    kind, job, capacity = case.split(", ")
    return _replay.rate(filled(candidate, kind, int(capacity))[job], job), lambda: None, ""


if __name__ == "__main__":
    _server.serve(open_case)
