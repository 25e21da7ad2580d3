"""What a run leaves in its directory so that a person, or the same command, can take it up again."""

import contextlib
import difflib
import errno
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shlex
import socket
import sys
import time
from typing import Any, Dict, Iterable, Iterator, Optional, Tuple

from absl import logging

from alf import config_util
from alf.utils import git_utils

_RUN_FILE = "run.json"
_LOCK_FILE = ".lock"
# What a run has in its directory, as far as it cannot do without.
_FOLDERS = ("config_files", "train", "train/algorithm", "train/algorithm/best", "eval")
_FILES = (".lock", "alf_config.py", "train.log", "train/metrics.jsonl")
_CONFIG_LINE = re.compile(r"^([\w.]+) = (.*(?:\n(?![\w.]+ = ).*)*)", re.MULTILINE)  # a value may have several lines
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # another one at each start
_PACKAGES = ("alf-rl", "torch", "numpy", "gymnasium", "optree", "ale-py", "mujoco")


class RunDirectoryError(ValueError):
    """A run directory cannot be used as asked; the text says why and what to do."""


def read_run(root_dir: str) -> Optional[Dict[str, Any]]:
    """Return what ``run.json`` of a run directory says; None if there is none.

    Raises:
        RunDirectoryError: if it is damaged.
    """
    path = pathlib.Path(root_dir, _RUN_FILE)
    try:
        if path.exists() and not path.is_file():
            raise RunDirectoryError(f"{path}: expected a file, got {_told_kind(path)}. Move it away.")
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise RunDirectoryError(f"{path}: cannot be read: {error}.") from None
    except RunDirectoryError:
        raise
    except (RecursionError, ValueError) as error:
        raise RunDirectoryError(
            f"{path}: not a JSON file ({error}). Delete it to take up the run without its record.") from None
    _check_run(path, run)
    return run


def _check_run(path: pathlib.Path, run: Any) -> None:
    """Raise if a field that is read is missing or of another kind than what is written."""
    def is_text(value: Any) -> bool:
        return isinstance(value, str)

    def is_seed(value: Any) -> bool:
        return type(value) is int and 0 <= value < 2**64

    def is_texts(value: Any) -> bool:
        return isinstance(value, list) and all(map(is_text, value))

    fields = {"conf_file": ("a text", is_text), "conf": ("a text", is_text), "begun": ("a text", is_text),
              "seed": ("a whole number from 0 to 2**64", is_seed), "starts": ("a list of texts", is_texts)}
    problem = None
    if not isinstance(run, dict):
        problem = f"expected fields by name, got {run!r:.80}"
    for name, (expected, is_right) in fields.items():
        if problem is None and not is_right(run.get(name)):
            problem = f"{name}: expected {expected}, got {repr(run[name])[:80] if name in run else 'nothing'}"
    if problem is not None:
        raise RunDirectoryError(f"{path}: {problem}. Delete it to take up the run without its record.")


def _told_kind(path: pathlib.Path) -> str:
    return "a directory" if path.is_dir() else "a file" if path.is_file() else "a pipe or a disk"


def _is_file_or_device(path: pathlib.Path) -> bool:
    return path.is_file() or path.is_char_device()  # a log may be a link to /dev/null


def _check_places(root_dir: str) -> None:
    """Raise if a file is where the run has a directory, or the other way round."""
    for names, is_right, expected in ((_FOLDERS, pathlib.Path.is_dir, "a directory"),
                                      (_FILES, _is_file_or_device, "a file")):
        for name in names:
            path = pathlib.Path(root_dir, name)
            if path.exists() and not is_right(path):
                raise RunDirectoryError(f"{path}: expected {expected}, got {_told_kind(path)}. Move it away, or choose "
                                        "another --root_dir.")


def check_belongs_to(root_dir: str, conf_file: str) -> None:
    """Refuse a run directory of another conf; tell what changed in the conf since its run began.

    Args:
        root_dir: directory of the run.
        conf_file: path of the conf.
    Raises:
        RunDirectoryError: if the directory holds the run of a conf of another name.
    """
    run = read_run(root_dir)
    if run is None or _is_inside(conf_file, root_dir):
        return
    if os.path.basename(run["conf_file"]) != os.path.basename(conf_file):
        raise RunDirectoryError(
            f"--root_dir {root_dir}: expected an empty directory or a run of {conf_file}, got a run of "
            f"{run['conf_file']} (begun {run['begun']}). Choose another --root_dir, or delete this one.")
    now = pathlib.Path(conf_file).read_text(encoding="utf-8", errors="replace")
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
        RunDirectoryError: if it holds none.
    """
    path = pathlib.Path(root_dir, "alf_config.py")
    if not path.is_file():
        raise RunDirectoryError(f"--root_dir {root_dir}: no run there (no alf_config.py). Pass --conf to begin one.")
    return str(path)


@contextlib.contextmanager
def locked(root_dir: str) -> Iterator[None]:
    """Context in which no other trainer can take up the run; the directory is made if it does not exist.

    The lock ends with the process, however that ends.

    Raises:
        RunDirectoryError: if another trainer has it, the directory cannot be written, or a file is where the run has a
            directory, or the other way round.
    """
    path = os.path.join(root_dir, _LOCK_FILE)
    try:
        os.makedirs(root_dir, exist_ok=True)
        _check_places(root_dir)
        file = open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise RunDirectoryError(f"--root_dir {root_dir}: expected a directory that can be written, got: {error}. "
                                "Choose another --root_dir.") from None
    with file:
        try:
            # A lock of the process, not of the open file: processes that it starts do not hold it on.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                logging.warning("%s: this file system has no locks (%s): see to it that only one trains there.", path,
                                error)
            else:
                file.seek(0)
                raise RunDirectoryError(f"--root_dir {root_dir}: a trainer or a sweep is at work there already: "
                                        f"{file.read().strip()}. End it first, or choose another --root_dir.") from None
        try:
            file.truncate(0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}, since {_now()}\n".encode())
        except OSError as error:  # the lock holds all the same
            logging.warning("%s cannot be written: %s", path, error)
        yield


def write_run(root_dir: str, conf_file: str, seed: int) -> None:
    """Write the conf that runs again, command line, versions, git revision and diff, and seed.

    Files: ``alf_config.py`` with ``config_files/``, ``run.json``, and ``<name>.diff`` of code that was changed. If the
    disk does not take them, that is told where a run goes on, which has those of its earlier starts.

    Raises:
        RunDirectoryError: if the disk does not take those of a run that begins.
    """
    try:
        _write_run(pathlib.Path(root_dir), conf_file, seed)
    except OSError as error:
        if not os.path.exists(os.path.join(root_dir, _RUN_FILE)):
            with must_be_written(f"--root_dir {root_dir}: a run cannot begin where nothing can be written"):
                raise
        logging.warning("the record of this start cannot be written in %s: %s", root_dir, error)


@contextlib.contextmanager
def must_be_written(otherwise: str, instead: str = "--root_dir") -> Iterator[None]:
    """Context in which something is written without which there is no use in going on.

    Args:
        otherwise: what to tell if the disk does not take it.
        instead: another of which may be chosen.
    Raises:
        RunDirectoryError: if the disk does not take it.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(f"{otherwise}: {error}. Free disk space, or choose another {instead}.") from None


