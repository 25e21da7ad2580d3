"""Microseconds of a configured call: the plain function, ours, and gin-config's.

Usage: python -m benchmarks.bench_config [--rounds 15] [--seconds 0.02] [--with-peers] [--json FILE]

Cases with nothing configured and with values set for two arguments. All take turns round by round, so that a busy
machine slows all. What ours adds to a call is at most TARGET_US.
"""

from __future__ import annotations

import argparse
import timeit

from alf.config_util import config, configurable, get_all_config_names
from benchmarks import _rounds
from benchmarks.peers._calls import rate

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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _rounds.add_arguments(parser, rounds=15, seconds=0.02)
    args = parser.parse_args()
    rounds = min(args.rounds, 7) if args.quick else args.rounds
    peers, left_out = _rounds.find_servers(args, "serve_config.py", "gin")
    rows, added = [], {}
    with peers:
        for case, kind, bare, configured in cases():
            figures = _rounds.measure(case, {"plain": rate(bare), "alf": rate(configured)}, peers, rounds, args.seconds)
            rows += _rounds.summarize(case, "us", figures, "plain")
            medians = {row["candidate"]: row["median"] for row in rows if row["case"] == case}
            added[case] = medians["alf"] - medians["plain"]
            print(_rounds.told(rows[-len(figures):]), flush=True)
            print(f"    ours adds {added[case]:.2f} us; {kind}: at most {TARGET_US[kind]}")
        peers.failures.clear()  # gin has no methods and classes here
    register_us = timeit.timeit(lambda: configurable("bench.again")(function), number=1000) / 1000 * 1e6
    print(f"registering a function: {register_us:.1f} us; {len(get_all_config_names())} addresses")
    _rounds.write(args, rows, peers, left_out, added_us=added, register_us=register_us)


if __name__ == "__main__":
    main()
