"""Microseconds of one policy step by us, by bare PyTorch and by Stable-Baselines3.

Usage: python -m benchmarks.bench_policy [--cases "discrete 8,continuous 128"] [--rounds 7] [--with-peers] [--json FILE]

A step takes observations of 17 numbers from 8 or 128 environments, and gives actions, their log probabilities and
values, by an actor and a value network of 2x64 tanh units, without gradients. `alf` is the `rollout_step` of
PPOAlgorithm, `sb3` the policy with which its PPO collects; `bare` is the same written out in PyTorch: the floor, which
has no distributions, time steps or infos. Each candidate is a process of its own; they take turns.
"""

import argparse
import sys

from benchmarks import _rounds, _servers

CASES = ("discrete 8", "discrete 128", "continuous 8", "continuous 128")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    _rounds.add_arguments(parser, rounds=7, seconds=0.5)
    args = parser.parse_args()
    rounds = min(args.rounds, 3) if args.quick else args.rounds
    found, left_out = _rounds.find_servers(args, "serve_policy.py", "sb3")
    own = [{"name": name, "python": sys.executable, "script": "serve_policy.py", "has_alf": True}
           for name in ("alf", "bare")]
    rows = []
    with _servers.Peers([*own, *found.arguments]) as candidates:
        for case in args.cases.split(","):
            figures = _rounds.measure(case, {}, candidates, rounds, args.seconds)
            rows += _rounds.summarize(case, "us", figures, "bare")
            if figures:
                print(_rounds.told(rows[-len(figures):]), flush=True)
        _rounds.write(args, rows, candidates, left_out)


if __name__ == "__main__":
    main()
