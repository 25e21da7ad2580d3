"""How a call is timed. Needs nothing but Python."""

import timeit
from typing import Callable


def rate(call: Callable[[], object]) -> Callable[[float], float]:
    """Return what measures microseconds of a call for about so many seconds.

    Args:
        call: the call, as a function without arguments.
    """
    def measure(seconds: float) -> float:
        spent, calls = 0.0, 0
        while spent < seconds:
            spent += timeit.timeit(call, number=1000)
            calls += 1000
        return 1e6 * spent / calls

    return measure
