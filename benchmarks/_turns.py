"""Updates that take turns in one process, and where the time of one of them goes."""

import cProfile
import pstats
import statistics
import time
from typing import Callable, Mapping


def take_turns(updates: Mapping[str, Callable[[], None]], num_updates: int, repeats: int) -> None:
    """Print the microseconds of an update of each, and how many times those of ``"bare"`` they are.

    Args:
        updates: by name, functions that make ``num_updates`` updates.
        num_updates: of a call.
        repeats: calls that count; one before them warms up, and how long it takes is printed.
    """
    times = {name: [] for name in updates}
    for repeat in range(repeats + 1):
        for name, update in updates.items():
            began = time.perf_counter()
            update()
            seconds = time.perf_counter() - began
            if repeat:
                times[name].append(seconds / num_updates * 1e6)
            else:
                print(f"{name}: first round {seconds:.1f} s", flush=True)
    for name, each in times.items():
        ratio = statistics.median(each) / statistics.median(times["bare"])
        print(f"{name}: {statistics.median(each):.0f} us an update (best {min(each):.0f}, worst {max(each):.0f}), "
              f"{ratio:.2f} x bare, of the best {min(each) / min(times['bare']):.2f}")


def show_profile(update: Callable[[], None], num_calls: int) -> None:
    """Print the functions of Python in which calls spend most time; one call before them warms up."""
    update()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(num_calls):
        update()
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(45)
