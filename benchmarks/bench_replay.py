"""Replay buffers: microseconds per sampled batch and transitions stored per second, ours beside others.

Transitions as of HalfCheetah (17 numbers observed, 6 actions), stored by 8 environments at a time; batches of 256. The
buffers take turns in one process, so that ratios do not depend on what else the machine does. Stable-Baselines3 and
cpprb are measured where they are installed. They store the next observation besides; ours finds it in the next step,
so its batches are sequences of two steps.

Usage: python benchmarks/bench_replay.py [--capacity 1000000] [--rounds 15] [--json FILE]
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

NUM_ENVS, OBSERVATION, ACTION, BATCH = 8, 17, 6, 256


def ours(capacity, prioritized, length):
    """Return {job: function} of alf's ReplayBuffer."""
    import torch

    import alf.nest as nest
    from alf.data_structures import Experience, TimeStep
    from alf.experience_replayers.replay_buffer import ReplayBuffer
    from alf.tensor_specs import TensorSpec

    action = TensorSpec((ACTION, ))
    spec = Experience(
        time_step=TimeStep(step_type=TensorSpec((), torch.int32), reward=TensorSpec(()), discount=TensorSpec(()),
                           observation=TensorSpec((OBSERVATION, )), prev_action=action,
                           env_id=TensorSpec((), torch.int32)),
        action=action)
    buffer = ReplayBuffer(spec, NUM_ENVS, capacity // NUM_ENVS, prioritized_sampling=prioritized)
    step = nest.map_structure(lambda s: s.ones((NUM_ENVS, )), spec)
    many = nest.map_structure(lambda s: s.ones((1000, NUM_ENVS)), spec)
    for _ in range(capacity // NUM_ENVS // 1000 + 1):
        buffer.add_steps(many)
    priorities = torch.rand(BATCH) + 0.1

    def sample_and_update():
        _, info = buffer.get_batch(BATCH, length)
        buffer.update_priority(info.env_ids, info.positions, priorities)

    jobs = {"store": lambda: buffer.add_batch(step), "sample": lambda: buffer.get_batch(BATCH, length)}
    return {**jobs, "sample and update": sample_and_update} if prioritized else jobs


def _arrays():
    import numpy as np

    rng = np.random.default_rng(0)
    observation = rng.standard_normal((NUM_ENVS, OBSERVATION)).astype(np.float32)
    action = rng.uniform(-1, 1, (NUM_ENVS, ACTION)).astype(np.float32)
    return observation, action, np.ones(NUM_ENVS, np.float32), np.zeros(NUM_ENVS, np.float32)


def stable_baselines3(capacity):
    """Return {job: function} of Stable-Baselines3's ReplayBuffer."""
    import gymnasium
    import numpy as np
    from stable_baselines3.common.buffers import ReplayBuffer

    observation, action, reward, done = _arrays()
    buffer = ReplayBuffer(capacity, gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION, ), np.float32),
                          gymnasium.spaces.Box(-1, 1, (ACTION, ), np.float32), device="cpu", n_envs=NUM_ENVS)
    for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards, buffer.dones):
        array[:] = 1
    buffer.full = True
    infos = [{} for _ in range(NUM_ENVS)]
    return {"store": lambda: buffer.add(observation, observation, action, reward, done, infos),
            "sample": lambda: buffer.sample(BATCH)}


