"""What the job scripts of peers share: their command line, and the marks they write. Needs nothing but Python.

A job script is run as ``python SCRIPT JOB --seed S --threads N --warm_up_steps W --total_steps T [--threshold R
--window_episodes E] --out FILE``. It trains, and writes to FILE a JSON list of *marks*, objects with

- ``time``: seconds since the epoch
- ``env_steps``, ``updates``: environment steps and optimizer steps of the main loss made until then
- ``return``: with a threshold, the mean return of the last E episodes

one when W steps were made and one at the end: after T steps, or when the return is at least R.
"""

import argparse
import collections
import json
import os
import time


def parse_arguments(jobs, *options: str) -> argparse.Namespace:
    """Return the arguments of a job script, after giving the numeric libraries their number of threads.

    Args:
        jobs: names of the jobs that the script knows.
        options: names of further ones that it needs.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=sorted(jobs))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--warm_up_steps", type=int, required=True)
    parser.add_argument("--total_steps", type=int, required=True)
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--window_episodes", type=int, default=10)
    parser.add_argument("--out", required=True)
    for name in options:
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    return arguments


class Marks:
    """The marks of one run.

    Args:
        arguments: see :func:`parse_arguments`.
    """

    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        self._returns = collections.deque(maxlen=arguments.window_episodes)
        self._marks = []

    def episode(self, episode_return: float) -> None:
        """Count an episode that ended."""
        self._returns.append(float(episode_return))

    def step(self, env_steps: int, updates: int) -> bool:
        """Return whether the run is over; to be called after each step of the environments.

        Args:
            env_steps: environment steps made until now.
            updates: optimizer steps made until now.
        """
        arguments = self._arguments
        mean_return = None
        if arguments.threshold is not None and len(self._returns) == arguments.window_episodes:
            mean_return = sum(self._returns) / len(self._returns)
        over = env_steps >= arguments.total_steps or (mean_return is not None and mean_return >= arguments.threshold)
        if over or (not self._marks and env_steps >= arguments.warm_up_steps):
            mark = {"time": time.time(), "env_steps": int(env_steps), "updates": int(updates)}
            if mean_return is not None:
                mark["return"] = mean_return
            self._marks.append(mark)
        return over

    def write(self) -> None:
        """Write the marks to the file of the command line."""
        with open(self._arguments.out, "w", encoding="utf-8") as file:
            json.dump(self._marks, file)
