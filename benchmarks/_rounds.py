"""Candidates that take turns, round after round, and what is told of them: medians, spread, ratios, a table."""

import argparse
import contextlib
import json
import os
import statistics
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from benchmarks import _peers, _report, _servers


def add_arguments(parser: argparse.ArgumentParser, rounds: int, seconds: float) -> None:
    """Add the arguments that all benchmarks with peers have.

    Args:
        parser: gets them.
        rounds: their usual number.
        seconds: the usual length of a measurement.
    """
    parser.add_argument("--with-peers", action="store_true", help="measure the peers that are installed, too")
    parser.add_argument("--peers", metavar="DIR", help="peers have their environments at DIR/sb3, DIR/sbx, ...")
    parser.add_argument("--rounds", type=int, default=rounds, help="measurements of each candidate in each case")
    parser.add_argument("--seconds", type=float, default=seconds, help="length of a measurement")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds, for a first look")
    parser.add_argument("--json", metavar="FILE", help="write the results there")


def find_servers(args: argparse.Namespace, script: str, *candidates: str, has_alf: Sequence[str] = (),
                 threads: int = 1) -> "tuple[_servers.Peers, List[str]]":
    """Return the peers that are asked for and installed, and a line for each that is not.

    Args:
        args: see :func:`add_arguments`.
        script: of ``peers``, that they run.
        candidates: ``NAME`` or ``NAME@PEER``: the candidate's name, and where it runs if that has another.
        has_alf: names of candidates that import this checkout.
        threads: of their numeric libraries.
    """
    if not (args.with_peers or args.peers):
        return _servers.Peers([]), []
    places = {name: place or name for name, _, place in (text.partition("@") for text in candidates)}
    found, left_out = _peers.find(args.peers, list(dict.fromkeys(places.values())))
    return _servers.Peers([
        {"name": name, "python": found[place].python, "script": script, "has_alf": name in has_alf,
         "threads": threads} for name, place in places.items() if place in found]), left_out


def measure(case: str, local: Mapping[str, Callable[[float], float]], peers: _servers.Peers, rounds: int,
            seconds: float) -> Dict[str, List[float]]:
    """Return all figures of the candidates of a case; in each round each of them is measured once, in turn.

    A first round warms up and does not count.

    Args:
        case: what is measured.
        local: by candidate, what measures in this process for so many seconds.
        peers: candidates in other processes.
        rounds: that count.
        seconds: of each measurement.
    """
    servers = peers.open(case)
    functions: Dict[str, Callable[[float], float]] = {**local}
    functions.update({name: server.measure for name, server in servers.items()})
    figures: Dict[str, List[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name in list(functions):
            try:
                figure = functions[name](seconds if number else min(seconds, 0.1))
            except _servers.ServerError as error:
                peers.note_failure(case, name, error)
                del functions[name], figures[name], servers[name]
                continue
            if number:
                figures[name].append(figure)
    for name, server in servers.items():
        try:
            server.shut()
        except _servers.ServerError as error:
            peers.note_failure(case, name, error)
    return figures


def measure_alive(case: str, make: Callable[[str], Any], names: Sequence[str], peers: _servers.Peers, rounds: int,
                  seconds: float) -> Dict[str, List[float]]:
    """Return all figures of a case whose candidates are alive together in this process; closes them.

    Args:
        case: what is measured.
        make: returns the candidate of a name, with ``measure(seconds)``, ``close()`` and a ``note`` that is printed if
            there is one. It raises LookupError if the case has no such candidate.
        names: of candidates.
        peers: candidates in other processes.
        rounds: measurements of each.
        seconds: of each measurement.
    """
    candidates = {}
    for name in names:
        with contextlib.suppress(LookupError):
            candidates[name] = make(name)
    figures = measure(case, {name: candidate.measure for name, candidate in candidates.items()}, peers, rounds, seconds)
    for candidate in candidates.values():
        if candidate.note:
            print(f"    {candidate.note}")
        candidate.close()
    return figures


def summarize(case: str, unit: str, figures: Mapping[str, Sequence[float]], reference: str) -> List[Dict[str, Any]]:
    """Return a row for each candidate: median, spread, and how many times as fast as a reference it is.

    The ratio is the median over rounds of those within a round.

    Args:
        case: what was measured.
        unit: of the figures; what ends with ``/s`` is a speed, anything else a time.
        figures: see :func:`measure`.
        reference: a candidate; without it, there are no ratios.
    """
    rows = []
    for name, values in figures.items():
        ratio: Optional[float] = None
        if reference in figures:
            ratios = [a / b for a, b in zip(values, figures[reference])]
            ratio = statistics.median(r if unit.endswith("/s") else 1 / r for r in ratios)
        rows.append({"case": case, "candidate": name, "unit": unit, "median": statistics.median(values),
                     "lowest": min(values), "highest": max(values), "reference": reference, "ratio": ratio,
                     "values": list(values)})
    return rows


def shown(value: float) -> str:
    """Return a number with three digits, and k or M where it is large."""
    for limit, letter in ((1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e6 if letter == 'M' else 1e3):.3g}{letter}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of one case as a line of the console.

    Args:
        rows: see :func:`summarize`.
    """
    parts = [f"{row['candidate']} {shown(row['median'])}" + (f" ({row['ratio']:.2f}x)" if row["ratio"] else "")
             for row in rows]
    return f"{rows[0]['case']}: " + ", ".join(parts) + f" {rows[0]['unit']}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table of rows.

    Args:
        rows: see :func:`summarize`.
    """
    cells = [[row["case"], row["candidate"], f"{shown(row['median'])} {row['unit']}",
              f"{shown(row['lowest'])} to {shown(row['highest'])}",
              "-" if row["ratio"] is None else f"{row['ratio']:.2f} x {row['reference']}"] for row in rows]
    return _report.markdown_table(("case", "candidate", "median", "lowest to highest", "as fast as"), cells)


def write(args: argparse.Namespace, rows: Sequence[Mapping[str, Any]], peers: _servers.Peers,
          left_out: Sequence[str], **more: Any) -> None:
    """Tell who is missing and why, and write all as JSON if asked.

    Args:
        args: see :func:`add_arguments`.
        rows: see :func:`summarize`.
        peers: that were measured.
        left_out: see :func:`find_servers`.
        more: further results.
    """
    notes = [*left_out, *(f"{what} has no figure: {why}" for what, why in peers.failures.items())]
    print("\n".join(notes), end="\n" if notes else "")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"rows": list(rows), "notes": notes, "load_average": os.getloadavg(), **more}, file, indent=1)
