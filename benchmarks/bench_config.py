"""What a configured call costs over the bare function: nothing configured, something configured.

Run: `python benchmarks/bench_config.py [--calls 50000] [--rounds 15]`. Bare and configured calls alternate
round by round and the medians are compared, so that a busy machine slows both. Prints one line per case, then
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import timeit

from alf.config_util import config, configurable, get_all_config_names

TARGET_US = {"nothing configured": 1.5, "configured": 3.0}


def function(a, b=1, c=2, d=3, e=4, f=5):
    return a


class Layer:
    def __init__(self, size, activation=None, bias=True, gain=1.0, name="Layer"):
        self.size = size

    def forward(self, x, scale=1.0, shift=0.0):
        return x


class ConfiguredLayer:
    def __init__(self, size, activation=None, bias=True, gain=1.0, name="Layer"):
        self.size = size

    @configurable
    def forward(self, x, scale=1.0, shift=0.0):
        return x


class DerivedBare(Layer):
    pass


class DerivedConfigured(Layer):
    pass


def cases():
    """Return (name, kind, bare call, configured call)."""
    plain = configurable("bench.plain")(function)
    filled = configurable("bench.filled")(function)
    config("bench.filled", c=7, e=8)
    layer = configurable("bench.Layer")(ConfiguredLayer)
    derived = configurable("bench.Derived")(DerivedConfigured)
    bare_object, object_ = Layer(1), layer(1)
    none, some = TARGET_US
    yield "function(1)", none, lambda: function(1), lambda: plain(1)
    yield "function(1, b=2, d=3)", none, lambda: function(1, b=2, d=3), lambda: plain(1, b=2, d=3)
    yield "object.method(1)", none, lambda: bare_object.forward(1), lambda: object_.forward(1)
    yield "Class(1)", none, lambda: Layer(1), lambda: layer(1)
    yield "Derived(1), no __init__", none, lambda: DerivedBare(1), lambda: derived(1)
    yield "function(1), 2 values set", some, lambda: function(1), lambda: filled(1)
    yield "function(1, b=2), 2 values set", some, lambda: function(1, b=2), lambda: filled(1, b=2)


def measure(bare, configured, calls: int, rounds: int) -> tuple[float, float]:
    """Return median microseconds of a bare and of a configured call."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for fn, column in zip((bare, configured), times, strict=True):
            column.append(timeit.timeit(fn, number=calls) / calls * 1e6)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    rows = []
    for name, kind, bare, configured in cases():
        bare_us, configured_us = measure(bare, configured, args.calls, args.rounds)
        added = configured_us - bare_us
        rows.append(
            {
                "case": name,
                "kind": kind,
                "bare_us": round(bare_us, 3),
                "configured_us": round(configured_us, 3),
                "added_us": round(added, 3),
                "target_us": TARGET_US[kind],
            }
        )
        print(f"{name:34s} bare {bare_us:6.3f} us  configured {configured_us:6.3f} us  added {added:6.3f} us")
    register_us = timeit.timeit(lambda: configurable("bench.again")(function), number=1000) / 1000 * 1e6
    print(f"registering a function: {register_us:.1f} us; {len(get_all_config_names())} addresses")
    print(
        json.dumps(
            {
                "command": " ".join(sys.argv),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "python": platform.python_version(),
                "calls": args.calls,
                "rounds": args.rounds,
                "register_us": round(register_us, 2),
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
