"""Kills trainers at random moments, damages their checkpoints: what is lost, how long until training goes on."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import time
from typing import Any, Dict, Iterable, Iterator, List

import absl.logging
import psutil

from alf.utils import _checkpoint_files as files
from alf.utils.checkpoint_utils import Checkpointer, CheckpointError

TESTS = pathlib.Path(__file__).resolve().parents[1] / "tests" / "bin"
_ENDLESS = {"num_iterations": 10**9, "num_checkpoints": 10**9, "num_checkpoints_to_keep": 5, "summary_interval": 20}
RUNS = {
    "PPO, 2 worker processes, evaluation": ("tiny_conf.py", {
        **_ENDLESS, "evaluate": True, "eval_interval": 20, "num_eval_episodes": 2
    }, {"create_environment.num_workers": 2}, ()),
    "SAC, replay buffer in checkpoints": ("off_policy_conf.py", _ENDLESS, {}, ()),
    "DQN in 2 processes, replay buffers in checkpoints": ("off_policy_conf.py", _ENDLESS, {
        "_CONFIG._USER.method": "dqn"
    }, ("--distributed", "multi-cpu", "--num_processes", "2")),
}
_RECOVERY_SECONDS = 120.0  # after which a start counts as failed
_ORPHAN_SECONDS = 5.0


def command_line() -> Any:
    """Return the module with which the tests start the real commands from a process that has imported everything."""
    if "command_line" not in sys.modules:
        spec = importlib.util.spec_from_file_location("command_line", TESTS / "command_line.py")
        sys.modules["command_line"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["command_line"])
    return sys.modules["command_line"]


def verified_bytes(path: str) -> int:
    """Return the size of a checkpoint of which every part was read and matches its checksum.

    Args:
        path: its directory.
    Raises:
        CheckpointError: if it is damaged.
    """
    manifest = files.read_manifest(path)
    for part in {name.partition(".")[0] for name in manifest["files"]}:
        files.read_part(path, manifest, part)
    return sum(seal["bytes"] for seal in manifest["files"].values())


def _listed_names() -> set:
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def used_names(processes: Iterable[psutil.Process]) -> set:
    """Return the names in shared memory that one of the processes has mapped or open.

    Args:
        processes: those that have ended meanwhile use none.
    """
    names, used = _listed_names(), set()
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            maps = pathlib.Path(f"/proc/{process.pid}/maps").read_text(errors="replace")
            opened = "\n".join(os.readlink(entry) for entry in pathlib.Path(f"/proc/{process.pid}/fd").iterdir())
            found = set(re.findall(r"/dev/shm/(.+?)(?: \(deleted\))?$", f"{maps}\n{opened}", re.MULTILINE))
            used |= names & found
    return used


def abandoned_names() -> set:
    """Return the names in shared memory that no living process has mapped or open: nobody will remove them."""
    return _listed_names() - used_names(psutil.process_iter())


def left_names(own: set, process_ids: Iterable[int]) -> set:
    """Return the abandoned names that are those of a run: the machine has other processes, which leave theirs.

    Args:
        own: names that processes of the run were seen to use.
        process_ids: of the run; a name that holds one as a number is the run's, too, as PyTorch's are.
    """
    ids = set(map(str, process_ids))
    return {name for name in abandoned_names() if name in own or ids & set(re.findall(r"\d+", name))}


class _Run:
    """A run that is started and killed again and again."""

    def __init__(self, commands: Any, name: str, root_dir: pathlib.Path):
        conf, settings, others, flags = RUNS[name]
        params = {**{f"TrainerConfig.{key}": value for key, value in settings.items()}, **others}
        self._commands = commands
        self._arguments = ["train", "--conf", str(TESTS / conf), "--root_dir", str(root_dir), *flags]
        self._arguments += [word for key, value in params.items() for word in ("--conf_param", f"{key}={value!r}")]
        self._ckpt_dir = str(root_dir / "train" / "algorithm")
        self._name = name

    def kill_once(self, rng: random.Random) -> Dict[str, Any]:
        """Start, kill at a random moment, look at what is left, and return what was found.

        One kill in five is at a moment of the start, the others after the run has saved something new.
        """
        known = files.list_steps(self._ckpt_dir)
        began = time.monotonic()
        command = self._commands.start(*self._arguments)
        row = {"run": self._name, "while": "training", "recovery_seconds": None, "problems": []}
        if known and rng.random() < 0.2:
            row["while"] = "starting"
            time.sleep(rng.random() * 2.0)
        else:
            try:
                command.wait_for(lambda: files.list_steps(self._ckpt_dir)[-1:] > known[-1:], _RECOVERY_SECONDS)
            except (AssertionError, OSError) as error:
                row["problems"].append(f"no new checkpoint: {error}"[:2000])
            row["recovery_seconds"] = time.monotonic() - began
            if known and f"resumed from iteration {known[-1]} of " not in command.stderr:
                row["problems"].append(f"it did not resume from iteration {known[-1]}: {command.stderr[-500:]}")
            if "new episodes begin" in command.stderr:  # a part of the checkpoint was missing
                row["problems"].append(f"it did not go on where it was: {command.stderr[-500:]}")
            time.sleep(rng.random() * 0.6)
        complete = files.list_steps(self._ckpt_dir)[-1:]  # renamed into place, so it must be whole
        processes = command_line().session_processes(command.pid)
        own = used_names(processes)
        with contextlib.suppress(ProcessLookupError):
            command.send_signal(signal.SIGKILL)
        command.wait(30)
        row["orphans"], row["orphan_seconds"] = self._orphans(command.pid)
        row["shared_names"] = len(left_names(own, [command.pid, *(process.pid for process in processes)]))
        row["lost_bytes"] = self._lost_bytes(complete, row["problems"])
        return row

    @staticmethod
    def _orphans(session: int) -> Any:
        began = time.monotonic()
        while command_line().session_processes(session):
            if time.monotonic() - began > _ORPHAN_SECONDS:
                return len(command_line().session_processes(session)), None
            time.sleep(0.01)
        return 0, time.monotonic() - began

    def _lost_bytes(self, complete: List[int], problems: List[str]) -> int:
        """Return the bytes of the checkpoint that was seen whole and is not any more, and note what is wrong."""
        steps = files.list_steps(self._ckpt_dir)
        if not steps:
            if complete:
                problems.append("all checkpoints are gone")
            return 0
        if complete and steps[-1] < complete[-1]:
            problems.append(f"checkpoint {complete[-1]} is gone")
        newest = files.checkpoint_path(self._ckpt_dir, steps[-1])
        try:
            verified_bytes(newest)
            return 0
        except CheckpointError as error:
            problems.append(f"the newest checkpoint cannot be loaded: {error}")
            return sum(path.stat().st_size for path in pathlib.Path(newest).iterdir())


def kill(num_kills: int, folder: pathlib.Path, seed: int) -> Iterator[Dict[str, Any]]:
    """Yield what was found after each kill of a trainer.

    Args:
        num_kills: how many; the runs take turns.
        folder: for the runs, which are left there.
        seed: of the moments.
    """
    rng = random.Random(seed)
    (folder / "output").mkdir(parents=True, exist_ok=True)
    with command_line().CommandServer(folder / "output") as commands:
        runs = [_Run(commands, name, folder / f"run{i}") for i, name in enumerate(RUNS)]
        for number in range(num_kills):
            yield runs[number % len(runs)].kill_once(rng)


# ---- damage ------------------------------------------------------------------------------------------------------

DAMAGES = ("flip", "flip", "flip", "truncate", "truncate", "empty", "remove")


def damage(path: pathlib.Path, how: str, rng: random.Random) -> str:
    """Damage a file, and return how, in words.

    Args:
        path: of the file.
        how: one of DAMAGES.
        rng: chooses bit or length.
    """
    size = path.stat().st_size
    if how == "flip":
        position, bit = rng.randrange(size), rng.randrange(8)
        with open(path, "r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ (1 << bit)]))
        return f"bit {bit} of byte {position} of {path.name}"
    if how == "remove":
        path.unlink()
        return f"{path.name} removed"
    length = 0 if how == "empty" else rng.randrange(size)
    os.truncate(path, length)
    return f"{path.name} cut to {length} of {size} bytes"


class _Sink:
    """Takes whatever a checkpoint holds."""

    def state_dict(self) -> Dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        self.loaded = state


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Context in which nothing is logged: every damage is told, loudly."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.FATAL)
    try:
        yield
    finally:
        absl.logging.set_verbosity(verbosity)


def damage_checkpoints(num_damages: int, run: pathlib.Path, folder: pathlib.Path,
                       seed: int) -> Iterator[Dict[str, Any]]:
    """Yield what was found after each damage of the newest checkpoint of a copy of a run.

    Args:
        num_damages: how many.
        run: directory of a run with at least two checkpoints.
        folder: for the copies, which are removed.
        seed: of the choices.
    """
    rng = random.Random(seed)
    source = run / "train" / "algorithm"
    before, newest = files.list_steps(str(source))[-2:]
    for _ in range(num_damages):
        copy = folder / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        for step in (before, newest):
            shutil.copytree(source / f"ckpt-{step}", copy / f"ckpt-{step}")
        victim = rng.choice(sorted((copy / f"ckpt-{newest}").iterdir()))
        told = damage(victim, rng.choice(DAMAGES), rng)
        names = ("algorithm", "trainer_progress", "rng", "rollout", "metrics")
        with _silence():
            loaded = Checkpointer(str(copy), **{name: _Sink() for name in names}).load()
        yield {"damage": told, "detected": loaded == before}
    shutil.rmtree(folder / "damaged", ignore_errors=True)
