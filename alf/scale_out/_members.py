"""Members: the processes that train together, wherever they run, and what they are started with."""

import abc
import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import Dict, Iterator, List, Optional, Tuple

import torch.distributed as dist
from absl import logging

from alf.scale_out._bound_process import bound_command
from alf.trainers._joint_training import process_dir
from alf.trainers._run_directory import RunDirectoryError
from alf.utils import distributed

MEMORY_VARIABLE = "ALF_EXCHANGE_MEMORY"  # descriptor of what the processes of one machine share

# Instead of an exit code: the machine, or what held the process there, is gone.
LOST = -signal.SIGKILL


class Members(abc.ABC):
    """The processes, in the order of their ranks; to be used as a context, after which none is left.

    Args:
        num_processes: how many.
        root_dir: directory of the run.
        host: address of this machine, at which they meet.
    """

    def __init__(self, num_processes: int, root_dir: str, host: str):
        self.num_processes = num_processes
        self._root_dir = root_dir
        # Here rather than in the first process: the system chooses a port that is free, and it stays ours. The store
        # itself would listen on all addresses.
        listener = socket.create_server((host, 0))
        self._store = dist.TCPStore(host, listener.getsockname()[1], is_master=True, wait_for_workers=False,
                                    master_listen_fd=listener.detach())
        self._host = host

    @property
    def meeting_point(self) -> str:
        """Where they meet, for people."""
        return f"port {self._store.port} of {self._host}"

    def _environment(self, rank: int, local_rank: int) -> Dict[str, str]:
        """Return the variables that tell a process which one it is."""
        return {
            "RANK": str(rank), "LOCAL_RANK": str(local_rank), "WORLD_SIZE": str(self.num_processes),
            "MASTER_ADDR": self._host, "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is ours, none is to make its own
        }

    def _console(self, rank: int) -> str:
        """Return the file to which a process prints; it is made if it is not there.

        Raises:
            RunDirectoryError: if it cannot be written.
        """
        path = os.path.join(process_dir(self._root_dir, rank), "console.log")
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "ab").close()
        except OSError as error:
            raise RunDirectoryError(f"{path}: cannot be written: {error}. Choose another --root_dir.") from None
        return path

    def last_lines(self, rank: int, number: int) -> Tuple[str, List[str]]:
        """Return the file to which a process prints, and its last lines."""
        path = self._console(rank)
        with open(path, encoding="utf-8", errors="replace") as file:
            return path, file.read().splitlines()[-number:]

    @abc.abstractmethod
    def __enter__(self):
        """Start them."""

    @abc.abstractmethod
    def codes(self) -> List[Optional[int]]:
        """Return the exit code of each: None if it runs, negative for a signal, :data:`LOST`."""

    @abc.abstractmethod
    def send_signal(self, number: int) -> None:
        """Send a signal to those that run."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Kill those that run, and wait for them."""

    def __exit__(self, exc_type, exc_value, traceback):
        self.kill()


@contextlib.contextmanager
def _shared_memory(num_processes: int) -> Iterator[List[int]]:
    """Context with the descriptor of memory that processes may share; of none where the extension is not built.

    It has no name, and is gone with the last process.
    """
    size = distributed.shared_memory_bytes(num_processes)
    if size is None:
        logging.info("the extension alf._exchange is not built: processes exchange with gloo, which takes longer")
        yield []
        return
    descriptor = os.memfd_create("alf-exchange")
    try:
        os.ftruncate(descriptor, size)
        yield [descriptor]
    finally:
        os.close(descriptor)


class LocalMembers(Members):
    """Processes of this machine. The first has this one's output. All end with this one, however that ends."""

    def __init__(self, num_processes: int, root_dir: str):
        super().__init__(num_processes, root_dir, "127.0.0.1")
        self._processes: List[subprocess.Popen] = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            descriptors = stack.enter_context(_shared_memory(self.num_processes))
            consoles = [stack.enter_context(open(self._console(rank), "ab")) for rank in range(1, self.num_processes)]
            for rank, output in enumerate([None, *consoles]):
                self._start(rank, output, descriptors)
        return self

    def _start(self, rank: int, output, descriptors: List[int]) -> None:
        # In process groups of their own, so that Ctrl-C comes from here and not twice.
        self._processes.append(subprocess.Popen(
            bound_command("alf.bin.train", *sys.argv[1:]),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0,
            pass_fds=descriptors,
            env={**os.environ, **self._environment(rank, rank), MEMORY_VARIABLE: " ".join(map(str, descriptors))}))

    def codes(self) -> List[Optional[int]]:
        return [process.poll() for process in self._processes]

    def send_signal(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
