"""What a person gets from a sweep at its end: a table on the console, and ``summary.csv``."""

import csv
import io
import os
import re
import statistics
import sys
from typing import Any, Dict, List, Optional

from alf.scale_out._trial_records import CONSOLE_FILE, Record
from alf.scale_out.search_space import SearchSpace, Trial
from alf.trainers._progress_view import is_terminal, told_duration, told_number

_RESULTS = {"env_steps": "env steps", "final_return": "final return", "best_return": "best return",
            "best_eval_return": "best evaluation"}
_ERROR_LINE = re.compile(r"error: |[A-Za-z_][\w.]*(?:Error|Exception)(?:: |$)")  # of a command of ours; of Python
_WIDTH_OF_A_FILE = 10_000  # columns: lines are not wrapped there


def write_csv(root_dir: str, space: SearchSpace, trials: List[Trial], records: Dict[str, Record]) -> str:
    """Write ``summary.csv``, a row for each trial, and return its path.

    Args:
        root_dir: directory of the sweep.
        space: its parameters.
        trials: all of it.
        records: by name, of those trials that have ended once.
    """
    path = os.path.join(root_dir, "summary.csv")
    with open(path + ".tmp", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["trial", "combination", "repeat", "seed", *space.parameters, "state", *_RESULTS, "seconds",
                       "error"])
        for trial in _sorted(trials):
            record = records.get(trial.name, {})
            result = record.get("result", {})
            rows.writerow([trial.name, trial.index, trial.repeat, trial.seed, *trial.parameters.values(),
                           _state(record), *(result.get(name) for name in _RESULTS), record.get("seconds"),
                           told_error(record)])
    os.replace(path + ".tmp", path)
    return path


def told_summary(root_dir: str, space: SearchSpace, trials: List[Trial], records: Dict[str, Record]) -> str:
    """Return the tables of all trials and, with repeats, of all combinations, and the errors of those that failed.

    Args:
        root_dir: directory of the sweep.
        space: its parameters.
        trials: all of it.
        records: by name, of those trials that have ended once.
    """
    parts = [_table(_trial_rows(space, _sorted(trials), records))]
    if space.repeats > 1:
        parts.append(_table(_combination_rows(space, trials, records)))
    errors = [f"{name} {record['state']}: {told_error(record)}\n  see {os.path.join(root_dir, name, CONSOLE_FILE)}"
              for name, record in sorted(records.items()) if record.get("error")]
    return "\n\n".join([*parts, *(["\n".join(errors)] if errors else [])])


def _sorted(trials: List[Trial]) -> List[Trial]:
    return sorted(trials, key=lambda trial: (trial.index, trial.repeat))


def _state(record: Record) -> str:
    return record.get("state", "not begun")


def told_error(record: Record) -> str:
    """Return why a trial has not finished, and what its log says of that, in a line; empty if nothing was wrong.

    Args:
        record: of the trial; empty if it has not begun.
    """
    reason, *log = record.get("error", "").splitlines() or [""]
    errors = [line for line in log if _ERROR_LINE.match(line)]
    if not errors and reason.startswith("exit code"):
        errors = log[-1:]
    return f"{reason}: {errors[0].removeprefix('error: ')}" if errors else reason


def _trial_rows(space: SearchSpace, trials: List[Trial], records: Dict[str, Record]) -> List[Dict[str, str]]:
    rows = []
    for trial in trials:
        record = records.get(trial.name, {})
        result = record.get("result", {})
        repeat = {"repeat": str(trial.repeat)} if space.repeats > 1 else {}
        rows.append({"trial": trial.name[:trial.name.index("r")], **_varying(space, trial), **repeat,
                     "state": _state(record),
                     **{told: told_number(result.get(name)) for name, told in _RESULTS.items()},
                     "time": told_duration(record.get("seconds"))})
    if all(row["best evaluation"] == "-" for row in rows):
        for row in rows:
            del row["best evaluation"]
    return rows


def _varying(space: SearchSpace, trial: Trial) -> Dict[str, str]:
    return {short: trial.parameters[name] for name, short in space.varying.items()}


def _combination_rows(space: SearchSpace, trials: List[Trial], records: Dict[str, Record]) -> List[Dict[str, str]]:
    """Return a row for each combination: mean and sample standard deviation over the repeats that have finished."""
    rows = []
    for trial in (trial for trial in trials if trial.repeat == 0):
        repeats = [records.get(other.name, {}) for other in trials if other.index == trial.index]
        results = [record["result"] for record in repeats if _state(record) == "finished"]
        rows.append({"combination": f"{trial.index:04d}", **_varying(space, trial),
                     "finished": f"{len(results)}/{space.repeats}",
                     **{_RESULTS[name]: _mean_and_spread([result[name] for result in results])
                        for name in ("final_return", "best_return")}})
    return rows


def _mean_and_spread(values: List[Optional[float]]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {told_number(statistics.stdev(known))}" if len(known) > 1 else ""
    return told_number(statistics.fmean(known)) + spread


def _table(rows: List[Dict[str, str]]) -> str:
    """Return a table as text, in colors and no wider than the screen if the standard output is a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    terminal: Dict[str, Any] = {"force_terminal": True} if is_terminal(sys.stdout) else {"width": _WIDTH_OF_A_FILE}
    console = Console(file=io.StringIO(), **terminal)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(Text(name), justify="left" if name == "state" else "right")
    for row in rows:
        bad = row.get("state") in ("failed", "hung", "timed out")
        table.add_row(*map(Text, row.values()), style="red" if bad else None)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