def _write_run(path: pathlib.Path, conf_file: str, seed: int) -> None:
    root_dir = str(path)
    config_util.save_config(str(path / "alf_config.py"))
    earlier = read_run(root_dir)
    from_copy = earlier is not None and _is_inside(conf_file, root_dir)
    revisions = {}
    for name, code in repositories().items():
        revisions[name] = git_utils.get_revision(code)
        diff = git_utils.get_diff(code)
        if diff:
            (path / f"{name}.diff").write_text(diff, encoding="utf-8")
        else:
            (path / f"{name}.diff").unlink(missing_ok=True)  # of an earlier start, and not of this revision
    run = {
        "conf_file": earlier["conf_file"] if from_copy else conf_file,
        "conf": earlier["conf"] if from_copy else pathlib.Path(conf_file).read_text(encoding="utf-8", errors="replace"),
        "command_line": command_line(),
        "seed": seed,
        "begun": _now() if earlier is None else earlier["begun"],
        "starts": ([] if earlier is None else earlier["starts"]) + [_now()],
        "versions": _versions(),
        "git_revisions": revisions,
    }
    temporary = path / (_RUN_FILE + ".tmp")
    temporary.write_text(json.dumps(run, indent=2), encoding="utf-8")
    temporary.replace(path / _RUN_FILE)


def repositories() -> Dict[str, str]:
    """Return the directories of the code to record, by name: ours, and those in ``ALF_SNAPSHOT_REPO_ROOTS``."""
    roots = [os.path.dirname(os.path.abspath(config_util.__file__))]
    roots += filter(None, os.environ.get("ALF_SNAPSHOT_REPO_ROOTS", "").split(os.pathsep))
    return {os.path.basename(os.path.normpath(root)): root for root in roots}


def write_configs(root_dir: str) -> None:
    """Write ``operative_configs.txt`` and ``inoperative_configs.txt``: which values were used, and which were not.

    If the disk does not take them, that is told; it is no reason to end a training.
    """
    for kind, configs in (("operative", config_util.get_operative_configs()),
                          ("inoperative", config_util.get_inoperative_configs())):
        path = pathlib.Path(root_dir, f"{kind}_configs.txt")
        try:
            path.write_text(_told_configs(configs), encoding="utf-8")
        except OSError as error:
            logging.warning("%s cannot be written: %s", path, error)


def read_configs(root_dir: str) -> Dict[str, str]:
    """Return ``{name: value}`` of the ``operative_configs.txt`` of a run, values in words; empty if there is none."""
    path = pathlib.Path(root_dir, "operative_configs.txt")
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError):
        return {}
    found = _CONFIG_LINE.findall(text)
    return {name: _ADDRESS.sub("", value.rstrip("\n")) for name, value in found}


def tell_changed_configs(root_dir: str, before: Dict[str, str]) -> None:
    """Log which values are others than at an earlier start, wherever they are set: conf, imports, command line.

    Args:
        root_dir: directory of the run, whose ``operative_configs.txt`` is of now.
        before: what :func:`read_configs` returned at the earlier start. Names that only one of both has are passed
            over: not every start gets to use all.
    """
    if not before:
        return
    now = read_configs(root_dir)
    changes = [f"  {name}: {before[name]} -> {value}" for name, value in sorted(now.items())
               if before.get(name, value) != value]
    if changes:
        logging.warning("the run goes on with other settings than before:\n%s", "\n".join(changes))


def _told_configs(configs: Iterable[Tuple[str, Any]]) -> str:
    return "".join(f"{name} = {value!r}\n" for name, value in configs)


def command_line() -> str:
    """Return the command of this process as one would type it."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    program = ["-m", spec.name] if spec is not None and spec.name else sys.argv[:1]
    return " ".join(shlex.quote(argument) for argument in ["python", *program, *sys.argv[1:]])


def _versions() -> Dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
