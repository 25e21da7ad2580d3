"""Kills trainers and workers, damages checkpoints, trains for hours; what was lost or left behind. The same of a peer.

Usage: python -m benchmarks.run faults -- [--kills 300] [--damages 200] [--operations 10000] [--hours 2] [--sb3 PYTHON]
    [--folder DIR]

A kill is SIGKILL of the trainer at a random moment; afterwards the newest checkpoint must be whole and must be what
the next start resumes from. A damage is a bit flipped, a file cut, emptied or removed in the newest checkpoint; it must
be told, and the one before be used. Operations are steps, resets, calls, kills and more of pools of environments, in
random orders, as tests make them shortly; each time step must be that of environments stepped one by one. Pools are
asked what they do when an environment fails, ours beside Gymnasium's and that of Stable-Baselines3. The soak trains
with evaluation in another process, summaries and videos, and fits lines through what it holds. 0 leaves a part out. The
exit code is 9 if anything was lost or left behind. The line that begins with a brace has all raw values.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from typing import Any, Dict, List

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import _interleavings, _kills, _soak
from benchmarks.run import FAULTS_FOUND

_PEERS = pathlib.Path(__file__).resolve().parent / "peers"
_PEER_SCRIPT = _PEERS / "faults_sb3.py"
_POOLS_SCRIPT = _PEERS / "faults_pools.py"
_MOST_MB_PER_HOUR = 1.0  # that a soak may grow by, if it was long enough to tell


def tell_kills(rows: List[Dict[str, Any]]) -> bool:
    """Print what the kills did, and return whether nothing was lost or left behind.

    Args:
        rows: see ``_kills.kill``.
    """
    seconds = sorted(row["recovery_seconds"] for row in rows if row["recovery_seconds"] is not None)
    bad = [row for row in rows if row["problems"]]
    orphan_seconds = [row["orphan_seconds"] for row in rows if row["orphan_seconds"] is not None]
    starting = sum(row["while"] == "starting" for row in rows)
    print(f"kills, newest checkpoint whole afterwards and resumed from: {len(rows) - len(bad)} of {len(rows)} "
          f"({starting} of them while starting)")
    if seconds:
        print(f"kills, seconds from start, imports apart, to the first new checkpoint: median "
              f"{statistics.median(seconds):.2f}, longest {seconds[-1]:.2f}")
    print(f"kills, processes left after {_kills._ORPHAN_SECONDS:g} s: {sum(row['orphans'] for row in rows)}")
    if orphan_seconds:
        print(f"kills, seconds until the last process was gone: longest {max(orphan_seconds):.2f}")
    print(f"kills, names left in shared memory: {sum(row['shared_names'] for row in rows)}")
    print(f"kills, bytes of good checkpoints lost: {sum(row['lost_bytes'] for row in rows)}")
    for row in bad[:10]:
        print(f"PROBLEM ({row['run']}, {row['while']}): {'; '.join(row['problems'])}")
    return not bad and not any(row["orphans"] or row["shared_names"] or row["lost_bytes"] for row in rows)


def tell_damages(rows: List[Dict[str, Any]]) -> bool:
    """Print what damages did, and return whether all were detected.

    Args:
        rows: see ``_kills.damage_checkpoints``.
    """
    detected = sum(row["detected"] for row in rows)
    print(f"damages detected, and the checkpoint before used: {detected} of {len(rows)}")
    for row in rows:
        if not row["detected"]:
            print(f"PROBLEM (not detected): {row['damage']}")
    return detected == len(rows)


def tell_operations(rows: List[Dict[str, Any]]) -> bool:
    """Print what random orders of operations did, and return whether none gave anything else than one by one.

    Args:
        rows: see ``_interleavings.interleave``.
    """
    for row in rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(row["done"].items()))
        print(f"operations of a pool ({row['pool']}): {sum(row['done'].values())} in {row['seconds']:.0f} s, all time "
              f"steps {'those of environments stepped one by one' if row['problem'] is None else 'NOT as expected'}")
        print(f"operations of a pool ({row['pool']}), by kind: {kinds}")
        if row["problem"] is not None:
            print(f"PROBLEM ({row['pool']}): {row['problem']}")
    return all(row["problem"] is None for row in rows)


def tell_soak(report: Dict[str, Any]) -> bool:
    """Print what a soak found, and return whether it ended as asked and with memory that does not grow.

    Args:
        report: see ``_soak.soak``.
    """
    print(f"soak: {report['seconds'] / 3600:.2f} hours, {report['episodes']} episodes, {report['evaluations']} "
          f"evaluations, exit code {report['exit_code']}")
    for kind, slope in report["slopes_per_hour"].items():
        print(f"soak, {kind}: {report['first'][kind]:.1f} -> {report['last'][kind]:.1f}, slope {slope:+.2f} per hour")
    flat = report["seconds"] < 3600 or report["slopes_per_hour"]["resident_mb"] < _MOST_MB_PER_HOUR
    if not flat:
        print(f"PROBLEM: resident memory grows by {_MOST_MB_PER_HOUR:g} MiB an hour, or more")
    return flat and report["exit_code"] == 130


def _answer(script: pathlib.Path, python: str, *arguments: str) -> Dict[str, Any]:
    """Return what a script says in its last line, in an environment that may be a peer's."""
    path = os.pathsep.join([str(pathlib.Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([python, str(script), *arguments], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise RuntimeError(f"{script.name} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def tell_pools(pools: Dict[str, str]) -> Dict[str, Any]:
    """Ask pools what they do when an environment fails, print it, and return it.

    Args:
        pools: interpreters that have them, by name.
    """
    found = {name: _answer(_POOLS_SCRIPT, python, name) for name, python in pools.items()}
    for name, answers in found.items():
        for fault, answer in answers.items():
            print(f"pool of {name}, {fault}: " + ", ".join(f"{key} {value}" for key, value in answer.items()))
    return found


def tell_peer(python: str, num_kills: int, num_damages: int) -> Dict[str, Any]:
    """Ask the same of Stable-Baselines3, print it, and return it.

    Args:
        python: an interpreter that has it.
        num_kills: while it saves.
        num_damages: of what it saved.
    """
    found = _answer(_PEER_SCRIPT, python, str(num_kills), str(num_damages))
    print(f"sb3, killed while saving, the file can be loaded afterwards: {found['kills_survived']} of {found['kills']}")
    print(f"sb3, damages detected: {found['damages_detected']} of {found['damages']}")
    print(f"sb3, full disk while saving, the file before is kept: {'yes' if found['full_disk_survived'] else 'no'}")
    print(f"sb3, code in a checkpoint is run when it is loaded: {'yes' if found['code_ran'] else 'no'}")
    return found


def main() -> int:
    """Do what the command line asks, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--damages", type=int, default=200)
    parser.add_argument("--operations", type=int, default=10_000, help="of pools, in C++ and in Python, half of each")
    parser.add_argument("--pools", type=int, default=1, help="ask pools what they do when an environment fails")
    parser.add_argument("--hours", type=float, default=0.0, help="of the soak")
    parser.add_argument("--sb3", default=os.environ.get("ALF_BENCH_SB3"), help="interpreter with Stable-Baselines3")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="for the runs; by default a temporary one that is removed")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.folder or tempfile.mkdtemp(prefix="alf-faults-"))
    raw: Dict[str, Any] = {}
    good = []
    try:
        if arguments.kills:
            raw["kills"] = []
            for row in _kills.kill(arguments.kills, folder, arguments.seed):
                raw["kills"].append(row)
                if len(raw["kills"]) % 10 == 0:
                    print(f"{len(raw['kills'])} kills, {sum(bool(r['problems']) for r in raw['kills'])} with problems",
                          file=sys.stderr, flush=True)
            good.append(tell_kills(raw["kills"]))
        if arguments.damages:
            if not arguments.kills:
                list(_kills.kill(4, folder, arguments.seed))  # something to damage
            # The run with a replay buffer.
            raw["damages"] = list(_kills.damage_checkpoints(arguments.damages, folder / "run1", folder, arguments.seed))
            good.append(tell_damages(raw["damages"]))
        if arguments.operations:
            raw["operations"] = list(_interleavings.interleave(arguments.operations, arguments.seed))
            good.append(tell_operations(raw["operations"]))
        if arguments.hours:
            raw["soak"] = _soak.soak(arguments.hours, folder / "soak")
            good.append(tell_soak(raw["soak"]))
        if arguments.pools:
            peers = {"gymnasium": arguments.sb3, "sb3": arguments.sb3} if arguments.sb3 else {}
            raw["pools"] = tell_pools({"alf": sys.executable, **peers})
        if arguments.sb3 and (arguments.kills or arguments.damages):
            raw["sb3"] = tell_peer(arguments.sb3, max(10, arguments.kills // 10), arguments.damages or 50)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(raw))
    return 0 if all(good) else FAULTS_FOUND


if __name__ == "__main__":
    sys.exit(main())
