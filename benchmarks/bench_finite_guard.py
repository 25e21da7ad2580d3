"""What it costs to look for NaN and infinity: updates and unroll steps with the guard and without it, in percent.

Usage: python -m benchmarks.bench_finite_guard [--rounds 800] [--seconds 0.005] [--cases sac,ppo,pool,thread]

- sac, ppo: an update, eager, of bench_sac_update.py and bench_ppo_update.py: loss and gradients are looked at
- pool: an unroll step of PPO for 8 CartPoles of Gymnasium in the main process: actions, observations and rewards are
- thread: the same for one CartPole in a thread

With and without take turns in each round. Times are those of this process on a core, so that what else the machine does
falls out as far as it can. Told are the median of the ratios within rounds, its error (half the distance between their
quartiles divided by the square root of their number), and the ratio of the quickest tenths, which what else runs
disturbs least. The aim is that this is less than 1 %.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from typing import Callable, Dict, Iterator, List, Tuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

AIM_PERCENT = 1.0
CASES = ("sac", "ppo", "pool", "thread")
Case = Tuple[Callable[[], None], Callable[[bool], None]]  # makes updates or steps; switches the guard


class NoGuard:
    """Lets every update pass."""

    skips = False

    def passes(self, loss, optimizers) -> bool:
        """Return True."""
        return True


def guarded_update(algorithm, update: Callable[[], None]) -> Case:
    """Return an update of ``algorithm``, and what switches its guard."""
    learner = algorithm._learner
    guards = {True: learner.finite_guard, False: NoGuard()}
    return update, lambda is_on: setattr(learner, "finite_guard", guards[is_on])


def sac() -> Case:
    """Return the case of SAC."""
    from benchmarks.bench_sac_update import make_our_update
    update = make_our_update(torch)
    algorithm = update.__closure__[update.__code__.co_freevars.index("algorithm")].cell_contents
    return guarded_update(algorithm, update)


def ppo() -> Case:
    """Return the case of PPO."""
    from benchmarks.bench_ppo_update import our_algorithm
    update = our_algorithm(None)
    algorithm = update.__closure__[update.__code__.co_freevars.index("algorithm")].cell_contents
    return guarded_update(algorithm, update)


def unroll_of(env, root_dir: str) -> Callable[[], None]:
    """Return what makes 16 unroll steps of PPO in ``env``."""
    from alf.algorithms._training.unroll import Unroll
    from alf.algorithms.config import TrainerConfig
    from alf.algorithms.ppo_algorithm import PPOAlgorithm
    from alf.networks import ActorDistributionNetwork, ValueNetwork
    from alf.utils import common
    settings = dict(fc_layer_params=(64, 64))
    algorithm = PPOAlgorithm(
        env.observation_spec(), env.action_spec(), env=env, config=TrainerConfig(root_dir=root_dir),
        actor_network_ctor=functools.partial(ActorDistributionNetwork, **settings),
        value_network_ctor=functools.partial(ValueNetwork, **settings))
    algorithm.eval()
    unroll = Unroll(algorithm, env, keep_state=False)

    def run() -> None:
        with torch.no_grad(), common.rollout_context():
            unroll.run(16, with_last_step=False)

    return run


def pool(root_dir: str) -> Case:
    """Return the case of a pool."""
    from alf.environments import suite_gym
    from alf.environments._pool import _backend
    from alf.environments.fast_parallel_environment import FastParallelEnvironment
    env = FastParallelEnvironment([functools.partial(suite_gym.load, "CartPole-v1")] * 8, num_workers=0)
    env.seed(0)
    run = unroll_of(env, root_dir)
    run()
    host, views = env._local._host, env._views
    unchecked = views._replace(reward=views.discount.view("int32"), observation=[])  # integers are not looked at
    keepers = {True: host._keeper, False: _backend.make_row_keeper(_backend.resolve(None), unchecked)}
    return run, lambda is_on: setattr(host, "_keeper", keepers[is_on])


def thread(root_dir: str) -> Case:
    """Return the case of an environment in a thread."""
    from alf.environments import suite_gym
    from alf.environments.alf_gym_wrapper import AlfGymWrapper
    from alf.environments.thread_environment import ThreadEnvironment
    env = ThreadEnvironment(functools.partial(suite_gym.load, "CartPole-v1"))
    env.seed(0)
    checks = {True: AlfGymWrapper._check_finite, False: lambda self, values, reward: None}
    return unroll_of(env, root_dir), lambda is_on: setattr(AlfGymWrapper, "_check_finite", checks[is_on])


def rounds_of(case: Case, num_rounds: int, seconds: float) -> Iterator[Dict[bool, float]]:
    """Yield the seconds of a call with and without the guard, round by round.

    Args:
        case: what is called, and what switches the guard.
        num_rounds: one before them warms up.
        seconds: of each measurement, about.
    """
    run, switch = case
    began = time.perf_counter()
    run()
    run()
    num_calls = max(1, int(seconds / max((time.perf_counter() - began) / 2, 1e-6)))
    for number in range(num_rounds + 1):
        taken = {}
        for is_on in (True, False) if number % 2 else (False, True):
            switch(is_on)
            began = time.process_time()
            for _ in range(num_calls):
                run()
            taken[is_on] = (time.process_time() - began) / num_calls
        if number:
            yield taken
    switch(True)


def cost_percent(rounds: List[Dict[bool, float]]) -> Tuple[float, float]:
    """Return what the guard costs, in percent of what is done without it, and the error of that.

    Args:
        rounds: see :func:`rounds_of`.
    """
    ratios = [100 * (taken[True] / taken[False] - 1) for taken in rounds]
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), (high - low) / 2 / len(ratios)**0.5


def cost_of_quickest_percent(rounds: List[Dict[bool, float]]) -> float:
    """Return the same of the quickest tenths.

    Args:
        rounds: see :func:`rounds_of`.
    """
    with_guard, without = (statistics.quantiles([taken[is_on] for taken in rounds], n=10)[0] for is_on in (True, False))
    return 100 * (with_guard / without - 1)


def main() -> None:
    """Measure the cases that the command line names, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=800)
    parser.add_argument("--seconds", type=float, default=0.005, help="of a measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as root_dir:
        makers = {"sac": sac, "ppo": ppo, "pool": lambda: pool(root_dir), "thread": lambda: thread(root_dir)}
        for name in arguments.cases.split(","):
            rounds = list(rounds_of(makers[name](), arguments.rounds, arguments.seconds))
            cost, error = cost_percent(rounds)
            quickest = cost_of_quickest_percent(rounds)
            without = statistics.median(taken[False] for taken in rounds)
            verdict = "less than" if quickest < AIM_PERCENT else "NOT less than"
            print(f"{name}: {cost:+.2f} % (error {error:.2f}) of {without * 1e6:.0f} us; of the quickest "
                  f"{quickest:+.2f} %, {verdict} {AIM_PERCENT:g} %", flush=True)


if __name__ == "__main__":
    main()
