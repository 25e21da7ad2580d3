"""Processes that Ray places on the machines of a cluster."""

import importlib
import os
import socket
import subprocess
import sys
import uuid
from typing import Dict, List, Optional

from absl import logging

from alf._install import how_to_install
from alf.scale_out._bound_process import bound_command
from alf.scale_out._members import LOST, Members

_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_PLACE = 60.0
_TOKEN_FILE = ".together"


class Cluster:
    """A Ray cluster, to be used as a context.

    Args:
        address: of the cluster; None: one of this machine alone, which ends with this process.
    """

    def __init__(self, address: Optional[str]):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray = importlib.import_module("ray")
        except ImportError:
            raise ImportError(f"--distributed=ray needs Ray: {how_to_install('ray')}.") from None
        self._address = address

    def __enter__(self):
        try:
            self._check_reachable()
            self._ray.init(address=self._address, log_to_driver=False, logging_level="ERROR")
        except OSError as error:
            raise ValueError(f"--ray_address={self._address}: expected the address of a Ray cluster that runs, such as "
                             f"'auto' on one of its machines, got: {error}") from None
        return self

    def _check_reachable(self) -> None:
        """Raise OSError if nothing listens at the address: Ray itself would try for more than a minute."""
        host, _, port = (self._address or "").rpartition(":")
        if host and port.isdecimal() and "/" not in host:
            socket.create_connection((host, int(port)), timeout=_SECONDS_TO_CONNECT).close()

    def __exit__(self, exc_type, exc_value, traceback):
        self._ray.shutdown()

    @property
    def _resource(self) -> str:
        return "GPU" if self._ray.cluster_resources().get("GPU") else "CPU"

    @property
    def num_places(self) -> int:
        """How many processes the machines that are there can hold: one a GPU or, where there is none, a CPU."""
        return int(self._ray.cluster_resources().get(self._resource, 0))

    def members(self, num_processes: int, root_dir: str) -> Members:
        """Return processes to be started, as many as find a place.

        Args:
            num_processes: how many to begin with.
            root_dir: directory of the run, which all machines share.
        """
        return _RayMembers(self._ray, self._resource, num_processes, root_dir)


class _Place:
    """What holds a process on its machine, as an actor of Ray: it ends with the place."""

    def __init__(self):
        self._process: Optional[subprocess.Popen] = None

    def node(self) -> str:
        """Return the address of the machine."""
        import ray
        return ray.util.get_node_ip_address()

    def run(self, token_file: str, token: str, arguments: List[str], environment: Dict[str, str], folder: str,
            console: str) -> int:
        """Run a process to its end, and return its exit code.

        Args:
            token_file: shows that this machine has the directory of the run.
            token: its content.
            arguments: of the command line.
            environment: variables to set.
            folder: working directory.
            console: file to which it prints.
        """
        if _content(token_file) != token:
            raise FileNotFoundError(
                f"--root_dir {os.path.dirname(token_file)}: expected a directory that all machines of the cluster "
                f"share, but {self.node()} does not see what was written there.")
        with open(console, "ab") as output:
            self._process = subprocess.Popen(
                bound_command("alf.bin.train", *arguments), cwd=folder if os.path.isdir(folder) else None,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, **environment})
        return self._process.wait()

    def send_signal(self, number: int) -> None:
        """Send the process a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)


def _content(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


class _RayMembers(Members):
    """Processes in places of Ray, spread over its machines. What the first prints is passed on."""

    def __init__(self, ray, resource: str, num_processes: int, root_dir: str):
        super().__init__(num_processes, root_dir, ray.util.get_node_ip_address())
        self._ray = ray
        self._resource = resource
        self._places: list = []
        self._runs: list = []  # what each place will return
        self._codes: List[Optional[int]] = []
        self._num_bytes_told = 0

    def __enter__(self):
        places = self._made_places()
        self.num_processes = len(places)
        token_file, token = os.path.join(self._root_dir, _TOKEN_FILE), uuid.uuid4().hex
        console = self._console(0)
        self._num_bytes_told = os.path.getsize(console)
        with open(token_file, "w", encoding="utf-8") as file:
            file.write(token)
        for rank, place in enumerate(places):
            # Ray shows a process only its own GPU, which is then the first.
            self._runs.append(place.run.remote(token_file, token, sys.argv[1:], self._environment(rank, 0), os.getcwd(),
                                               self._console(rank)))
        self._places, self._codes = places, [None] * len(places)
        return self

    def _made_places(self) -> list:
        """Return the places that could be had."""
        options = {"num_cpus": 1, "max_concurrency": 3, "scheduling_strategy": "SPREAD"}
        if self._resource == "GPU":
            options["num_gpus"] = 1
        make = self._ray.remote(_Place).options(**options).remote
        answers = {place.node.remote(): place for place in [make() for _ in range(self.num_processes)]}
        self._ray.wait(list(answers), num_returns=len(answers), timeout=_SECONDS_TO_PLACE)
        places, nodes = [], []
        for answer, place in answers.items():
            try:
                nodes.append(self._ray.get(answer, timeout=0))
                places.append(place)
            except self._ray.exceptions.RayError:  # not given yet, or on a machine that is found lost only now
                self._ray.kill(place)
        if not places:
            raise RuntimeError(f"--distributed=ray: the cluster gave no place for a process within "
                               f"{_SECONDS_TO_PLACE:g} s: each needs a CPU"
                               f"{' and a GPU' if self._resource == 'GPU' else ''}. See: ray status")
        logging.info("processes on %s", ", ".join(nodes))
        return places

    def codes(self) -> List[Optional[int]]:
        self._pass_on_output()
        running = [run for run, code in zip(self._runs, self._codes, strict=True) if code is None]
        ended, _ = self._ray.wait(running, num_returns=len(running), timeout=0) if running else ([], [])
        for reference in ended:
            self._codes[self._runs.index(reference)] = self._code(reference)
        return self._codes

    def _code(self, reference) -> int:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            logging.warning("a place of Ray is lost: %s", str(error).strip().splitlines()[0])
            return LOST

    def _pass_on_output(self) -> None:
        with open(self._console(0), "ab+") as file:
            file.seek(self._num_bytes_told)
            printed = file.read()
        self._num_bytes_told += len(printed)
        sys.stdout.write(printed.decode(errors="replace"))
        sys.stdout.flush()

    def send_signal(self, number: int) -> None:
        for place, code in zip(self._places, self._codes, strict=True):
            if code is None:
                place.send_signal.remote(number)

    def kill(self) -> None:
        for place in self._places:
            self._ray.kill(place)
        if self._places:
            self._pass_on_output()
        self._places = []
