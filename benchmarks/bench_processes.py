"""One training in 1, 2, ... processes (``train --distributed multi-cpu``): environment steps per second.

Usage: python -m benchmarks.bench_processes [--processes 1 2] [--rounds 3] [--cases ppo_halfcheetah,sac_halfcheetah]

- ppo_halfcheetah: 8 environments, 256 steps each, 10 epochs of mini batches of 64, 2x64 networks: small updates
- ppo_pong: 8 games of ALE's native batch, 128 steps each, 4 epochs of mini batches of 256 images: large updates
- sac_halfcheetah: 2 environments, an update of 256 for every two steps, with 2x256 networks

Counts of processes take turns in each round. Steps are counted from a checkpoint after some iterations, when everything
is built, to the last one, by the clock of the trainer, which leaves the saving of checkpoints out. Each process has one
thread, so one process has one core; a line with ``2 threads`` gives two to one process. Medians over rounds.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Dict, List

CASES: Dict[str, List[str]] = {
    "ppo_halfcheetah": [
        "ppo_halfcheetah_conf.py", "TrainerConfig.num_iterations=20", "TrainerConfig.num_checkpoints=5",
        "create_environment.num_workers=0",
    ],
    "ppo_pong": [
        "ppo_pong_conf.py", "TrainerConfig.num_iterations=4", "TrainerConfig.num_checkpoints=4",
    ],
    "sac_halfcheetah": [
        "benchmarks/mujoco/sac_halfcheetah_conf.py", "TrainerConfig.num_iterations=3000",
        "TrainerConfig.num_checkpoints=3", "TrainerConfig.initial_collect_steps=1000",
        "create_environment.num_parallel_environments=2", "create_environment.num_workers=0",
    ],
}


def progress_at(root_dir: str, checkpoint: int) -> dict:
    """Return the counters of a checkpoint, the first being 0 and the last -1."""
    folders = sorted(pathlib.Path(root_dir, "train", "algorithm").glob("ckpt-*"),
                     key=lambda folder: int(folder.name.removeprefix("ckpt-")))
    return json.loads((folders[checkpoint] / "trainer_progress.json").read_text())


def steps_per_second(case: str, num_processes: int, num_threads: int) -> float:
    """Train once, and return the environment steps of all processes per second."""
    conf, *params = CASES[case]
    with tempfile.TemporaryDirectory(prefix="alf-bench-") as root_dir:
        command = [sys.executable, "-m", "alf.bin.train", "--conf", conf, "--root_dir", root_dir, "--num_threads",
                   str(num_threads)]
        if num_processes > 1:
            command += ["--distributed", "multi-cpu", "--num_processes", str(num_processes)]
        for param in (*params, "TrainerConfig.random_seed=1", "TrainerConfig.evaluate=False"):
            command += ["--conf_param", param]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
        first, last = progress_at(root_dir, 0), progress_at(root_dir, -1)
    return (last["env_steps"] - first["env_steps"]) / (last["seconds"] - first["seconds"])


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    arguments = parser.parse_args()
    # The most processes stand beside one with as many threads.
    ways = [(number, 1) for number in arguments.processes] + [(1, max(arguments.processes))]
    for case in arguments.cases.split(","):
        found: Dict[tuple, List[float]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way in ways:
                found[way].append(steps_per_second(case, *way))
        alone = statistics.median(found[1, 1]) if (1, 1) in found else float("nan")
        for (num_processes, num_threads), rates in found.items():
            median = statistics.median(rates)
            threads = f", {num_threads} threads" if num_threads > 1 else ""
            print(f"{case}, {num_processes} processes{threads}: {median:,.0f} environment steps/s, "
                  f"{median / alone:.2f} x one process (rounds: {', '.join(f'{rate:,.0f}' for rate in rates)})",
                  flush=True)


if __name__ == "__main__":
    main()
