"""Calls functions that gin-config configures, for bench_config.py. See _server.py."""

import _server
import gin
from _calls import rate


@gin.configurable
def plain(a, b=1, c=2, d=3, e=4, f=5):
    return a


@gin.configurable
def filled(a, b=1, c=2, d=3, e=4, f=5):
    return a


CALLS = {
    "function(1)": lambda: plain(1),
    "function(1, b=2, d=3)": lambda: plain(1, b=2, d=3),
    "function(1), 2 values set": lambda: filled(1),
    "function(1, b=2), 2 values set": lambda: filled(1, b=2),
}


def open_case(candidate: str, case: str) -> _server.Opened:
    """Return how to measure a call; raises KeyError for those that are not measured.

    Args:
        candidate: ``"gin"``.
        case: one of CALLS.
    """
    gin.clear_config()
    gin.bind_parameter("filled.c", 7)
    gin.bind_parameter("filled.e", 8)
    return rate(CALLS[case]), lambda: None, ""


if __name__ == "__main__":
    _server.serve(open_case)
