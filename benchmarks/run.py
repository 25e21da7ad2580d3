"""Runs a benchmark by name, and writes what it told as JSON and as a Markdown table.

    python -m benchmarks.run train --with-peers --peers DIR
    python -m benchmarks.run envs --with-peers --quick --out results -- --rounds 3
    python -m benchmarks.run all --with-peers --quick

``train`` is described in train.py. The others are scripts of this folder, which can be run alone; what follows ``--``
is for them. ``all`` runs those that compare with others, one after another, and ``train`` last.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import List, Sequence, Tuple

from benchmarks import _report, _rounds, train

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = {
    "envs": "bench_envs.py",
    "native_envs": "bench_native_envs.py",
    "config": "bench_config.py",
    "update": "bench_update.py",
    "update_floor": "bench_update_floor.py",
    "ppo_update": "bench_ppo_update.py",
    "sac_update": "bench_sac_update.py",
    "dqn_update": "bench_dqn_update.py",
    "replay": "bench_replay.py",
    "unroll": "bench_unroll.py",
    "policy": "bench_policy.py",
    "startup": "bench_startup.py",
    "faults": "bench_faults.py",
    "finite_guard": "bench_finite_guard.py",
    "processes": "bench_processes.py",
}
FAULTS_FOUND = 9  # exit code of a script that has measured all, and found something that must be mended
# Those that know peers and rounds, and give rows.
COMPARED = ("envs", "native_envs", "config", "update", "replay", "policy", "startup")
ALL = ("config", "replay", "native_envs", "update", "envs", "policy", "startup", "train")


def split_line(line: str) -> Tuple[str, str]:
    """Return what was measured and the figures, of a line that a script printed.

    Args:
        line: ``what: figures``, or without a colon ``what  figures``; else all of it is figures. A colon in
            parentheses does not count.
    """
    for separator in (": ", "  "):
        what, found, figures = line.strip().partition(separator)
        if found and figures.strip() and what.count("(") == what.count(")"):
            return what.strip(), " ".join(figures.split())
    return "", " ".join(line.split())


def run_script(name: str, rest: Sequence[str], out: str) -> int:
    """Run a script, show what it prints, write ``<out>/<name>.json`` and ``.md``, and return its exit code.

    Args:
        name: one of SCRIPTS.
        rest: its arguments.
        out: directory.
    """
    report = _report.begin(name, ["--out", out, *(["--", *rest] if rest else [])])
    with tempfile.TemporaryDirectory(prefix="alf-bench-") as folder:
        results = pathlib.Path(folder, "results.json")
        told = ["--json", str(results)] if name in COMPARED else []
        command = [sys.executable, str(HERE / SCRIPTS[name]), *rest, *told]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}
        lines: List[str] = []
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.strip():
                    lines.append(line.rstrip())
        if process.returncode not in (0, FAULTS_FOUND):
            print(f"error: {SCRIPTS[name]} ended with {process.returncode}; no report was written.", file=sys.stderr)
            return process.returncode
        report.update(script=SCRIPTS[name], arguments=list(rest), lines=lines)
        if name in COMPARED:
            report.update(json.loads(results.read_text(encoding="utf-8")))
    if name in COMPARED:
        body = "\n\n".join([_rounds.table(report["rows"]), "\n".join(f"- {note}" for note in report["notes"])])
    else:
        shown = [split_line(line) for line in lines if not line.startswith("{")]
        body = _report.markdown_table(("what", "measured"), shown)
    _report.write(out, report, body)
    return process.returncode


def run_all(arguments: argparse.Namespace) -> int:
    """Run every benchmark of ALL with the same options, and return 1 if one failed, else 0.

    Args:
        arguments: ``out``, ``with_peers``, ``peers`` and ``quick``.
    """
    peers = [*(["--with-peers"] if arguments.with_peers else []),
             *(["--peers", arguments.peers] if arguments.peers else [])]
    quick = ["--quick"] if arguments.quick else []
    codes = []
    for name in ALL:
        known = [*peers, *quick] if name in (*COMPARED, "train") else []
        print(f"==== {name}", flush=True)
        codes.append(main([name, "--out", arguments.out, *known]))
    return 1 if any(codes) else 0


def main(words: Sequence[str]) -> int:
    """Run the benchmark that the command line names, and return its exit code.

    Args:
        words: arguments of the command line.
    """
    words, rest = list(words), []
    if "--" in words:
        words, rest = words[:words.index("--")], words[words.index("--") + 1:]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_subparsers(dest="name", required=True)
    for name in ("train", "all", *SCRIPTS):
        child = names.add_parser(name, help=SCRIPTS.get(name))
        child.add_argument("--out", default="results", help="directory of the report")
        if name == "train":
            train.add_arguments(child)
        elif name in (*COMPARED, "all"):
            child.add_argument("--with-peers", action="store_true", help="measure the peers that are installed, too")
            child.add_argument("--peers", metavar="DIR", help="peers have their environments at DIR/sb3, DIR/sbx, ...")
            child.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    arguments = parser.parse_args(words)
    if arguments.name in SCRIPTS:
        given = ["--with-peers"] if getattr(arguments, "with_peers", False) else []
        given += ["--peers", arguments.peers] if getattr(arguments, "peers", None) else []
        given += ["--quick"] if getattr(arguments, "quick", False) else []
        return run_script(arguments.name, [*given, *rest], arguments.out)
    if rest:
        parser.error(f"{arguments.name} takes nothing after --, got {' '.join(rest)}")
    if arguments.name == "all":
        return run_all(arguments)
    try:
        return train.run(arguments, words[1:])
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
