"""The jobs of the training benchmark, who can do them, and the command that makes each of them do one."""

import dataclasses
import os
import pathlib
import sys
from typing import Any, Dict, List, Optional, Tuple

from benchmarks import _marks, _peers, _report

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Job:
    """A training run that every candidate does with the same settings."""

    name: str
    task: str  # what the scripts of peers call it; jobs with the same task differ in threads
    title: str
    conf: str  # of ours, in `confs`
    threads: int = 1  # and cores
    steps_per_iteration: int = 1  # environment steps
    updates_per_iteration: int = 1  # optimizer steps
    interval: int = 1  # iterations between two lines of our metrics; the warm-up is the first interval
    num_intervals: int = 1  # that are measured, after the warm-up
    threshold: Optional[float] = None  # a mean return that ends the run; None: the speed is measured
    window_episodes: int = 10  # that the return is a mean of

    @property
    def measures_speed(self) -> bool:
        """Whether it measures speed, rather than the time to a return."""
        return self.threshold is None

    @property
    def num_iterations(self) -> int:
        """Iterations of the run, warm-up included; where it ends with a threshold, at most."""
        return self.interval * (1 + self.num_intervals)

    def scaled(self, scale: float) -> "Job":
        """Return the job with another length of what is measured, at least one interval.

        Args:
            scale: factor.
        """
        return dataclasses.replace(self, num_intervals=max(1, round(self.num_intervals * scale)))


_SAC = dict(task="sac_halfcheetah", conf="sac_halfcheetah_conf.py", interval=200, num_intervals=3)
JOBS = {job.name: job for job in (
    Job(name="sac1", title="SAC, HalfCheetah-v5, 1 thread", threads=1, **_SAC),
    Job(name="sac2", title="SAC, HalfCheetah-v5, 2 threads", threads=2, **_SAC),
    Job(name="dqn", task="dqn_cart_pole", title="DQN, CartPole-v1", conf="dqn_cart_pole_conf.py",
        steps_per_iteration=256, updates_per_iteration=128, interval=16, num_intervals=3),
    Job(name="ppo", task="ppo_cart_pole", title="PPO, CartPole-v1", conf="ppo_cart_pole_conf.py",
        steps_per_iteration=256, updates_per_iteration=20, interval=16, num_intervals=4),
    Job(name="ppo_halfcheetah", task="ppo_halfcheetah", title="PPO, HalfCheetah-v5", conf="ppo_halfcheetah_conf.py",
        steps_per_iteration=2048, updates_per_iteration=320, interval=2, num_intervals=3),
    Job(name="ppo_pong", task="ppo_pong", title="PPO, Pong, 2 threads", conf="ppo_pong_conf.py", threads=2,
        steps_per_iteration=1024, updates_per_iteration=16, num_intervals=2),
    Job(name="ppo_large", task="ppo_large_batch", title="PPO, 4096 native CartPoles",
        conf="ppo_large_batch_conf.py", steps_per_iteration=4096 * 64, updates_per_iteration=8, interval=2,
        num_intervals=4),
    Job(name="pendulum", task="sac_pendulum", title="SAC, Pendulum-v1, to -200", conf="sac_pendulum_conf.py",
        interval=50, num_intervals=159, threshold=-200.0),
)}


class Candidate:
    """One who does jobs: a command line for each, and marks to read after it.

    Args:
        name: in tables.
        tasks: those it can do; None: all.
        versions: of what it is made of.
    """

    #: Whether it imports this checkout.
    has_alf = False

    def __init__(self, name: str, tasks: Optional[Tuple[str, ...]], versions: Dict[str, str]):
        self.name = name
        self.versions = versions
        self._tasks = tasks

    def does(self, job: Job) -> bool:
        """Return whether it can do a job."""
        return self._tasks is None or job.task in self._tasks

    def command(self, job: Job, seed: int, folder: pathlib.Path) -> List[str]:
        """Return the command that does a job.

        Args:
            job: what to do.
            seed: of the run.
            folder: an empty one, for what the run writes.
        """
        raise NotImplementedError

    def marks(self, job: Job, folder: pathlib.Path) -> List[_marks.Mark]:
        """Return the marks of a run, as far as it is.

        Args:
            job: what was done.
            folder: as given to :meth:`command`.
        """
        raise NotImplementedError

    def stops_itself(self, job: Job) -> bool:
        """Return whether a run ends by itself at a threshold."""
        return True


class Alf(Candidate):
    """This checkout, through the command that users type.

    Args:
        name: in tables.
        tasks: those it does; None: all.
        settings: of ``TrainerConfig``, beside those of a job's conf.
    """

    has_alf = True

    def __init__(self, name: str = "alf", tasks: Optional[Tuple[str, ...]] = None, **settings: Any):
        super().__init__(name, tasks, _report.versions(sys.executable, _report.DISTRIBUTIONS))
        self._settings = settings

    def command(self, job: Job, seed: int, folder: pathlib.Path) -> List[str]:
        """Return the command, see :meth:`Candidate.command`."""
        settings = {"random_seed": seed, "num_iterations": job.num_iterations, "summary_interval": job.interval,
                    **self._settings}
        params = [word for name, value in settings.items()
                  for word in ("--conf_param", f"TrainerConfig.{name}={value!r}")]
        return [sys.executable, "-m", "alf.bin.train", "--conf", str(HERE / "confs" / job.conf),
                "--root_dir", str(folder / "run"), "--num_threads", str(job.threads), *params]

    def marks(self, job: Job, folder: pathlib.Path) -> List[_marks.Mark]:
        """Return the marks in the metrics of the run, see :meth:`Candidate.marks`."""
        path = folder / "run" / "train" / "metrics.jsonl"
        return _marks.read_metrics(path, job.updates_per_iteration, job.window_episodes)

    def stops_itself(self, job: Job) -> bool:
        """Return False where there is a threshold, which is not known to the command."""
        return job.measures_speed


