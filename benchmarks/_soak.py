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
_KINDS = ("resident_mb", "files", "threads", "processes", "shared_names")


def slope_per_hour(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the least-squares line through values, per hour.

    Args:
        seconds: when they were sampled.
        values: as many.
    """
    return float(np.polyfit(np.asarray(seconds) / 3600, values, 1)[0])


def _sample(process: psutil.Process) -> Dict[str, float]:
    """Return what the processes of a run hold together."""
    found = dict.fromkeys(_KINDS, 0.0)
    for one in [process, *process.children(recursive=True)]:
        try:
            with one.oneshot():
                # Private: the pages that processes share would count several times.
                found["resident_mb"] += one.memory_full_info().uss / 2**20
                found["files"] += one.num_fds()
                found["threads"] += one.num_threads()
                found["processes"] += 1
        except psutil.NoSuchProcess:
            continue
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
        samples: List[Dict[str, float]] = []
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
