"""Marks of a training run, how many steps were made by when, and what follows from them: speeds, times to a return."""

import json
import math
import pathlib
from typing import Any, Dict, List, NamedTuple, Optional, Union


class Mark(NamedTuple):
    """A moment of a run."""

    time: float  # seconds since the epoch
    env_steps: int  # made until then
    updates: int  # optimizer steps made until then; of ours only differences count, see `read_metrics`
    mean_return: Optional[float] = None  # of the latest episodes; None: too few have ended


def read_metrics(path: Union[str, pathlib.Path], updates_per_iteration: int, window_episodes: int = 1) -> List[Mark]:
    """Return the marks in the ``metrics.jsonl`` of a run, none if there is no such file yet.

    A line that is still being written is left out, and the lines of one step are one mark, at the time of the first.
    Updates are counted as if each iteration had made some; those that only collect made none, so take differences of
    marks after them.

    Args:
        path: of the file.
        updates_per_iteration: optimizer steps in an iteration.
        window_episodes: a return is told when so many episodes have ended.
    Raises:
        ValueError: if a whole line is not a JSON object, with file and line.
    """
    path = pathlib.Path(path)
    records: Dict[int, Dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            step = record["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with \"step\", got {line[:80]!r}.") from error
        records[step] = {**record, **records.get(step, {})}
    marks = []
    for step, record in sorted(records.items()):
        if "Metrics/EnvironmentSteps" not in record:
            continue
        mean_return = None
        if record.get("Metrics/NumberOfEpisodes", 0) >= window_episodes and "Metrics/AverageReturn" in record:
            mean_return = float(record["Metrics/AverageReturn"])
        env_steps = record["Metrics/EnvironmentSteps"]
        marks.append(Mark(record["time"], env_steps, step * updates_per_iteration, mean_return))
    return marks


def read_peer_marks(path: Union[str, pathlib.Path]) -> List[Mark]:
    """Return the marks that a job script of a peer wrote.

    Args:
        path: of the file.
    """
    records = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    return [Mark(record["time"], record["env_steps"], record["updates"], record.get("return")) for record in records]


def speed(marks: List[Mark]) -> Dict[str, float]:
    """Return ``env_steps_per_second`` and ``updates_per_second`` between the first and the last mark.

    Raises:
        ValueError: if the marks span no time or no step.
    """
    if len(marks) < 2 or marks[-1].time <= marks[0].time or marks[-1].env_steps <= marks[0].env_steps:
        raise ValueError(f"expected a mark after the warm-up and a later one, got {marks}. Did the run end early?")
    first, last = marks[0], marks[-1]
    seconds = last.time - first.time
    return {
        "env_steps_per_second": (last.env_steps - first.env_steps) / seconds,
        "updates_per_second": (last.updates - first.updates) / seconds,
        "window_env_steps": last.env_steps - first.env_steps,
        "window_seconds": seconds,
    }


def time_to_return(marks: List[Mark], threshold: float, began: float) -> Dict[str, Optional[float]]:
    """Return ``seconds`` and ``env_steps`` of the first mark whose return is at least a threshold, None if none is.

    Args:
        marks: in the order of time.
        threshold: the return.
        began: when the process was started, seconds since the epoch.
    """
    for mark in marks:
        if mark.mean_return is not None and not math.isnan(mark.mean_return) and mark.mean_return >= threshold:
            return {"seconds": mark.time - began, "env_steps": mark.env_steps}
    return {"seconds": None, "env_steps": None}
