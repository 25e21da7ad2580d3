"""What the benchmarks of replay buffers share: sizes, and how a job is timed. Needs nothing but Python."""

import time
from typing import Callable

NUM_ENVS, OBSERVATION, ACTION, BATCH = 8, 17, 6, 256
UNITS = {"store": "transitions/s", "sample": "us a batch", "sample and update": "us a batch"}


def rate(function: Callable[[], object], job: str) -> Callable[[float], float]:
    """Return what measures a job for so many seconds, in the unit of the job.

    Args:
        function: does the job once.
        job: one of UNITS.
    """
    def measure(seconds: float) -> float:
        calls, began = 0, time.perf_counter()
        while True:
            for _ in range(10):
                function()
            calls += 10
            passed = time.perf_counter() - began
            if passed >= seconds:
                return NUM_ENVS * calls / passed if job == "store" else 1e6 * passed / calls

    return measure
