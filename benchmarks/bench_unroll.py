"""Unroll steps per second with the policy and the value of PPO: all environments at once, and half by half.

Usage: python -m benchmarks.bench_unroll [--cells HalfCheetah-v5:8,Pong:8] [--rounds 15] [--steps 16]

``all`` is the pool as it is placed by itself, or with --workers; ``halves`` is TrainerConfig.unroll_halves: workers
step one half while the policy acts for the other. Both are alive at the same time and take turns, round after round.
Shown are the median and the best round, the median of the ratios of a round, and what a step and acting take alone.
``waits`` is an environment whose steps take 2 ms and no core, as where something outside of the machine is waited for.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from alf.algorithms._training.unroll import Unroll
from alf.algorithms.config import TrainerConfig
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.environments import suite_gym
from alf.environments.alf_wrappers import AlfEnvironmentBaseWrapper
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.layers import Scale
from alf.nest import map_structure
from alf.networks import ActorDistributionNetwork, ValueNetwork
from alf.utils import common
from benchmarks.bench_envs import make_alf

CELLS = "HalfCheetah-v5:8,HalfCheetah-v5:32,Pong:8,waits:8"
WAIT_SECONDS = 0.002


class Waits(AlfEnvironmentBaseWrapper):
    """An environment that waits in each step."""

    def _step(self, action):
        time.sleep(WAIT_SECONDS)
        return super()._step(action)


def make(name, env_id=0):
    """Return an environment by the name of a cell."""
    if name == "waits":
        return Waits(suite_gym.load("Pendulum-v1", env_id=env_id))
    return make_alf(name, env_id=env_id)


def make_unroll(name, num_envs, num_parts, num_workers, root_dir):
    """Return an unroll of the policy of PPO, its environment and algorithm."""
    env = FastParallelEnvironment([functools.partial(make, name)] * num_envs, num_parts=num_parts,
                                  num_workers=num_workers)
    env.seed(0)
    settings = dict(fc_layer_params=(64, 64))
    if name == "Pong":
        settings = dict(input_preprocessors=Scale(1 / 255), conv_layer_params=((32, 8, 4), (64, 4, 2), (64, 3, 1)),
                        fc_layer_params=(512, ))
    algorithm = PPOAlgorithm(
        env.observation_spec(), env.action_spec(), env=env, config=TrainerConfig(root_dir=root_dir),
        actor_network_ctor=functools.partial(ActorDistributionNetwork, **settings),
        value_network_ctor=functools.partial(ValueNetwork, **settings))
    algorithm.eval()
    return Unroll(algorithm, env, keep_state=False), env, algorithm


def seconds(function):
    """Return how long a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def acting(algorithm, time_steps, size, steps):
    """Return seconds of a policy call for the first ``size`` environments of time steps ``[T, B, ...]``."""
    inputs = map_structure(lambda leaf: leaf[0, :size].clone(), time_steps)
    state = algorithm.get_initial_rollout_state(size)
    return seconds(lambda: [algorithm.rollout_step(inputs, state) for _ in range(steps)]) / steps


def measure(cell, arguments, root_dir):
    """Print the lines of a cell.

    Args:
        cell: ``name:number of environments``.
        arguments: of the command line.
        root_dir: a directory.
    """
    name, num_envs = cell.rsplit(":", 1)
    num_envs, steps = int(num_envs), arguments.steps
    candidates = {
        kind: make_unroll(name, num_envs, num_parts, arguments.workers, root_dir)
        for kind, num_parts in (("all", 1), ("halves", 2))
    }
    for kind, (_, env, _) in candidates.items():
        print(f"{cell} {kind}: {env.placement.describe(num_envs)}")
    unroll, env, algorithm = candidates["all"]
    taken = {kind: [] for kind in (*candidates, "a step", "acting for all", "acting for half")}
    with torch.no_grad(), common.rollout_context():
        for each, _, _ in candidates.values():
            each.run(steps)
        time_steps = unroll.run(1)[0].time_step
        inputs = {"acting for all": num_envs, "acting for half": num_envs // 2}
        for _ in range(arguments.rounds):
            for kind, (each, _, _) in candidates.items():
                taken[kind].append(seconds(lambda each=each: each.run(steps, with_last_step=False)) / steps)
            for kind, size in inputs.items():
                taken[kind].append(acting(algorithm, time_steps, size, steps))
            action = unroll.run(1)[0].action[0]
            taken["a step"].append(seconds(lambda action=action: [env.step(action) for _ in range(steps)]) / steps)
    for kind, times in taken.items():
        median, best = statistics.median(times), min(times)
        rate = f", {num_envs / median:,.0f} steps/s (best {num_envs / best:,.0f})" if kind in candidates else ""
        print(f"{cell} {kind}: median {median * 1e6:,.0f} us, best {best * 1e6:,.0f} us{rate}")
    ratios = [whole / halves for whole, halves in zip(taken["all"], taken["halves"], strict=True)]
    print(f"{cell} halves beside all: {statistics.median(ratios):.2f} times as fast (median of {len(ratios)} rounds), "
          f"{min(taken['all']) / min(taken['halves']):.2f} (best rounds)")
    for _, env, _ in candidates.values():
        env.close()


def main():
    """Measure the cells that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default=CELLS, help="comma separated, name:number of environments")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=16, help="of an unroll")
    parser.add_argument("--workers", type=int, default=None, help="worker processes; by default placed by measuring")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root_dir:
        for cell in arguments.cells.split(","):
            measure(cell, arguments, root_dir)


if __name__ == "__main__":
    main()
