"""Leaving when something is in the way: closing that hangs, an iteration too long, a terminal that is gone."""

import os
import pathlib
import pty
import signal
import time

import pytest
from command_line import checkpoints, records

TINY = pathlib.Path(__file__).parents[1] / "bin" / "tiny_conf.py"
CONFS = pathlib.Path(__file__).parent / "confs"


def params(*settings):
    """Return the arguments that set values of the trainer."""
    return [word for setting in settings for word in ("--conf_param", f"TrainerConfig.{setting}")]


SLOW_ITERATION = ["--conf_param", "TrainerConfig.num_updates_per_train_iter=100000000"]


def test_third_signal_leaves_a_trainer_that_hangs_while_closing(commands, tmp_path):
    command = commands.start("train", "--conf", CONFS / "stuck_env_conf.py", "--root_dir", tmp_path)
    command.wait_for_checkpoint(tmp_path, 2)
    command.send_signal(signal.SIGINT)
    command.wait_for(lambda: "saved iteration" in command.stderr)
    last = checkpoints(tmp_path)
    command.send_signal(signal.SIGINT)
    command.wait_for(lambda: "Leaving at once" in command.stderr)
    began = time.monotonic()
    command.send_signal(signal.SIGINT)
    assert command.wait(10) == 130
    assert time.monotonic() - began < 5
    command.assert_nobody_left()
    assert checkpoints(tmp_path) == last


def test_iteration_that_does_not_end_is_given_up_after_sigterm(commands, tmp_path):
    done = commands.run("train", "--conf", TINY, "--root_dir", tmp_path)
    assert done.code == 0 and checkpoints(tmp_path) == [2, 4, 6]
    command = commands.start("train", "--conf", TINY, "--root_dir", tmp_path, *SLOW_ITERATION, "--conf_param",
                             "TrainerConfig.num_iterations=9", "--conf_param", "TrainerConfig.leave_within_seconds=0.5",
                             "--conf_param", "create_environment.num_workers=2")
    command.wait_for(lambda: "resumed from iteration 6 of " in command.stderr)
    time.sleep(0.5)
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 143, command.stderr
    assert "saving a checkpoint; once more to leave at once. It has 0.5 s." in command.stderr
    assert "The iteration did not end within 0.5 s: leaving without saving" in command.stderr
    assert "Traceback" not in command.stderr
    command.assert_nobody_left()
    assert checkpoints(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_evaluation_in_this_process_is_given_up_and_the_iteration_before_it_saved(commands, tmp_path, number, code):
    command = commands.start("train", "--conf", TINY, "--root_dir", tmp_path, *params(
        "evaluate=True", "async_eval=False", "eval_interval=1", "num_eval_episodes=100000000", "num_checkpoints=1",
        "leave_within_seconds=60.0"))
    command.wait_for((tmp_path / "operative_configs.txt").exists)
    time.sleep(0.5)
    command.send_signal(number)
    assert command.wait(30) == code, command.stderr
    for words in ("evaluation at step 1: given up", "saved iteration 1: "):
        assert words in command.stderr, command.stderr
    assert checkpoints(tmp_path) == [1]


def test_checkpoint_that_takes_longer_than_the_grace_is_finished(commands, tmp_path):
    command = commands.start("train", "--conf", CONFS / "slow_save_conf.py", "--root_dir", tmp_path,
                             *params("leave_within_seconds=0.2"))
    folder = tmp_path / "train" / "algorithm"
    command.wait_for(lambda: list(folder.glob(".tmp-ckpt-*")))
    command.send_signal(signal.SIGTERM)
    assert command.wait(30) == 143, command.stderr
    assert "Finishing the checkpoint that is being saved; once more to leave at once." in command.stderr
    assert "leaving without saving" not in command.stderr
    assert checkpoints(tmp_path) == [1] and not list(folder.glob(".tmp-*"))


def test_second_sigterm_leaves_at_once(commands, tmp_path):
    command = commands.start("train", "--conf", TINY, "--root_dir", tmp_path, *SLOW_ITERATION)
    command.wait_for((tmp_path / "run.json").exists)
    command.send_signal(signal.SIGTERM)
    command.wait_for(lambda: "Finishing" in command.stderr)
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 143
    assert "Leaving at once" in command.stderr and "Traceback" not in command.stderr
    command.assert_nobody_left()


def test_training_goes_on_when_its_terminal_is_closed(commands, tmp_path):
    ours, theirs = pty.openpty()
    terminal = os.ttyname(theirs)
    os.close(theirs)
    # It is the first terminal that a process without one opens, so it is told when that is closed.
    command = commands.start("train", "--conf", TINY, "--root_dir", tmp_path, "--conf_param",
                             "TrainerConfig.num_iterations=10000000", "--conf_param",
                             "TrainerConfig.num_checkpoints=10000000", stdout=terminal)
    command.wait_for_checkpoint(tmp_path)
    command.wait_for(lambda: b"iteration" in os.read(ours, 10000))
    os.close(ours)
    steps = records(tmp_path)[-1]["step"]
    command.wait_for(lambda: records(tmp_path)[-1]["step"] > steps + 20)
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 143
    assert "Traceback" not in command.stderr
    assert "saved iteration" in (tmp_path / "train.log").read_text()


def test_training_goes_on_when_nobody_reads_its_errors(commands, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    command = commands.start("train", "--conf", TINY, "--root_dir", tmp_path / "run", *params(
        "num_iterations=10000000", "num_checkpoints=10000000"), stderr=tmp_path / "pipe")
    command.wait_for_checkpoint(tmp_path / "run")
    os.close(reader)
    command.send_signal(signal.SIGUSR2)  # what is saved now is told
    last = checkpoints(tmp_path / "run")[-1]
    command.wait_for_checkpoint(tmp_path / "run", last + 5)
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 143
    assert "saved iteration" in (tmp_path / "run" / "train.log").read_text()