def cpprb(capacity, prioritized):
    """Return {job: function} of cpprb's buffers."""
    import cpprb
    import numpy as np

    observation, action, reward, done = _arrays()
    kind = cpprb.PrioritizedReplayBuffer if prioritized else cpprb.ReplayBuffer
    buffer = kind(capacity, {"obs": {"shape": OBSERVATION}, "act": {"shape": ACTION}, "rew": {},
                             "next_obs": {"shape": OBSERVATION}, "done": {}})
    step = {"obs": observation, "act": action, "rew": reward[:, None], "next_obs": observation, "done": done[:, None]}
    many = {name: np.ones((10000, *array.shape[1:]), np.float32) for name, array in step.items()}
    for _ in range(capacity // 10000):
        buffer.add(**many)
    priorities = np.random.default_rng(0).uniform(0.1, 1, BATCH).astype(np.float32)

    def sample_and_update():
        buffer.update_priorities(buffer.sample(BATCH)["indexes"], priorities)

    jobs = {"store": lambda: buffer.add(**step), "sample": lambda: buffer.sample(BATCH)}
    return {**jobs, "sample and update": sample_and_update} if prioritized else jobs


BUFFERS = {
    "uniform": {
        "alf, one step": lambda capacity: ours(capacity, False, 1),
        "alf, two steps": lambda capacity: ours(capacity, False, 2),
        "stable_baselines3": stable_baselines3,
        "cpprb": lambda capacity: cpprb(capacity, False),
    },
    "prioritized": {
        "alf, one step": lambda capacity: ours(capacity, True, 1),
        "alf, two steps": lambda capacity: ours(capacity, True, 2),
        "cpprb": lambda capacity: cpprb(capacity, True),
    },
}


def seconds_per_call(function, budget_seconds: float = 0.03) -> float:
    """Return the mean time of a call in a short while."""
    calls, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < budget_seconds:
        for _ in range(10):
            function()
        calls += 10
    return passed / calls


def measure(kind: str, capacity: int, rounds: int) -> dict:
    """Return {buffer: {job: median microseconds}}."""
    jobs = {}
    for name, make in BUFFERS[kind].items():
        try:
            jobs[name] = make(capacity)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    times = {name: {job: [] for job in functions} for name, functions in jobs.items()}
    for job in sorted({job for functions in jobs.values() for job in functions}):
        for _ in range(rounds):
            for name, functions in jobs.items():
                if job in functions:
                    times[name][job].append(1e6 * seconds_per_call(functions[job]))
    return {name: {job: statistics.median(values[1:]) for job, values in table.items()}
            for name, table in times.items()}


def frame_memory(num_steps: int) -> dict:
    """Return what a buffer of frames takes, and what Atari's million steps would.

    One frame of 84x84 bytes a step: FrameStacker makes stacks of four when sampling.
    """
    import resource

    import torch

    from alf.experience_replayers.replay_buffer import ReplayBuffer
    from alf.tensor_specs import TensorSpec
    from alf.utils.row_storage import layout_of

    spec = {"frame": TensorSpec((1, 84, 84), torch.uint8), "step_type": TensorSpec((), torch.int32),
            "reward": TensorSpec(()), "discount": TensorSpec(()), "action": TensorSpec((), torch.int64)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    buffer = ReplayBuffer(spec, 8, num_steps // 8)
    chunk = {name: s.ones((100, 8)) for name, s in spec.items()}
    for _ in range(num_steps // 800 + 1):
        buffer.add_steps(chunk)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    per_step = layout_of(spec).bytes_per_step
    return {"steps": num_steps, "bytes_per_step": per_step, "estimated_gib": per_step * num_steps / 2**30,
            "measured_gib": grown / 2**30, "million_steps_gib": per_step * 1e6 / 2**30,
            "million_steps_of_stacks_gib": (per_step + 3 * 84 * 84) * 1e6 / 2**30}


def main() -> None:
    """Measure, print tables, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--frames", type=int, default=100_000, help="steps of the measured buffer of frames")
    parser.add_argument("--json", help="file to write")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    results = {"frames": frame_memory(args.frames)}
    print("frames: " + ", ".join(f"{name} {value:.6g}" for name, value in results["frames"].items()))
    for kind in BUFFERS:
        results[kind] = table = measure(kind, args.capacity, args.rounds)
        reference = table["alf, one step"]
        for name, jobs in table.items():
            told = "; ".join(f"{job} {us:.1f} us ({us / reference[job]:.2f} x)" for job, us in jobs.items())
            print(f"{kind:12} {name:18} {told}; {NUM_ENVS / jobs['store']:.2f} M transitions/s stored")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
