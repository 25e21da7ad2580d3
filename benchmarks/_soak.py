"""Trains for hours, and fits how memory, open files and threads grow."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Sequence

import numpy as np
import psutil

from benchmarks._kills import abandoned_names

CONF = pathlib.Path(__file__).resolve().parent / "confs" / "soak_conf.py"
_WARM_UP_SHARE = 0.3  # of the samples, not fitted: buffers and allocators fill
_MEMORY = {"resident_mb": "Rss:", "proportional_mb": "Pss_Anon:"}  # what the kernel calls them
_KINDS = (*_MEMORY, "files", "threads", "processes", "shared_names")


def slope_per_hour(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the least-squares line through values, per hour.

    Args:
        seconds: when they were sampled.
        values: as many.
    """
    return float(np.polyfit(np.asarray(seconds) / 3600, values, 1)[0])


def _memory(pid: int) -> Dict[str, float]:
    """Return the resident size of a process and the proportional one of what is not of files, in MiB; Linux only.

    A page that several processes share counts in the resident size of each, and is divided among them in the
    proportional size. When one of them writes to a page that they have shared since a fork, it gets one of its own:
    the resident sizes stay as they are, and only new allocations change their sum. Pages of files are divided among
    whatever else runs on the machine.
    """
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = dict(line.split()[:2] for line in lines)
    return {kind: int(kilobytes[name]) / 1024 for kind, name in _MEMORY.items()}


def _sample(process: psutil.Process) -> Dict[str, Any]:
    """Return what the processes of a run hold together, and the memory of each."""
    found: Dict[str, Any] = {**dict.fromkeys(_KINDS, 0.0), "by_process": {}}
    for one in [process, *process.children(recursive=True)]:
        try:
            memory = _memory(one.pid)
            counts = {"files": one.num_fds(), "threads": one.num_threads(), "processes": 1}
        except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
            continue  # it has ended since
        found["by_process"][one.pid] = memory
        for kind, value in {**memory, **counts}.items():
            found[kind] += value
    found["shared_names"] = len(abandoned_names())
    return found


def soak(hours: float, folder: pathlib.Path, interval_seconds: float = 10.0) -> Dict[str, Any]:
    """Train with evaluation, summaries and videos for some time, and return samples, slopes and how it ended.

    Args:
        hours: how long.
        folder: for the run.
        interval_seconds: between samples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "alf.bin.train", "--conf", str(CONF), "--root_dir", str(folder / "run")]
    with open(folder / "output.txt", "w") as output:
        trainer = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "OMP_NUM_THREADS": "1"})
        samples: List[Dict[str, Any]] = []
        began = time.monotonic()
        try:
            while trainer.poll() is None and time.monotonic() - began < hours * 3600:
                time.sleep(interval_seconds)
                samples.append({"seconds": time.monotonic() - began, **_sample(psutil.Process(trainer.pid))})
        finally:
            if trainer.poll() is None:
                trainer.send_signal(signal.SIGINT)
            code = trainer.wait(60)
    log = (folder / "output.txt").read_text()
    kept = samples[int(len(samples) * _WARM_UP_SHARE):]
    if len(kept) < 3:
        raise RuntimeError(f"The run ended with {code} after {len(samples)} samples, too few to fit:\n{log[-2000:]}")
    seconds = [sample["seconds"] for sample in kept]
    return {
        "seconds": samples[-1]["seconds"],
        "exit_code": code,
        "episodes": _last_episodes(folder / "run"),
        "evaluations": log.count("evaluation at step "),
        "slopes_per_hour": {kind: slope_per_hour(seconds, [s[kind] for s in kept]) for kind in _KINDS},
        "first": kept[0],
        "last": kept[-1],
        "samples": samples,
    }


def _last_episodes(root_dir: pathlib.Path) -> int:
    import json
    for line in reversed((root_dir / "train" / "metrics.jsonl").read_text().splitlines()):
        record = json.loads(line)
        for name, value in record.items():
            if name.endswith("NumberOfEpisodes"):
                return int(value)
    return 0
