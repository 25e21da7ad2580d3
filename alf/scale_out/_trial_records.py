"""What a sweep leaves on the disk: ``search.json``, and ``trial.json`` of each trial: how it ended, and its result."""

import json
import math
import os
import pathlib
import signal
import time
from typing import Any, Dict, List, Optional

from absl import logging

from alf.scale_out.search_space import SearchSpace, Trial
from alf.trainers._run_directory import RunDirectoryError, must_be_written

CONSOLE_FILE = "console.log"
_SEARCH_FILE = "search.json"
_RECORD_FILE = "trial.json"
_RETURN_TAG = "Metrics/AverageReturn"
_STEPS_TAG = "Metrics/EnvironmentSteps"
_ERROR_BYTES = 16_000  # of the end of a log, among which an error is looked for
_ERROR_LINES = 8

Record = Dict[str, Any]


def begin_sweep(root_dir: str, space: SearchSpace, conf_file: str, conf_params: List[str]) -> None:
    """Write what a sweep is, or refuse a directory that was begun with something else.

    Args:
        root_dir: its directory.
        space: what its JSON file says.
        conf_file: path of the conf.
        conf_params: ``name=expression`` strings of the command line.
    Raises:
        RunDirectoryError: if the directory holds another sweep or a training, or cannot be written.
    """
    path = pathlib.Path(root_dir, _SEARCH_FILE)
    text = pathlib.Path(conf_file).read_text(encoding="utf-8", errors="replace")
    now = {"conf": os.path.basename(conf_file), "conf_params": conf_params, "repeats": space.repeats,
           "parameters": space.parameters}
    if not path.exists():
        if pathlib.Path(root_dir, "run.json").exists():
            raise RunDirectoryError(f"--root_dir {root_dir}: expected an empty directory or a sweep, got the run of a "
                                    "training. Choose another --root_dir.")
        with must_be_written(f"{path}: a sweep cannot begin where nothing can be written"):
            _write(path, {"begun": time.strftime("%Y-%m-%d %H:%M:%S"), **now, "conf_text": text})
        return
    begun = _read(path)
    if begun is None:
        raise RunDirectoryError(f"{path}: damaged. Delete it to take up the sweep with what the command says.")
    changes = _changes(begun, now)
    if changes:
        raise RunDirectoryError("\n".join([
            f"--root_dir {root_dir}: the sweep there was begun with other settings (then -> now):", *changes,
            "Its trials would no longer be what they are. Choose another --root_dir, or go back to those settings."]))
    if begun["conf_text"] != text:
        logging.warning("%s changed since the sweep began: trials that have finished were trained with what it was.",
                        conf_file)


def _changes(begun: Dict[str, Any], now: Dict[str, Any]) -> List[str]:
    """Return a line for each setting that differs, each parameter by itself."""

    def flat(search):
        parameters = {f"parameters.{name}": values for name, values in search["parameters"].items()}
        return {**{name: search[name] for name in ("conf", "conf_params", "repeats")}, **parameters}

    def told(value):
        return "nothing" if value is None else json.dumps(value)

    before, after = flat(begun), flat(now)
    changes = [f"  {name}: {told(before.get(name))} -> {told(after.get(name))}" for name in {**before, **after}
               if before.get(name) != after.get(name)]
    if not changes and list(before) != list(after):
        changes = [f"  order of parameters: {', '.join(begun['parameters'])} -> {', '.join(now['parameters'])}"]
    return changes


def read_record(root_dir: str, trial: Trial) -> Record:
    """Return what ``trial.json`` of a trial says; empty if there is none, or a damaged one."""
    return _read(pathlib.Path(root_dir, trial.name, _RECORD_FILE)) or {}


def write_record(root_dir: str, trial: Trial, **ending: Any) -> Record:
    """Write how a trial ended, with its result, and return that. A disk that does not take it is told.

    Args:
        root_dir: directory of the sweep.
        trial: which has ended.
        ending: more to write.
    """
    folder = pathlib.Path(root_dir, trial.name)
    record = {**trial._asdict(), **ending, "result": read_result(folder)}
    try:
        _write(folder / _RECORD_FILE, record)
    except OSError as error:
        logging.warning("%s cannot be written: %s. The same command will run that trial again.", folder / _RECORD_FILE,
                        error)
    return record


def _read(path: pathlib.Path) -> Optional[Dict[str, Any]]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _write(path: pathlib.Path, said: Dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_result(folder: pathlib.Path) -> Dict[str, Optional[float]]:
    """Return environment steps and returns of a run; None where there is no such number yet.

    Returns of training are means of recent episodes, exploration included; those of evaluations are without it. The
    parts of a reward that is a vector are added up.

    Args:
        folder: directory of the run.
    """
    lines = _summaries(folder / "train")
    returns = _returns(lines)
    env_steps = [line[_STEPS_TAG] for line in lines if _STEPS_TAG in line]
    return {
        "env_steps": env_steps[-1] if env_steps else None,
        "final_return": returns[-1] if returns else None,
        "best_return": max(returns, default=None),
        "best_eval_return": max(_returns(_summaries(folder / "eval")), default=None),
    }


def _summaries(folder: pathlib.Path) -> List[Dict[str, float]]:
    """Return what a trainer has summarized; a line that a kill cut short is left out."""
    found = []
    try:
        with open(folder / "metrics.jsonl", encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    summary = json.loads(line)
                except (RecursionError, ValueError):
                    continue
                if not isinstance(summary, dict):
                    continue
                found.append({tag: value for tag, value in summary.items()
                              if tag == _STEPS_TAG or f"{tag}/".startswith(f"{_RETURN_TAG}/")})
    except OSError:
        pass  # it has not come that far
    return found


def _returns(lines: List[Dict[str, float]]) -> List[float]:
    sums = [sum(parts) for line in lines if (parts := [value for tag, value in line.items() if tag != _STEPS_TAG])]
    return [value for value in sums if math.isfinite(value)]


def told_exit(code: int) -> str:
    """Return an exit code in words; negative is a signal."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    return f"killed (signal {-code}, {name})" + (", perhaps for memory" if -code == signal.SIGKILL else "")


def read_error(console_path: str, begin: int) -> str:
    """Return the end of a log: what follows the last ``error:``, or else the last lines.

    Args:
        console_path: of the log.
        begin: bytes at its beginning that do not count.
    """
    try:
        with open(console_path, "rb") as file:
            file.seek(max(begin, os.path.getsize(console_path) - _ERROR_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""  # somebody has deleted it
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    return "\n".join(lines[errors[-1]:][:_ERROR_LINES] if errors else lines[-_ERROR_LINES:])
