"""Processes that train together: when one is lost, all end soon, with its exit code, and the checkpoint is good."""

import pathlib
import signal
import time

import psutil
import pytest
from command_line import checkpoints

CONF = pathlib.Path(__file__).parents[1] / "bin" / "tiny_conf.py"
SECONDS_TO_END = 60


def train(commands, root_dir, *flags, num_iterations=1000000):
    return commands.start("train", "--conf", CONF, "--root_dir", root_dir, "--distributed", "multi-cpu",
                          "--num_processes", 2, *flags, "--conf_param",
                          f"TrainerConfig.num_iterations={num_iterations}", "--conf_param",
                          f"TrainerConfig.num_checkpoints={num_iterations // 10}")


@pytest.fixture
def running(commands, tmp_path):
    """Return a run of two processes that has saved, and these, in the order of their ranks."""
    command = train(commands, tmp_path / "run", "--distributed_timeout_seconds", "8")
    command.wait_for_checkpoint(tmp_path / "run", at_least=20)
    members = [child for child in psutil.Process(command.pid).children() if "RANK" in child.environ()]
    return command, sorted(members, key=lambda process: int(process.environ()["RANK"]))


def assert_all_ended(members):
    """All have ended, or do at once."""
    gone, alive = psutil.wait_procs(members, timeout=3)
    assert not alive


def assert_goes_on(commands, root_dir):
    """The same command goes on from the last checkpoint."""
    command = train(commands, root_dir, "--num_threads", "1", num_iterations=20)
    assert command.wait() == 0, command.stderr
    assert "resumed from iteration" in command.stderr and "DAMAGED" not in command.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_all_end_with_one_that_was_killed(commands, tmp_path, running, rank):
    command, members = running
    began = time.monotonic()
    members[rank].kill()
    assert command.wait(SECONDS_TO_END) == 128 + signal.SIGKILL, command.stderr
    assert time.monotonic() - began < SECONDS_TO_END
    assert f"process {rank} of 2 ended with signal 9 (Killed), and the others with it." in command.stderr
    assert "Traceback" not in command.stderr
    assert_all_ended(members)
    assert_goes_on(commands, tmp_path / "run")


def test_all_end_with_one_that_hangs(commands, tmp_path, running):
    command, members = running
    members[1].suspend()
    assert command.wait(8 + SECONDS_TO_END) == 4, command.stderr
    assert "process 0 of 2: another process of this training has ended, or did not answer in time" in command.stderr
    assert_all_ended(members)
    assert_goes_on(commands, tmp_path / "run")


def test_all_end_with_the_command(running):
    command, members = running
    command.send_signal(signal.SIGKILL)
    command.wait()
    assert_all_ended(members)


def test_asked_thrice_to_leave_none_waits_for_one_that_hangs(running):
    command, members = running
    members[1].suspend()
    for _ in range(3):
        command.send_signal(signal.SIGINT)
        time.sleep(0.2)
    command.wait(5)
    assert_all_ended(members)


def test_an_error_of_one_is_told_with_what_it_printed(commands, tmp_path):
    conf = tmp_path / "failing_conf.py"
    conf.write_text(f"""
import os
import alf
alf.import_config({str(CONF)!r})
if os.environ["RANK"] == "1":
    raise ValueError("only here")
""")
    command = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run", "--distributed", "multi-cpu",
                           "--num_processes", 2)
    assert command.code == 2
    for words in ("process 1 of 2 ended with exit code 2, and the others with it.", "only here", "console.log"):
        assert words in command.stderr, command.stderr


def test_all_end_with_one_that_raises_while_training(commands, tmp_path):
    conf = tmp_path / "raising_conf.py"
    conf.write_text(f"""
import os
import gymnasium
import alf
alf.import_config({str(CONF)!r})
class Raises(gymnasium.Wrapper):
    num_steps = 0
    def step(self, action):
        self.num_steps += 1
        if os.environ["RANK"] == "1" and self.num_steps == 100:
            raise OverflowError("only here")
        return self.env.step(action)
alf.config("suite_gym.load", gym_env_wrappers=(Raises, ))
""")
    command = commands.start("train", "--conf", conf, "--root_dir", tmp_path / "run", "--distributed", "multi-cpu",
                             "--num_processes", 2, "--conf_param", "TrainerConfig.num_iterations=1000000",
                             "--conf_param", "TrainerConfig.num_checkpoints=200000")
    assert command.wait(3 * SECONDS_TO_END) == 1, command.stderr
    for words in ("process 1 of 2 ended with exit code 1, and the others with it.", "OverflowError: only here"):
        assert words in command.stderr, command.stderr
    command.assert_nobody_left()
    assert checkpoints(tmp_path / "run")
