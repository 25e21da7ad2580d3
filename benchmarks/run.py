"""Runs a benchmark by name, and writes what it told as JSON and as a Markdown table.

    python -m benchmarks.run train --with-peers --peers DIR
    python -m benchmarks.run envs --out results -- --rounds 3

``train`` is described in train.py. The others are scripts of this folder, which can be run alone; what follows ``--``
is for them.
"""

import argparse
import os
import pathlib
import subprocess
import sys
from typing import List, Sequence, Tuple

from benchmarks import _report, train

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = {
    "envs": "bench_envs.py",
    "native_envs": "bench_native_envs.py",
    "config": "bench_config.py",
    "update_floor": "bench_update_floor.py",
    "sac_update": "bench_sac_update.py",
    "dqn_update": "bench_dqn_update.py",
    "replay": "bench_replay.py",
}


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
    command = [sys.executable, str(HERE / SCRIPTS[name]), *rest]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
        [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}
    lines: List[str] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.strip():
                lines.append(line.rstrip())
    if process.returncode:
        print(f"error: {SCRIPTS[name]} ended with {process.returncode}; no report was written.", file=sys.stderr)
        return process.returncode
    report.update(script=SCRIPTS[name], arguments=list(rest), lines=lines)
    shown = [split_line(line) for line in lines if not line.startswith("{")]
    _report.write(out, report, _report.markdown_table(("what", "measured"), shown))
    return 0


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
    for name in ("train", *SCRIPTS):
        child = names.add_parser(name, help=None if name == "train" else SCRIPTS[name])
        child.add_argument("--out", default="results", help="directory of the report")
        if name == "train":
            train.add_arguments(child)
    arguments = parser.parse_args(words)
    if arguments.name != "train":
        return run_script(arguments.name, rest, arguments.out)
    if rest:
        parser.error(f"train takes nothing after --, got {' '.join(rest)}")
    try:
        return train.run(arguments, words[1:])
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
