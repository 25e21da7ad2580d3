"""Training speed of this checkout beside its peers: the same jobs in turn, each run a fresh process.

    python -m benchmarks.run train --with-peers --peers DIR --rounds 3 --out results

See README.md beside this file for jobs, candidates, and how to read the tables.
"""

import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from benchmarks import _jobs, _marks, _report

ROOT = pathlib.Path(__file__).resolve().parents[1]
REFERENCE = "sb3"  # what tables compare with, beside the floor; without it, every peer
FLOOR = "bare"
_POLL_SECONDS = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark to a parser."""
    parser.add_argument("--with-peers", action="store_true", help="measure the peers that are installed, too")
    parser.add_argument("--peers", metavar="DIR", help="peers have their environments at DIR/sb3, DIR/sbx, DIR/torchrl")
    parser.add_argument("--add", action="append", default=[], metavar="NAME=PYTHON:SCRIPT",
                        help="another candidate: a job script as peers/_job.py describes, and its interpreter")
    parser.add_argument("--jobs", nargs="+", choices=list(_jobs.JOBS), default=list(_jobs.JOBS))
    parser.add_argument("--candidates", nargs="+", metavar="NAME", help="only these, e.g. alf sb3")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each candidate in jobs that measure speed")
    parser.add_argument("--threshold-rounds", type=int, default=1, help="the same, in jobs that end at a return")
    parser.add_argument("--scale", type=float, default=1.0, help="times the length of what is measured; 0.1 for a try")
    parser.add_argument("--quick", action="store_true", help="one round of half the length")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds after which a run has failed")
    parser.add_argument("--cpus", type=lambda text: [int(cpu) for cpu in text.split(",")],
                        help="numbers of the cores to use, e.g. 0,1; a job of n threads runs on the first n")


def schedule(jobs: Sequence[_jobs.Job], candidates: Sequence[_jobs.Candidate], rounds: int,
             threshold_rounds: int) -> Iterator[Tuple[_jobs.Job, int, _jobs.Candidate]]:
    """Yield job, round and candidate of each run: job by job, and in a job A B C, A B C, ...

    So a machine that gets slower does so for all candidates of a job.

    Args:
        jobs: what is done.
        candidates: who does it, in this order in every round; those that cannot do a job are passed over.
        rounds: of jobs that measure speed.
        threshold_rounds: of the others.
    """
    for job in jobs:
        for number in range(rounds if job.measures_speed else threshold_rounds):
            for candidate in candidates:
                if candidate.does(job):
                    yield job, number, candidate


def measure(job: _jobs.Job, candidate: _jobs.Candidate, seed: int, cpus: Sequence[int],
            timeout: float) -> Dict[str, Any]:
    """Run a job in a fresh process, and return what was measured, or ``error``.

    Args:
        job: what is done.
        candidate: who does it.
        seed: of the run.
        cpus: cores it may use.
        timeout: seconds after which it has failed.
    """
    with tempfile.TemporaryDirectory(prefix="alf-bench-") as name:
        folder = pathlib.Path(name)
        environment = {**os.environ, "PYTHONPATH": str(ROOT) if candidate.has_alf else "",
                       "OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads),
                       "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        command = candidate.command(job, seed, folder)
        began = time.time()
        with open(folder / "output", "wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
            try:
                failure = _wait(process, job, candidate, folder, timeout)
            finally:
                _kill(process)
        if failure is not None:
            printed = (folder / "output").read_text(errors="replace").strip()
            last_line = printed.rpartition("\n")[2][:300]
            return {"error": f"{failure}: {last_line}", "output": printed[-2000:], "command": command}
        marks = candidate.marks(job, folder)
        try:
            result = _marks.speed(marks) if job.measures_speed else _marks.time_to_return(marks, job.threshold, began)
        except ValueError as error:
            return {"error": str(error), "command": command}
        return {**result, "wall_seconds": time.time() - began}


def _wait(process: subprocess.Popen, job: _jobs.Job, candidate: _jobs.Candidate, folder: pathlib.Path,
          timeout: float) -> Optional[str]:
    """Wait until a run ends, ending it at the threshold if it does not itself; return how it failed, if it did."""
    deadline = time.monotonic() + timeout
    stopped = False
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            code = process.wait(left if candidate.stops_itself(job) else min(_POLL_SECONDS, left))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                return f"not done after {timeout:g} s"
            if not stopped and _is_reached(job, candidate, folder):
                stopped = True
                process.send_signal(signal.SIGTERM)  # a trainer saves and leaves, with 143
            continue
        allowed = (0, 128 + signal.SIGTERM, -signal.SIGTERM) if stopped else (0, )
        return None if code in allowed else f"exit code {code}"


def _is_reached(job: _jobs.Job, candidate: _jobs.Candidate, folder: pathlib.Path) -> bool:
    return _marks.time_to_return(candidate.marks(job, folder), job.threshold, began=0.0)["seconds"] is not None


def _kill(process: subprocess.Popen) -> None:
    """End what is left of a run: it leads a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def told(row: Dict[str, Any]) -> str:
    """Return a measurement in words, for the console."""
    if "error" in row:
        return f"FAILED: {row['error']}"
    if "env_steps_per_second" in row:
        return f"{row['env_steps_per_second']:.1f} env steps/s, {row['updates_per_second']:.1f} updates/s"
    if row["seconds"] is None:
        return f"not reached, {row['wall_seconds']:.0f} s"
    return f"{row['seconds']:.1f} s, {row['env_steps']} env steps"


