"""Environment steps per second of native batches beside Gymnasium's own vector CartPole, SyncVectorEnv and EnvPool.

Usage: python -m benchmarks.bench_native_envs [--cells CartPole-v1:8,Pendulum-v1:128] [--rounds 5] [--seconds 0.3]
                                              [--candidates native,pool,vector,sync] [--with-peers] [--json FILE]

All candidates of a cell are alive at the same time and measured in turn, round after round; the table shows medians and
how many times as fast as SyncVectorEnv they are. One step is one environment step. Candidates: native
(NativeBatchEnvironment), pool (FastParallelEnvironment of suite_gym), vector (the batch that Gymnasium has of CartPole,
in NumPy), sync; with --with-peers envpool, where it is installed.
"""

from __future__ import annotations

import argparse
import functools
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import torch

from alf.environments import suite_gym, suite_native
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from benchmarks import _rounds
from benchmarks.peers._envs import batches_of_actions, parse, rate

CELLS = "CartPole-v1:8,CartPole-v1:32,CartPole-v1:128,Pendulum-v1:128,MountainCar-v0:128,Acrobot-v1:128"
QUICK_CELLS = "CartPole-v1:8,CartPole-v1:128,Pendulum-v1:128"


class Candidate:
    """A way to step ``num_envs`` environments; ``step(action)`` makes one batched step.

    Raises:
        LookupError: if there is no such way for this environment.
    """

    def __init__(self, kind: str, name: str, num_envs: int):
        self.note = ""
        # In [-1, 1]: the native ones map actions to the bounds of the environment.
        space = gymnasium.make(name).action_space
        if isinstance(space, gymnasium.spaces.Box):
            space = gymnasium.spaces.Box(-1, 1, space.shape)
        actions = batches_of_actions(space, num_envs)
        if kind in ("native", "pool"):
            if kind == "native":
                env = suite_native.load(name, batch_size=num_envs)
            else:
                env = FastParallelEnvironment([functools.partial(suite_gym.load, name)] * num_envs)
            env.seed(0)
            env.reset()
            actions = [torch.as_tensor(batch) for batch in actions]
        elif kind == "vector":
            if gymnasium.spec(name).vector_entry_point is None:
                raise LookupError(f"Gymnasium has no batch of {name}")
            env = gymnasium.make_vec(name, num_envs=num_envs, vectorization_mode="vector_entry_point")
            env.reset(seed=0)
        else:
            env = gymnasium.vector.SyncVectorEnv([functools.partial(gymnasium.make, name)] * num_envs)
            env.reset(seed=0)
        step = env.step
        self.measure = rate(lambda i: step(actions[i & 63]), num_envs)
        self.close = env.close


def measure_cell(case: str, kinds: list[str], peers, rounds: int, seconds: float) -> list[dict]:
    """Return the rows of a cell, after printing them.

    Args:
        case: environment and number.
        kinds: candidates of this process.
        peers: candidates of others.
        rounds: measurements of each.
        seconds: of each measurement.
    """
    name, num_envs = parse(case)
    figures = _rounds.measure_alive(case, lambda kind: Candidate(kind, name, num_envs), kinds, peers, rounds, seconds)
    rows = _rounds.summarize(case, "env steps/s", figures, "sync")
    print(_rounds.told(rows), flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", help=f"environments and numbers; {CELLS}")
    parser.add_argument("--candidates", default="native,pool,vector,sync", help="of this process")
    _rounds.add_arguments(parser, rounds=5, seconds=0.3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rounds = min(args.rounds, 3) if args.quick else args.rounds
    peers, left_out = _rounds.find_servers(args, "serve_envs.py", "envpool")
    rows: list[dict] = []
    with peers:
        for cell in (args.cells or (QUICK_CELLS if args.quick else CELLS)).split(","):
            case = " x ".join(cell.rsplit(":", 1))
            rows += measure_cell(case, args.candidates.split(","), peers, rounds, args.seconds)
    _rounds.write(args, rows, peers, left_out)


if __name__ == "__main__":
    main()
