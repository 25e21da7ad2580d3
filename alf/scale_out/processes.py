"""Training in several processes: starts them, ends all when one fails, and joins one of them to the others.

What a process is told are the environment variables of ``torchrun``, which can start the same training as well:
``torchrun --nnodes 2 --nproc_per_node 8 ... -m alf.bin.train --distributed multi-gpu ...``.
"""

import atexit
import contextlib
import datetime
import os
import signal
import time
from typing import Callable, ContextManager, Iterator, NamedTuple, Optional

import torch
import torch.distributed as dist
from absl import logging

from alf.scale_out._members import MEMORY_VARIABLE, LocalMembers, Members
from alf.trainers._joint_training import LOST_EXIT_CODE
from alf.trainers._signals import EXIT_CODES
from alf.utils import distributed
from alf.utils.per_process_context import PerProcessContext

_POLL_SECONDS = 0.05
_SECONDS_TO_END = 10.0  # for the others, after one has failed
_NUM_LINES_TOLD = 20  # of what a process that failed has printed


def is_member() -> bool:
    """Return whether this process was started as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join(kind: str, timeout_seconds: float) -> None:
    """Meet the other processes; from now on this one is one of them.

    Args:
        kind: ``"multi-gpu"``, ``"multi-cpu"`` or ``"ray"``.
        timeout_seconds: how long one may let the others wait.
    """
    backend = "gloo"
    if kind == "multi-gpu":
        _check_num_gpus(int(os.environ["LOCAL_RANK"]) + 1)
    if kind == "multi-gpu" or (kind == "ray" and torch.cuda.is_available()):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout_seconds))
    atexit.register(dist.destroy_process_group)  # its threads must end before the process does
    context = PerProcessContext()
    context.set_distributed(dist.get_rank(), dist.get_world_size())
    context.finalize()
    if context.ddp_rank == 0:
        logging.info("all %d processes have started", context.num_processes)
    memory = os.environ.pop(MEMORY_VARIABLE, "")  # not for processes that this one starts
    if memory:
        distributed.use_shared_memory(int(memory), timeout_seconds)
        os.close(int(memory))


def run_together(kind: str, num_processes: Optional[int], root_dir: str, max_restarts: Optional[int] = None,
                 ray_address: Optional[str] = None) -> int:
    """Run the command line of this process in several, and return the exit code: that of the first that fails.

    The first process has this one's output, the others write to ``<root_dir>/train/process<rank>/console.log``.
    Signals are passed on to all.

    Args:
        kind: ``"multi-gpu"``: each has a GPU; ``"multi-cpu"``; or ``"ray"``: where a cluster has room.
        num_processes: how many; None: as many as there are GPUs or, with Ray, places.
        root_dir: directory of the run.
        max_restarts: how often to start all again from the last checkpoint when one was killed or its machine is lost,
            with Ray in as many as still find a place; None: 0, with Ray 3.
        ray_address: of the cluster; None: one of this machine alone.
    Raises:
        ValueError: if there are not as many GPUs or places, or the number of processes on CPUs is not given.
        RunDirectoryError: if the directory cannot be written.
    """
    with _places(kind, num_processes, ray_address) as places, _Supervisor() as supervisor:
        wanted = num_processes or places.number()
        restarts_left = max_restarts if max_restarts is not None else 3 if kind == "ray" else 0
        while True:
            with places.members(max(1, min(wanted, places.number())), root_dir) as members:
                logging.info("starting %d processes, which meet at %s", members.num_processes, members.meeting_point)
                code = supervisor.wait(members)
            if code >= 0 or restarts_left == 0 or supervisor.was_asked_to_leave:
                return code if code >= 0 else 128 - code
            logging.warning("starting again from the last checkpoint; %d more times at most", restarts_left)
            restarts_left -= 1


class _Places(NamedTuple):
    """Where processes can run."""
    number: Callable[[], int]  # how many there are now
    members: Callable[[int, str], Members]  # makes so many, for the directory of a run


@contextlib.contextmanager
def _places(kind: str, num_processes: Optional[int], ray_address: Optional[str]) -> Iterator[_Places]:
    if kind == "ray":
        from alf.scale_out._ray_members import Cluster
        with Cluster(ray_address) as cluster:
            if cluster.num_places < (num_processes or 1):
                raise ValueError(f"--distributed=ray: expected a cluster with room for {num_processes} processes, got "
                                 f"{cluster.num_places} GPUs or, without any, CPUs. Use fewer --num_processes.")
            yield _Places(lambda: cluster.num_places, cluster.members)
        return
    if kind == "multi-gpu":
        _check_num_gpus(num_processes or 1)
        num_processes = num_processes or torch.cuda.device_count()
    elif num_processes is None:
        raise ValueError("--distributed=multi-cpu: expected --num_processes, the number of processes, got none.")
    elif num_processes > len(os.sched_getaffinity(0)):
        logging.warning("--num_processes=%d: there are only %d cores, for which the processes will wait. No more "
                        "processes than cores train quickest.", num_processes, len(os.sched_getaffinity(0)))
    yield _Places(lambda: num_processes, LocalMembers)


def _check_num_gpus(needed: int) -> None:
    found = torch.cuda.device_count()
    if found < needed:
        raise ValueError(f"--distributed=multi-gpu: expected at least {needed} GPUs, PyTorch finds {found}. Use fewer "
                         "--num_processes, or --distributed=multi-cpu.")


class _Supervisor(ContextManager):
    """Waits for processes, and passes signals on to them."""

    def __init__(self):
        self._num_times_asked_to_leave = 0
        self._members: Optional[Members] = None

    def __enter__(self):
        for number in (*EXIT_CODES, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        for number in EXIT_CODES:
            signal.signal(number, signal.SIG_DFL)

    @property
    def was_asked_to_leave(self) -> bool:
        """Whether a signal asked to leave."""
        return self._num_times_asked_to_leave > 0

    def _pass_on(self, number, frame) -> None:
        """Pass a signal on. Who asks a third time to leave is asked no more: a process may wait for one that hangs."""
        self._num_times_asked_to_leave += number in EXIT_CODES
        if self._members is not None:
            self._members.send_signal(signal.SIGKILL if self._num_times_asked_to_leave > 2 else number)

    def wait(self, members: Members) -> int:
        """Wait until all have ended; return the exit code of the first that failed by itself, or 0."""
        self._members = members
        end = float("inf")
        codes, failed, cause = [None], -1, 0
        while None in codes and time.monotonic() < end:
            codes = list(members.codes())
            failures = [(rank, code) for rank, code in enumerate(codes) if code]
            if failures and cause in (0, LOST_EXIT_CODE):
                # Who only misses another may end before that one does.
                failed, cause = min(failures, key=lambda failure: failure[1] == LOST_EXIT_CODE)
                if cause not in EXIT_CODES.values():  # who leaves as asked may take time to save
                    end = min(end, time.monotonic() + _SECONDS_TO_END)
            time.sleep(_POLL_SECONDS)
        self._members = None
        members.kill()
        if cause and cause not in EXIT_CODES.values():
            _tell_failure(members, failed, cause, codes[0])
        return cause


def _tell_failure(members: Members, rank: int, code: int, code_of_first: Optional[int]) -> None:
    """Tell how a process failed, unless the first process has told it, of itself or for the same reason."""
    if code > 0 and (rank == 0 or code == code_of_first == 2):
        return
    how = f"exit code {code}" if code > 0 else f"signal {-code} ({signal.strsignal(-code)})"
    told = f"process {rank} of {members.num_processes} ended with {how}, and the others with it."
    if rank > 0:
        console, lines = members.last_lines(rank, _NUM_LINES_TOLD)
        told += "\n".join(["", f"What it printed, in {console}:", *(f"  {line}" for line in lines)])
    logging.error("%s", told)
