"""Replay buffers: microseconds per sampled batch and transitions stored per second, ours beside others.

Transitions as of HalfCheetah (17 numbers observed, 6 actions), stored by 8 environments at a time; batches of 256. The
buffers take turns, so that ratios do not depend on what else the machine does. The floor is one array with a row for
each transition, in NumPy and in PyTorch. With --with-peers the buffers of Stable-Baselines3, cpprb, tianshou and
TorchRL are measured where they are installed. All but ours store the next observation besides; ours finds it in the
next step, so what compares with their batches are sequences of two steps.

Usage: python -m benchmarks.bench_replay [--capacity 1000000] [--rounds 9] [--with-peers] [--json FILE]
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import _rounds
from benchmarks.peers._replay import ACTION, BATCH, NUM_ENVS, OBSERVATION, UNITS, rate


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


def floor(capacity, engine):
    """Return {job: function} of one array with a row for each transition, and nothing else.

    Args:
        capacity: transitions.
        engine: ``"numpy"`` or ``"torch"``.
    """
    import numpy as np
    import torch

    width = 2 * OBSERVATION + ACTION + 2
    rng = np.random.default_rng(0)
    rows, step, place = np.full((capacity, width), 0.5, np.float32), np.ones((NUM_ENVS, width), np.float32), [0]
    out = np.empty((BATCH, width), np.float32)
    ring, tensor_step = torch.from_numpy(rows), torch.from_numpy(step)

    def store():
        place[0] = (place[0] + NUM_ENVS) % capacity
        if engine == "numpy":
            rows[place[0]:place[0] + NUM_ENVS] = step
        else:
            ring[place[0]:place[0] + NUM_ENVS] = tensor_step

    def sample():
        if engine == "numpy":
            rows.take(rng.integers(0, capacity, BATCH), axis=0, out=out, mode="clip")
        else:
            ring.index_select(0, torch.randint(0, capacity, (BATCH, ))).split(
                [OBSERVATION, OBSERVATION, ACTION, 1, 1], 1)

    return {"store": store, "sample": sample}


KINDS = {
    "uniform": {
        "alf": lambda capacity: ours(capacity, False, 1),
        "alf, two steps": lambda capacity: ours(capacity, False, 2),
        "numpy rows": lambda capacity: floor(capacity, "numpy"),
        "torch rows": lambda capacity: floor(capacity, "torch"),
    },
    "prioritized": {
        "alf": lambda capacity: ours(capacity, True, 1),
        "alf, two steps": lambda capacity: ours(capacity, True, 2),
    },
}
JOBS = {"uniform": ("sample", "store"), "prioritized": ("sample", "store", "sample and update")}


def measure(kind: str, capacity: int, peers, rounds: int, seconds: float) -> list:
    """Return the rows of a kind of buffer, after printing them.

    Args:
        kind: one of KINDS.
        capacity: transitions.
        peers: candidates of other processes.
        rounds: measurements of each.
        seconds: of each measurement.
    """
    rows = []
    buffers = {name: make(capacity) for name, make in KINDS[kind].items()}
    for job in JOBS[kind]:
        case = f"{kind}, {job}"
        local = {name: rate(jobs[job], job) for name, jobs in buffers.items()}
        # A peer fills its buffer when it is first asked for that kind, and keeps it.
        figures = _rounds.measure(f"{case}, {capacity}", local, peers, rounds, seconds)
        rows += _rounds.summarize(case, UNITS[job], figures, "sb3" if "sb3" in figures else "alf")
        print(_rounds.told(rows[-len(figures):]), flush=True)
    return rows


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
    parser.add_argument("--frames", type=int, default=100_000, help="steps of the measured buffer of frames; 0: none")
    _rounds.add_arguments(parser, rounds=9, seconds=0.05)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rounds = min(args.rounds, 5) if args.quick else args.rounds
    frames = {}
    if args.frames and not args.quick:
        frames = frame_memory(args.frames)
        print("frames: " + ", ".join(f"{name} {value:.6g}" for name, value in frames.items()))
    peers, left_out = _rounds.find_servers(args, "serve_replay.py", "sb3", "cpprb", "tianshou", "torchrl")
    rows = []
    with peers:
        for kind in KINDS:
            rows += measure(kind, args.capacity, peers, rounds, args.seconds)
    _rounds.write(args, rows, peers, left_out, frames=frames)


if __name__ == "__main__":
    main()
