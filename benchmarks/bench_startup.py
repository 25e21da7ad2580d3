"""Seconds from the start of a process: imports, --help, and the first iteration of a training.

Usage: python -m benchmarks.bench_startup [--cases import,help] [--rounds 5] [--with-peers] [--json FILE]

- import: `import alf`, beside `import torch` (`bare`, the floor of all that train) and the packages of peers
- help: `python -m alf.bin.train --help`
- ppo: until the first update of PPO on CartPole-v1 is made: 8 environments x 32 steps, 20 epochs
- sac: until the first updates of SAC on Pendulum-v1 are made, after 100 steps

Each figure is a fresh process, from its start to its end; candidates take turns, and a first round, which reads files
from disk, does not count. Wall-clock seconds are what a person waits; CPU seconds, with those of its children, are what
remains comparable on a machine that does something else.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Callable, Dict, List, Tuple

from benchmarks import _peers, _rounds, _servers

HERE = pathlib.Path(__file__).resolve().parent
CASES = ("import", "help", "ppo", "sac")
PEERS = ("sb3", "sbx", "torchrl")
_MODULES = {"sb3": "stable_baselines3", "sbx": "sbx", "torchrl": "torchrl"}
_JOBS = {"ppo": "ppo_cart_pole", "sac": "sac_pendulum"}
_STEPS = {"ppo": 264, "sac": 104}  # a step of 8 environments, or some steps, after what is to be done
_TRAINS = {"sb3": ("run_sb3.py", ), "sbx": ("run_sb3.py", "--jax"), "torchrl": ("run_torchrl.py", )}

Command = Callable[[str], List[str]]  # of an empty directory


def our_commands(case: str) -> Dict[str, Command]:
    """Return the commands of this checkout by candidate.

    Args:
        case: one of CASES.
    """
    python = sys.executable
    if case == "import":
        return {"alf": lambda _: [python, "-c", "import alf"], "bare": lambda _: [python, "-c", "import torch"]}
    if case == "help":
        return {"alf": lambda _: [python, "-m", "alf.bin.train", "--help"]}
    settings = {"num_iterations": 1} if case == "ppo" else {"num_iterations": 104, "initial_collect_steps": 100}
    params = [word for name, value in {**settings, "random_seed": 1}.items()
              for word in ("--conf_param", f"TrainerConfig.{name}={value}")]
    conf = HERE / "confs" / f"{_JOBS[case]}_conf.py"
    return {
        "alf": lambda folder: [python, "-m", "alf.bin.train", "--conf", str(conf), "--root_dir", f"{folder}/run",
                               *params],
        "bare": lambda _: [python, "-c", "import torch"],
    }


def peer_command(name: str, python: str, case: str) -> Command:
    """Return the command of a peer.

    Args:
        name: one of PEERS.
        python: its interpreter.
        case: one of CASES but "help".
    """
    if case == "import":
        return lambda _: [python, "-c", f"import {_MODULES[name]}"]
    script, *options = _TRAINS[name]
    return lambda folder: [
        python, str(HERE / "peers" / script), _JOBS[case], "--seed", "1", "--threads", "1", "--warm_up_steps",
        str(_STEPS[case]), "--total_steps", str(_STEPS[case]), "--out", f"{folder}/marks.json", *options]


def run_once(command: Command) -> Tuple[float, float]:
    """Return the wall-clock seconds and the CPU seconds of a process from its start to its end.

    Args:
        command: given an empty directory.
    Raises:
        _servers.ServerError: if it fails, with its last line.
    """
    folder = tempfile.mkdtemp(prefix="alf-bench-startup-")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
                   "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or everything is compiled each time
    try:
        with tempfile.TemporaryFile() as told:
            began = time.monotonic()
            process = subprocess.Popen(command(folder), stdin=subprocess.DEVNULL, stdout=told, stderr=told, cwd=folder,
                                       env=environment)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                told.seek(0)
                lines = told.read().decode(errors="replace").strip().splitlines() or ["it printed nothing"]
                raise _servers.ServerError(lines[-1][:200])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return wall, usage.ru_utime + usage.ru_stime


def measure(commands: Dict[str, Command], rounds: int) -> Tuple[Dict[str, List[Tuple[float, float]]], Dict[str, str]]:
    """Return the figures of candidates, which take turns, and why others have none.

    Args:
        commands: by candidate.
        rounds: that count.
    """
    figures, failures = {name: [] for name in commands}, {}
    for number in range(rounds + 1):
        for name in list(figures):
            try:
                figure = run_once(commands[name])
            except _servers.ServerError as error:
                failures[name] = str(error)
                del figures[name]
                continue
            if number:
                figures[name].append(figure)
    return figures, failures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    _rounds.add_arguments(parser, rounds=5, seconds=0.0)
    args = parser.parse_args()
    rounds = min(args.rounds, 2) if args.quick else args.rounds
    peers, left_out = _peers.find(args.peers, PEERS) if args.with_peers or args.peers else ({}, [])
    failed, rows = _servers.Peers([]), []
    cache = tempfile.TemporaryDirectory(prefix="alf-bench-startup-cache-")  # what is compiled in the first round
    os.environ.setdefault("PYTHONPYCACHEPREFIX", cache.name)
    for case in args.cases.split(","):
        commands = our_commands(case)
        if case != "help":
            commands.update({name: peer_command(name, peer.python, case) for name, peer in peers.items()
                             if not (name == "torchrl" and case == "sac")})  # it has no such job
        figures, failures = measure(commands, rounds)
        failed.failures.update({f"{case}, {name}": why for name, why in failures.items()})
        for index, kind in enumerate(("wall", "CPU")):
            values = {name: [figure[index] for figure in found] for name, found in figures.items()}
            made = _rounds.summarize(f"{case}, {kind}", "s", values, "bare")
            rows += made
            if made:
                print(_rounds.told(made), flush=True)
    cache.cleanup()
    _rounds.write(args, rows, failed, left_out)


if __name__ == "__main__":
    main()
