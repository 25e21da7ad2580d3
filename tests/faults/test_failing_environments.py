"""Environments that raise what is hard to report, fork, or fail while they are made or closed."""

import pathlib
import signal

import pytest
from command_line import checkpoints

CONF = pathlib.Path(__file__).parent / "confs" / "failing_env_conf.py"


def arguments(root_dir, kind, *settings):
    params = [f"_CONFIG._USER.kind={kind!r}", *settings]
    return ["train", "--conf", CONF, "--root_dir", root_dir, *[w for p in params for w in ("--conf_param", p)]]


@pytest.mark.parametrize("kind, words", [
    ("exit", ["WorkerError: builtins.SystemExit: 0"]),
    ("generator exit", ["WorkerError: builtins.GeneratorExit"]),
    ("raise", ["OverflowError: the wheel came off"]),
    ("no text", ["WithoutTextError: (its text is not known: str() of it raises RuntimeError)"]),
    ("memory", ["MemoryError: no room for the wheel"]),
])
def test_what_was_learned_is_saved_when_an_environment_fails(commands, tmp_path, kind, words):
    command = commands.run(*arguments(tmp_path, kind))
    assert command.code == 1, command.stderr
    for word in (*words, "raised by environment 1 in the main process, at step", "in _fail", "saved iteration 2: "):
        assert word in command.stderr, command.stderr
    assert "mini_batch_size" not in command.stderr
    # 20 steps are two unrolls of 8 and a part of the third.
    assert checkpoints(tmp_path) == [2]


def test_memory_that_runs_out_in_a_worker_is_an_error_of_the_environment(commands, tmp_path):
    command = commands.run(*arguments(tmp_path, "memory", "create_environment.num_workers=2"))
    assert command.code == 1, command.stderr
    for word in ("MemoryError: no room for the wheel", "raised by environment 1 in worker 1", "in _fail"):
        assert word in command.stderr, command.stderr
    assert "mini_batch_size" not in command.stderr
    command.assert_nobody_left()


def test_the_same_command_goes_on_after_an_environment_failed(commands, tmp_path):
    assert commands.run(*arguments(tmp_path, "raise")).code == 1
    again = commands.run(*arguments(tmp_path, ""))
    assert again.code == 0 and "resumed from iteration 2 of " in again.stderr, again.stderr
    assert checkpoints(tmp_path) == [2, 6]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_text_of_megabytes_is_cut(commands, tmp_path, num_workers):
    command = commands.run(*arguments(tmp_path, "long", f"create_environment.num_workers={num_workers}"))
    assert command.code == 1
    assert "builtins.ValueError: xxx" in command.stderr and "raised by environment 1 in " in command.stderr
    assert len(command.stderr) < 500_000


def test_environment_in_a_thread_cannot_end_training_as_if_it_were_done(commands, tmp_path):
    command = commands.run(*arguments(tmp_path, "exit", "create_environment.nonparallel=True",
                                      "TrainerConfig.mini_batch_size=1"))
    assert command.code == 1, command.stderr
    for word in ("builtins.SystemExit: 0", "raised by environment 0 in a thread of the main process, at step"):
        assert word in command.stderr, command.stderr


def test_constructor_that_exits_is_told(commands, tmp_path):
    command = commands.run(*arguments(tmp_path, "exits at once"))
    assert command.code == 2, command.stderr
    for word in ("builtins.SystemExit: 0", "raised by environment 0 in the main process, at construct"):
        assert word in command.stderr, command.stderr


@pytest.mark.parametrize("num_workers", [0, 2])
def test_environments_that_cannot_be_closed_are_trained_with(commands, tmp_path, num_workers):
    command = commands.run(*arguments(tmp_path, "close", f"create_environment.num_workers={num_workers}"))
    assert command.code == 0, command.stderr
    for index in (0, 1):
        assert f"close() raised OverflowError: environment {index} is stuck" in command.stderr, command.stderr
    assert checkpoints(tmp_path) == [6]
    command.assert_nobody_left()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_process_that_an_environment_forks_ends(commands, tmp_path, num_workers):
    command = commands.run(*arguments(tmp_path, "fork", f"create_environment.num_workers={num_workers}"))
    assert command.code == 0, command.stderr
    assert checkpoints(tmp_path) == [6]
    command.assert_nobody_left()


@pytest.mark.parametrize("numbers, code", [
    ([signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM], 143),
    ([signal.SIGINT], 130),
])
def test_signals_are_heeded_while_environments_are_made(commands, tmp_path, numbers, code):
    command = commands.start(*arguments(tmp_path, "slow start"))
    command.wait_for(lambda: "making it" in command.stdout)
    for number in numbers:
        command.send_signal(number)
    assert command.wait(20) == code, command.stderr
    assert "Traceback" not in command.stderr
    assert ("most recent call first" in command.stderr) == (signal.SIGUSR1 in numbers)
    command.assert_nobody_left()
