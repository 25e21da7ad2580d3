"""Candidates in processes of their own, which are measured in turn with others: see peers/_server.py."""

import json
import os
import pathlib
import select
import subprocess
import tempfile
from typing import Any, Dict, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "benchmarks" / "peers"


class ServerError(RuntimeError):
    """A candidate could not do what was asked; the message has its own words."""


class ServerDied(ServerError):
    """The process ended, or answers no more."""


class Server:
    """A process that measures a candidate.

    Args:
        name: of the candidate.
        python: its interpreter.
        script: name of a script in ``peers``.
        has_alf: whether it imports this checkout.
        threads: of the numeric libraries.
        timeout: seconds after which an answer does not come.
    """

    def __init__(self, name: str, python: str, script: str, has_alf: bool = False, threads: int = 1,
                 timeout: float = 180.0):
        self.name = name
        self._timeout = timeout
        self._told = tempfile.TemporaryFile()  # what it prints, for errors
        environment = {**os.environ, "PYTHONPATH": str(ROOT) if has_alf else "", "PYTHONWARNINGS": "ignore",
                       "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "",
                       "JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            [python, str(SCRIPTS / script), name], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._told, start_new_session=True)

    def open(self, case: str) -> str:
        """Return a text about the case, which is then ready to be measured.

        Args:
            case: its name.
        Raises:
            ServerError: if the candidate cannot do it.
        """
        return self._ask({"open": case})["note"]

    def measure(self, seconds: float) -> float:
        """Return a figure of the open case, measured for about ``seconds``.

        Raises:
            ServerError: if that failed.
        """
        return float(self._ask({"measure": seconds})["value"])

    def shut(self) -> None:
        """Free the open case.

        Raises:
            ServerError: if that failed.
        """
        self._ask({"close": True})

    def close(self, patience: float = 5.0) -> None:
        """End the process, and those that it started.

        Args:
            patience: seconds that it has to end by itself.
        """
        if self._process.poll() is None:
            self._process.stdin.close()
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self._process.pid, 9)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._process.stdout.close()
        self._told.close()

    def _ask(self, request: Dict[str, Any]) -> Dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise ServerDied(f"it ended: {self._last_line()}") from None
        if not select.select([self._process.stdout], [], [], self._timeout)[0]:
            raise ServerDied(f"no answer after {self._timeout:g} s: {self._last_line()}")
        line = self._process.stdout.readline()
        if not line:
            raise ServerDied(f"it ended: {self._last_line()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ServerError(answer["error"])
        return answer

    def _last_line(self) -> str:
        self._told.seek(0)
        lines = self._told.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it printed nothing"


class Peers:
    """The servers of some candidates, of which each is started when it is first needed.

    Args:
        servers: arguments of :class:`Server` by candidate.
    """

    def __init__(self, servers: Sequence[Dict[str, Any]]):
        self._arguments = {arguments["name"]: arguments for arguments in servers}
        self._running: Dict[str, Server] = {}
        self.failures: Dict[str, str] = {}  # "case, candidate" -> why

    def __enter__(self) -> "Peers":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for server in self._running.values():
            server.close()

    @property
    def arguments(self) -> Sequence[Dict[str, Any]]:
        """What the servers are made with."""
        return list(self._arguments.values())

    def open(self, case: str) -> Dict[str, Server]:
        """Return the candidates that are ready to measure a case; why others are not is in ``failures``.

        Args:
            case: its name.
        """
        ready = {}
        for name, arguments in self._arguments.items():
            if name not in self._running:
                self._running[name] = Server(**arguments)
            try:
                self._running[name].open(case)
                ready[name] = self._running[name]
            except ServerError as error:
                self.note_failure(case, name, error)
        return ready

    def note_failure(self, case: str, name: str, error: ServerError) -> None:
        """Remember why a candidate has no figure in a case, and give it a new process for the next if it died.

        Args:
            case: the case.
            name: of the candidate.
            error: what it said.
        """
        self.failures[f"{case}, {name}"] = str(error)
        if isinstance(error, ServerDied):
            self._running.pop(name).close(patience=0.0)
