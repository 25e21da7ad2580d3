"""Runs the real commands quickly: a server imports everything once and forks a process for each command."""

import contextlib
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time

import psutil
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).parents[2]


class Command:
    """A command that runs, or has run, in a session of its own."""

    def __init__(self, server, pid: int, stdout: str, stderr: str):
        self._server = server
        self.pid = pid
        self._stdout, self._stderr = stdout, stderr

    @property
    def stdout(self) -> str:
        return _read(self._stdout)

    @property
    def stderr(self) -> str:
        return _read(self._stderr)

    def wait(self, timeout: float = 60.0) -> int:
        """Return the exit code, negative for a signal."""
        code = self._server.request(op="wait", pid=self.pid, timeout=timeout)
        assert code is not None, f"still running after {timeout} s:\n{self.stderr}"
        return code

    def wait_for(self, condition, timeout: float = 60.0) -> None:
        """Wait until ``condition()`` is true, while the command runs."""
        end = time.monotonic() + timeout
        while not condition():
            running = psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
            assert running and time.monotonic() < end, f"it did not happen:\n{self.stderr}"
            time.sleep(0.02)

    def assert_nobody_left(self) -> None:
        """Wait until the last process of the session has ended, which must be soon."""
        end = time.monotonic() + 5
        while session_processes(self.pid) and time.monotonic() < end:
            time.sleep(0.02)
        assert not session_processes(self.pid)

    def wait_for_checkpoint(self, root_dir, at_least: int = 1) -> None:
        """Wait until the run has a checkpoint of that iteration or a later one."""
        self.wait_for(lambda: checkpoints(root_dir)[-1:] >= [at_least])

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _read(path: str) -> str:
    file = pathlib.Path(path)
    return file.read_text(errors="replace") if file.exists() else ""  # it may have only just been started


def session_processes(session: int) -> list:
    """Return the processes of a session that live, zombies not counted."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def checkpoints(root_dir) -> list:
    """Return the iterations of the checkpoints of a run, ascending."""
    names = [path.name for path in pathlib.Path(root_dir, "train", "algorithm").glob("ckpt-*")]
    return sorted(int(name.removeprefix("ckpt-")) for name in names)


def records(root_dir, kind: str = "train") -> list:
    """Return the lines of a run's ``metrics.jsonl``."""
    return [json.loads(line) for line in pathlib.Path(root_dir, kind, "metrics.jsonl").read_text().splitlines()]


def final_state(root_dir) -> dict:
    """Return every tensor and number of the last checkpoint of a run, time aside."""
    state = {}
    for path in pathlib.Path(root_dir, "train", "algorithm", f"ckpt-{checkpoints(root_dir)[-1]}").iterdir():
        if path.suffix == ".safetensors":
            state.update((f"{path.name}/{name}", tensor) for name, tensor in load_file(path).items())
        elif path.name != "manifest.json":
            state[path.name] = json.loads(path.read_text())
    state["trainer_progress.json"] = {
        name: value for name, value in state["trainer_progress.json"].items() if name != "seconds"}
    return state


class CommandServer:
    """Starts commands; to be used as a context.

    Args:
        folder: for their output.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._num_commands = 0
        self._sessions = []

    def __enter__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         env=environment, text=True)
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        for session in self._sessions:  # of tests that failed
            for process in session_processes(session):
                process.kill()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def request(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, module: str, *arguments, cwd=None, stdout=None, stderr=None, **environment) -> Command:
        """Start ``python -m alf.bin.<module>`` with the arguments.

        Args:
            module: name of the command.
            arguments: of the command line.
            cwd: working directory.
            stdout: path of the standard output, e.g. a named pipe.
            stderr: the same of the standard error.
            environment: variables to set.
        """
        self._num_commands += 1
        out, err = (str(self._folder / f"{self._num_commands}.{end}") for end in ("out", "err"))
        out, err = stdout or out, str(stderr or err)
        pid = self.request(op="start", module=f"alf.bin.{module}", arguments=[str(a) for a in arguments],
                           cwd=str(cwd or self._folder), stdout=str(out), stderr=err, environment=environment)
        self._sessions.append(pid)
        return Command(self, pid, str(out), err)

    def run(self, module: str, *arguments, **kwargs) -> Command:
        """Run a command to its end; ``code`` of what is returned is its exit code."""
        command = self.start(module, *arguments, **kwargs)
        command.code = command.wait()
        return command


def _serve() -> None:
    import safetensors.torch  # noqa: F401
    import tensorboard.compat.proto.event_pb2  # noqa: F401
    import torch.utils.tensorboard.summary  # noqa: F401

    import alf.algorithms.agent
    import alf.algorithms.ppo_algorithm
    import alf.trainers.policy_trainer  # noqa: F401
    for line in sys.stdin:
        request = json.loads(line)
        answer = _start(request) if request["op"] == "start" else _wait(request["pid"], request["timeout"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _start(request) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    for descriptor, path, mode in ((0, os.devnull, os.O_RDONLY),
                                   (1, request["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                                   (2, request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        opened = os.open(path, mode, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    sys.argv = [request["module"], *request["arguments"]]
    sys.path[0] = ""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    code = 1
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    import atexit
    import multiprocessing.util
    import threading
    threading._shutdown()
    multiprocessing.util._exit_function()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120  # what Python itself makes of it
    os._exit(code)


def _wait(pid: int, timeout: float):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


if __name__ == "__main__":
    _serve()
