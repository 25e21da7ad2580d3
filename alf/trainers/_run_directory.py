"""What a run leaves in its directory so that a person, or the same command, can take it up again."""

import difflib
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
import time
from typing import Any, Dict, Optional

from absl import logging

from alf import config_util
from alf.utils import git_utils

_RUN_FILE = "run.json"
_PACKAGES = ("alf-rl", "torch", "numpy", "gymnasium", "optree", "ale-py", "mujoco")


def _versions() -> Dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def command_line() -> str:
    """Return the command of this process as one would type it."""
    return " ".join(shlex.quote(argument) for argument in ["python", *_module_arguments()])


def _module_arguments():
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name:
        return ["-m", spec.name, *sys.argv[1:]]
    return sys.argv


def read_run(root_dir: str) -> Optional[Dict[str, Any]]:
    """Return what ``run.json`` of a run directory says; None if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    path = pathlib.Path(root_dir, _RUN_FILE)
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file ({error}). Delete it to take up the run without its record.") from None


def check_belongs_to(root_dir: str, conf_file: str) -> None:
    """Refuse a run directory of another conf; tell what changed in the conf since its run began.

    Args:
        root_dir: directory of the run.
        conf_file: path of the conf.
    Raises:
        ValueError: if the directory holds the run of a conf of another name.
    """
    run = read_run(root_dir)
    if run is None or not conf_file or _is_inside(conf_file, root_dir):
        return
    if os.path.basename(run["conf_file"]) != os.path.basename(conf_file):
        raise ValueError(f"--root_dir {root_dir}: expected an empty directory or a run of {conf_file}, got a run of "
                         f"{run['conf_file']} (begun {run['begun']}). Choose another --root_dir, or delete this one.")
    now = pathlib.Path(conf_file).read_text()
    changes = list(difflib.unified_diff(run["conf"].splitlines(), now.splitlines(), "run", "now", lineterm="", n=0))
    if changes:
        logging.warning("%s changed since the run in %s began; it goes on with the new one:\n%s", conf_file, root_dir,
                        "\n".join(changes))


def _is_inside(path: str, directory: str) -> bool:
    """Return whether ``path`` is in ``directory``: the copy of the conf that a run keeps."""
    return pathlib.Path(path).resolve().is_relative_to(pathlib.Path(directory).resolve())


def conf_of_run(root_dir: str) -> str:
    """Return the path of the conf that a run directory holds.

    Raises:
        FileNotFoundError: if it holds none.
    """
    path = pathlib.Path(root_dir, "alf_config.py")
    if not path.exists():
        raise FileNotFoundError(f"--root_dir {root_dir}: no run there (no alf_config.py). Pass --conf to begin one.")
    return str(path)


def write_run(root_dir: str, conf_file: str, seed: int) -> None:
    """Write the conf that runs again, command line, versions, git revision and diff, and seed.

    Files: ``alf_config.py`` with ``config_files/``, ``run.json``, ``git.diff`` (if the code is a changed checkout).
    """
    path = pathlib.Path(root_dir)
    path.mkdir(parents=True, exist_ok=True)
    resumed_from_copy = _is_inside(conf_file, root_dir)
    if not resumed_from_copy:
        config_util.save_config(str(path / "alf_config.py"))
    code = os.path.dirname(os.path.dirname(os.path.abspath(config_util.__file__)))
    earlier = read_run(root_dir)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    run = {
        "conf_file": earlier["conf_file"] if resumed_from_copy else conf_file,
        "conf": earlier["conf"] if resumed_from_copy else pathlib.Path(conf_file).read_text(),
        "command_line": command_line(),
        "seed": seed,
        "begun": now if earlier is None else earlier["begun"],
        "starts": ([] if earlier is None else earlier["starts"]) + [now],
        "versions": _versions(),
        "git_revision": git_utils.get_revision(code),
    }
    diff = git_utils.get_diff(code)
    if diff:
        (path / "git.diff").write_text(diff)
    temporary = path / (_RUN_FILE + ".tmp")
    temporary.write_text(json.dumps(run, indent=2))
    temporary.replace(path / _RUN_FILE)


def told_configs(configs) -> str:
    """Return ``name = value`` lines of ``(name, value)`` pairs."""
    return "\n".join(f"{name} = {value!r}" for name, value in configs)


def write_configs(root_dir: str) -> None:
    """Write which configured values were used and which were not: ``operative_configs.txt``, ``inoperative_configs.txt``."""
    path = pathlib.Path(root_dir)
    (path / "operative_configs.txt").write_text(told_configs(config_util.get_operative_configs()) + "\n")
    (path / "inoperative_configs.txt").write_text(told_configs(config_util.get_inoperative_configs()) + "\n")
