"""Environment steps per second: FastParallelEnvironment beside a raw loop, Gymnasium's vectorizers and peers.

Usage: python -m benchmarks.bench_envs [--cells CartPole-v1:8,HalfCheetah-v5:32] [--rounds 5] [--seconds 0.5]
                                       [--candidates raw,sync,async,alf] [--with-peers] [--json FILE]

All candidates of a cell are alive at the same time and measured in turn, round after round; the table shows medians and
how many times as fast as SyncVectorEnv they are. One step is one environment step (Pong: four frames).

- raw: one environment in a loop, the floor of one core; sync, async: Gymnasium's vectorizers
- alf: FastParallelEnvironment. Of Pong: preprocessing in Python, as the former have it
- ale, alf-ale (Pong): ALE's native batch, alone and as suite_ale.load makes it
- sb3 (SubprocVecEnv), torchrl (ParallelEnv, two workers), pufferlib (Multiprocessing, one worker): with --with-peers,
  where they are installed
- envpool, alf-envpool: EnvPool alone and as suite_envpool.load makes it, likewise

Further ones show what placement decides between: alf-main (no workers), alf-1 (one worker and the main process), alf-2w
(two workers), alf-python (the Python twin).
"""

from __future__ import annotations

import argparse
import functools
import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import torch

import alf.environments.suite_gym as suite_gym
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from benchmarks import _rounds
from benchmarks.peers._envs import batches_of_actions, make_gym, parse, rate

CELLS = (
    "CartPole-v1:8,CartPole-v1:32,CartPole-v1:128,HalfCheetah-v5:8,HalfCheetah-v5:32,LunarLander-v3:32,Pong:8"
)
QUICK_CELLS = "CartPole-v1:8,CartPole-v1:128,HalfCheetah-v5:32,Pong:8"
ALF_OPTIONS = {
    "alf": {},
    "alf-main": {"num_workers": 0},
    "alf-1": {"num_workers": 1, "main_steps": True},
    "alf-2w": {"num_workers": 2},
    "alf-python": {"backend": "python"},
}
REFERENCE = {"alf-ale": "ale", "alf-envpool": "envpool"}  # whom an adapter is compared with besides


def make_alf(name: str, env_id: int = 0):
    """Return the same environment as an AlfEnvironment."""
    if name != "Pong":
        return suite_gym.load(name, env_id=env_id)
    return suite_gym.wrap_env(make_gym(name), env_id=env_id, image_channel_first=False)


class Candidate:
    """A way to step ``num_envs`` environments in this process; ``measure(seconds)`` returns steps per second.

    Raises:
        LookupError: if there is no such way for this environment.
    """

    def __init__(self, kind: str, name: str, num_envs: int):
        actions = batches_of_actions(make_gym(name).action_space, num_envs)
        self.note = ""
        if kind in ("ale", "alf-ale"):
            if name != "Pong":
                raise LookupError(f"ALE has no {name}")
            from alf.environments import suite_ale

            adapted = suite_ale.load("pong", batch_size=num_envs)
            if kind == "ale":
                env = adapted._vector_env
                env.reset(seed=0)
            else:
                env, actions = adapted, [torch.as_tensor(batch) for batch in actions]
                env.seed(0)
                env.reset()
        elif kind == "raw":
            num_envs = 1
            env = make_gym(name)
            env.reset(seed=0)
            actions = [batch[0] for batch in actions]
        elif kind in ("sync", "async"):
            cls = gymnasium.vector.SyncVectorEnv if kind == "sync" else gymnasium.vector.AsyncVectorEnv
            env = cls([functools.partial(make_gym, name)] * num_envs)
            env.reset(seed=0)
        else:
            env = FastParallelEnvironment([functools.partial(make_alf, name)] * num_envs, **ALF_OPTIONS[kind])
            env.seed(0)
            env.reset()
            actions = [torch.as_tensor(batch) for batch in actions]
            self.note = env.placement.describe(num_envs)

        def step(i: int) -> None:
            env.step(actions[i & 63])

        def raw_step(i: int) -> None:
            _, _, terminated, truncated, _ = env.step(actions[i & 63])
            if terminated or truncated:
                env.reset()

        self.measure = rate(raw_step if kind == "raw" else step, num_envs)
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
    for adapter, native in REFERENCE.items():
        if adapter in figures and native in figures:
            pair = {kind: figures[kind] for kind in (adapter, native)}
            rows.append({**_rounds.summarize(case, "env steps/s", pair, native)[0], "candidate": adapter})
            print(f"    {adapter}: {rows[-1]['ratio']:.2f} x {native}", flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", help=f"environments and numbers; {CELLS}")
    parser.add_argument("--candidates", default="raw,sync,async,alf,ale,alf-ale", help="of this process")
    _rounds.add_arguments(parser, rounds=5, seconds=0.5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rounds = min(args.rounds, 3) if args.quick else args.rounds
    peers, left_out = _rounds.find_servers(
        args, "serve_envs.py", "sb3", "torchrl", "pufferlib", "envpool", "alf-envpool@envpool",
        has_alf=("alf-envpool", ))
    rows: list[dict] = []
    with peers:
        for cell in (args.cells or (QUICK_CELLS if args.quick else CELLS)).split(","):
            case = " x ".join(cell.rsplit(":", 1))
            rows += measure_cell(case, args.candidates.split(","), peers, rounds, args.seconds)
    _rounds.write(args, rows, peers, left_out)


if __name__ == "__main__":
    main()