class Peer(Candidate):
    """A package in an environment of its own, through a job script.

    Args:
        name: in tables.
        python: interpreter of that environment.
        script: see ``peers/_job.py``.
        options: further arguments of the script.
        tasks: those the script knows; None: all.
        versions: of what is installed there.
    """

    def __init__(self, name: str, python: str, script: str, options: Tuple[str, ...] = (),
                 tasks: Optional[Tuple[str, ...]] = None, versions: Optional[Dict[str, str]] = None):
        super().__init__(name, tasks, versions or {})
        self._python, self._script, self._options = python, script, options

    def command(self, job: Job, seed: int, folder: pathlib.Path) -> List[str]:
        """Return the command, see :meth:`Candidate.command`."""
        arguments = {"seed": seed, "threads": job.threads, "out": folder / "marks.json",
                     "warm_up_steps": job.interval * job.steps_per_iteration,
                     "total_steps": job.num_iterations * job.steps_per_iteration}
        if not job.measures_speed:
            arguments.update(threshold=job.threshold, window_episodes=job.window_episodes)
        return [self._python, self._script, job.task, *(f"--{name}={value}" for name, value in arguments.items()),
                *self._options]

    def marks(self, job: Job, folder: pathlib.Path) -> List[_marks.Mark]:
        """Return the marks that the script wrote, see :meth:`Candidate.marks`."""
        return _marks.read_peer_marks(folder / "marks.json")


def compiled_alf() -> Alf:
    """Return this checkout with compiled updates, for the jobs whose speed is measured and that are eager else."""
    return Alf("alf-compiled", ("sac_halfcheetah", "dqn_cart_pole", "ppo_cart_pole", "ppo_halfcheetah"),
               compile="default")


class Bare(Peer):
    """Jobs written out without a framework, the floor: ``peers/run_bare.py``."""

    has_alf = True

    def __init__(self):
        super().__init__("bare", sys.executable, str(HERE / "peers" / "run_bare.py"),
                         tasks=("ppo_cart_pole", "sac_halfcheetah", "dqn_cart_pole"), versions=Alf().versions)


_STABLE_BASELINES = ("sac_halfcheetah", "sac_pendulum", "dqn_cart_pole", "ppo_cart_pole", "ppo_halfcheetah")
# name -> arguments of Peer.
_PEERS: Dict[str, Dict[str, Any]] = {
    "sb3": {"script": "run_sb3.py", "tasks": (*_STABLE_BASELINES, "ppo_pong")},
    "sbx": {"script": "run_sb3.py", "options": ("--jax", ), "tasks": _STABLE_BASELINES},
    "torchrl": {"script": "run_torchrl.py", "tasks": ("sac_halfcheetah", "dqn_cart_pole", "ppo_cart_pole")},
    "tianshou": {"script": "run_tianshou.py", "tasks": ("dqn_cart_pole", )},
    "cleanrl": {"script": "run_cleanrl.py", "tasks": ("sac_halfcheetah", "dqn_cart_pole", "ppo_cart_pole")},
}
_CHECKOUT = "ALF_BENCH_CLEANRL_CHECKOUT"  # CleanRL is no package


def find_peers(folder: Optional[str]) -> Tuple[List[Candidate], List[str]]:
    """Return the peers that are installed, and a line for each that is not.

    Args:
        folder: of virtual environments, see :func:`benchmarks._peers.find`.
    """
    places, left_out = _peers.find(folder, list(_PEERS))
    found: List[Candidate] = []
    for name, (python, versions) in places.items():
        arguments = {**_PEERS[name], "script": str(HERE / "peers" / _PEERS[name]["script"])}
        if name == "cleanrl":
            checkout = os.path.abspath(os.environ.get(_CHECKOUT, "-"))
            if not os.path.isfile(os.path.join(checkout, "cleanrl", "ppo.py")):
                left_out.append(f"cleanrl is left out: there is no {checkout}/cleanrl/ppo.py. Set {_CHECKOUT}=DIR, "
                                "where CleanRL is checked out.")
                continue
            arguments["options"] = (f"--checkout={checkout}", )
            versions["cleanrl"] = _report.commit(checkout) or "unknown"
        found.append(Peer(name, python, versions=versions, **arguments))
    return found, left_out


def added_peer(text: str) -> Candidate:
    """Return the candidate that ``--add NAME=PYTHON:SCRIPT`` names.

    Args:
        text: what follows ``--add``.
    Raises:
        ValueError: if it is not of that form, or a file does not exist.
    """
    name, _, rest = text.partition("=")
    python, _, script = rest.partition(":")
    if not (name and os.path.isfile(python) and os.path.isfile(script)):
        raise ValueError(f"--add {text}: expected NAME=PYTHON:SCRIPT with an interpreter and a job script that exist.")
    return Peer(name, os.path.abspath(python), os.path.abspath(script))