def summarize(job: _jobs.Job, name: str, rows: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return medians, spread and ratios of a candidate in a job.

    Ratios are to the floor and to each peer that did the job: the median over rounds of how many times as fast as that
    it was in the same round.

    Args:
        job: what was done.
        name: of the candidate.
        rows: all measurements, with ``job``, ``round``, ``candidate``.
    """
    field = "env_steps_per_second" if job.measures_speed else "seconds"

    def by_round(candidate):
        return {row["round"]: row[field] for row in rows
                if row["job"] == job.name and row["candidate"] == candidate and row.get(field) is not None}

    mine = by_round(name)
    measured = dict.fromkeys(row["candidate"] for row in rows if row["job"] == job.name)
    ratios = {}
    for other in filter(_is_foreign, measured):
        theirs = by_round(other)
        each = [mine[number] / theirs[number] for number in mine if number in theirs]
        ratios[other] = _median(each if job.measures_speed else [1 / ratio for ratio in each])
    own = [row for row in rows if row["job"] == job.name and row["candidate"] == name]
    second = "updates_per_second" if job.measures_speed else "env_steps"
    return {
        "job": job.name,
        "candidate": name,
        "median": _median(mine.values()),
        "lowest": min(mine.values(), default=None),
        "highest": max(mine.values(), default=None),
        second: _median(row[second] for row in own if row.get(second) is not None),
        "ratios": ratios,
        "num_measured": len(mine),
        "num_runs": len(own),
    }


def _is_foreign(candidate: str) -> bool:
    return candidate != "alf" and not candidate.startswith("alf-")


def _compared_with(summaries: List[Dict[str, Any]]) -> List[str]:
    """Return the candidates that tables have a column of ratios for: the floor, and the reference or else all peers."""
    names = list(dict.fromkeys(name for row in summaries for name in row["ratios"]))
    peers = [REFERENCE] if REFERENCE in names else [name for name in names if name != FLOOR]
    return [FLOOR] * (FLOOR in names) + peers


def _median(values) -> Optional[float]:
    values = list(values)
    return statistics.median(values) if values else None


def tables(jobs: Sequence[_jobs.Job], summaries: List[Dict[str, Any]]) -> str:
    """Return a Markdown table of the speeds and one of the times to a return, as far as there are any.

    Args:
        jobs: in the order of rows.
        summaries: see :func:`summarize`.
    """
    parts = []
    references = _compared_with(summaries)
    columns = [f"x {name}" for name in references]
    for measures_speed, header, second in (
        (True, ("env steps/s", "updates/s", "lowest to highest"), "updates_per_second"),
        (False, ("seconds", "env steps", "lowest to highest s"), "env_steps")):
        rows = []
        for job in jobs:
            for row in summaries:
                if job.measures_speed == measures_speed and row["job"] == job.name:
                    spread = "-" if row["lowest"] is None else f"{shown(row['lowest'])} to {shown(row['highest'])}"
                    rows.append([job.title, row["candidate"], shown(row["median"]), shown(row[second]), spread,
                                 *(_shown_ratio(row["ratios"].get(name)) for name in references),
                                 f"{row['num_measured']} of {row['num_runs']}"])
        if rows:
            parts.append(_report.markdown_table(("job", "candidate", *header, *columns, "runs"), rows))
    return "\n\n".join(parts)


def _shown_ratio(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.2f}"


def shown(value: Optional[float]) -> str:
    """Return a number as tables show it: three digits at least, no false precision; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def select_candidates(arguments: argparse.Namespace) -> Tuple[List[_jobs.Candidate], List[str]]:
    """Return the candidates to measure, and a line for each peer that is not.

    Args:
        arguments: see :func:`add_arguments`.
    Raises:
        ValueError: for a name of ``--candidates`` that is not there.
    """
    candidates, left_out = [_jobs.Alf(), _jobs.compiled_alf(), _jobs.Bare()], []
    if arguments.with_peers or arguments.peers:
        found, left_out = _jobs.find_peers(arguments.peers)
        candidates += found
    candidates += [_jobs.added_peer(text) for text in arguments.add]
    if arguments.candidates:
        known = {candidate.name: candidate for candidate in candidates}
        unknown = [name for name in arguments.candidates if name not in known]
        if unknown:
            raise ValueError(f"--candidates {' '.join(unknown)}: expected some of {' '.join(known)}. Peers are known "
                             "with --with-peers, if they are installed. " + " ".join(left_out))
        candidates = [known[name] for name in arguments.candidates]
        left_out = []
    return candidates, left_out


def run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Measure, write ``train.json`` and ``train.md``, and return the exit code: 1 if a run failed.

    Args:
        arguments: see :func:`add_arguments`, and ``out``.
        words: of the command line that they were read from, for the report.
    """
    if arguments.quick:
        arguments.rounds, arguments.scale = 1, arguments.scale / 2
    candidates, left_out = select_candidates(arguments)
    jobs = [_jobs.JOBS[name].scaled(arguments.scale) for name in arguments.jobs]
    cpus = arguments.cpus or sorted(os.sched_getaffinity(0))
    if max(job.threads for job in jobs) > len(cpus):
        raise ValueError(f"--jobs {' '.join(arguments.jobs)}: expected {max(job.threads for job in jobs)} cores, got "
                         f"{len(cpus)}. Leave out the jobs with more threads.")
    report = _report.begin("train", words)
    report["candidates"] = {candidate.name: candidate.versions for candidate in candidates}
    report["left_out"] = left_out
    print("\n".join(left_out + [f"{name}: {versions}" for name, versions in report["candidates"].items()]), flush=True)
    runs = list(schedule(jobs, candidates, arguments.rounds, arguments.threshold_rounds))
    rows = report["measurements"] = []
    for number, (job, round_, candidate) in enumerate(runs, 1):
        load = os.getloadavg()[0]
        row = measure(job, candidate, seed=round_ + 1, cpus=cpus[:job.threads], timeout=arguments.timeout)
        rows.append({"job": job.name, "round": round_, "candidate": candidate.name, "load_average": load, **row})
        print(f"[{number}/{len(runs)}] {job.name} round {round_ + 1} {candidate.name}: {told(row)}", flush=True)
    report["summaries"] = [summarize(job, candidate.name, rows) for job in jobs for candidate in candidates
                           if candidate.does(job)]
    body = tables(jobs, report["summaries"])
    failed = [f"{row['job']}, {row['candidate']}, round {row['round'] + 1}: {row['error']}"
              for row in rows if "error" in row]
    lines = [f"{name}: " + ", ".join(f"{part} {version}" for part, version in versions.items())
             for name, versions in report["candidates"].items()] + left_out + [f"FAILED: {line}" for line in failed]
    body += "\n\n" + "\n".join(f"- {line}" for line in lines)
    print(body)
    _report.write(arguments.out, report, body)
    return 1 if failed else 0
