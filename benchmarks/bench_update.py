"""Microseconds of one update by us, by a bare PyTorch loop and by peers: networks, batches and losses the same.

Usage: python -m benchmarks.bench_update [--cases ppo,sac,dqn] [--rounds 7] [--with-peers | --device cuda] [--json FILE]

- ppo: CartPole, 2x64 tanh actor and critic, one of 20 epochs over a batch of 256; see bench_ppo_update.py
- sac: HalfCheetah, 2x256 ReLU, batch of 256; see bench_sac_update.py
- dqn: CartPole, 2x256, batch of 64; see bench_dqn_update.py

Each candidate of a case is a process of its own; they are alive together and take turns. `bare` is the same work
written out in eager PyTorch with fused Adam, the floor; `bare compiled` has its loss compiled. Peers make theirs by the
`train` of Stable-Baselines3 and sbx, and by the loss modules of TorchRL. Sampling from a buffer is part of it, but in
our SAC and the bare one, where it would take 1 %.
"""

import argparse
import os
import sys

from benchmarks import _rounds, _servers

CASES = ("ppo", "sac", "dqn")
OURS = ("alf", "alf compiled", "alf cuda graph", "bare", "bare compiled")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--candidates", default=",".join(OURS), help="of this checkout")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of this checkout's candidates")
    _rounds.add_arguments(parser, rounds=7, seconds=0.5)
    args = parser.parse_args()
    if args.device == "cuda" and args.with_peers:
        parser.error("--device cuda: peers are measured on the CPU. Leave --with-peers away.")
    os.environ["ALF_BENCH_DEVICE"] = args.device
    rounds = min(args.rounds, 3) if args.quick else args.rounds
    found, left_out = _rounds.find_servers(args, "serve_update.py", "sb3", "sbx", "torchrl")
    own = [{"name": name, "python": sys.executable, "script": "serve_update.py", "has_alf": True}
           for name in args.candidates.split(",")]
    rows, failures = [], {}
    for case in args.cases.split(","):
        with _servers.Peers([*own, *found.arguments]) as candidates:  # new processes: what a case configures is gone
            figures = _rounds.measure(case, {}, candidates, rounds, args.seconds)
            rows += _rounds.summarize(case, "us", figures, "bare")
            if figures:
                print(_rounds.told(rows[-len(figures):]), flush=True)
            failures.update(candidates.failures)
    found.failures.update(failures)
    _rounds.write(args, rows, found, left_out)


if __name__ == "__main__":
    main()
