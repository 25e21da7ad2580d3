"""What signals, kills, broken pipes and second trainers do to a run: nothing is lost, nobody is left behind."""

import json
import os
import pathlib
import random
import signal
import time

import pytest
from command_line import checkpoints, records

CONF = pathlib.Path(__file__).parent / "tiny_conf.py"
ENDLESS = ["--conf_param", "TrainerConfig.num_iterations=100000", "--conf_param", "TrainerConfig.num_checkpoints=10000",
           "--conf_param", "TrainerConfig.summary_interval=10"]
WITH_WORKERS = ["--conf_param", "create_environment.num_workers=2"]
# An evaluation that does not end: the second one waits for it.
WITH_EVALUATOR = ["--conf_param", "TrainerConfig.evaluate=True", "--conf_param", "TrainerConfig.eval_interval=2",
                  "--conf_param", "TrainerConfig.num_eval_episodes=100000000"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_saves_and_leaves_and_the_same_command_goes_on(commands, tmp_path, number, code):
    arguments = ["train", "--conf", CONF, "--root_dir", tmp_path, *ENDLESS, *WITH_WORKERS]
    command = commands.start(*arguments)
    command.wait_for_checkpoint(tmp_path)
    # As a terminal does it: to all of them.
    os.killpg(command.pid, number)
    assert command.wait(20) == code
    assert "Finishing this iteration and saving a checkpoint; once more to leave at once." in command.stderr
    assert "Traceback" not in command.stderr
    command.assert_nobody_left()
    last = checkpoints(tmp_path)[-1]
    assert f"saved iteration {last}: " in command.stderr

    steps = records(tmp_path)[-1]["step"]
    command = commands.start(*arguments)
    command.wait_for_checkpoint(tmp_path, last + 2)
    command.send_signal(number)
    assert command.wait(20) == code
    assert f"resumed from iteration {last} of " in command.stderr
    lines = [line["step"] for line in records(tmp_path)]
    assert len(lines) == len(set(lines)) and lines[-1] > steps


def test_a_signal_right_after_a_checkpoint_needs_no_other_one(commands, tmp_path):
    conf = tmp_path / "conf.py"
    conf.write_text(f"""
import os
import signal
import alf
from alf.trainers.policy_trainer import Trainer
alf.import_config({str(CONF)!r})
next_checkpoint = Trainer._next_checkpoint_progress
def interrupted(trainer):
    if trainer._progress.iterations:
        os.kill(os.getpid(), signal.SIGTERM)
    return next_checkpoint(trainer)
Trainer._next_checkpoint_progress = interrupted
""")
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run", *ENDLESS)
    assert done.code == 143, done.stderr
    last, = checkpoints(tmp_path / "run")
    assert f"saved iteration {last}: " in done.stderr


def test_second_signal_leaves_at_once_without_saving(commands, tmp_path):
    command = commands.start("train", "--conf", CONF, "--root_dir", tmp_path, *ENDLESS, *WITH_WORKERS, *WITH_EVALUATOR,
                             "--conf_param", "TrainerConfig.num_updates_per_train_iter=100000000")
    command.wait_for(lambda: (tmp_path / "eval" / "eval.log").exists())
    command.send_signal(signal.SIGINT)
    command.wait_for(lambda: "Finishing" in command.stderr)
    command.send_signal(signal.SIGINT)
    assert command.wait(10) == 130
    assert "Leaving at once; the last checkpoint is kept." in command.stderr
    assert checkpoints(tmp_path) == []
    command.assert_nobody_left()


def test_sigusr2_saves_a_checkpoint_and_training_goes_on(commands, tmp_path):
    command = commands.start("train", "--conf", CONF, "--root_dir", tmp_path, *ENDLESS, "--conf_param",
                             "TrainerConfig.num_checkpoints=1")
    command.wait_for(lambda: (tmp_path / "train" / "metrics.jsonl").exists() and records(tmp_path))
    assert checkpoints(tmp_path) == []
    command.send_signal(signal.SIGUSR2)
    command.wait_for_checkpoint(tmp_path)
    told = len(records(tmp_path))
    command.wait_for(lambda: len(records(tmp_path)) > told + 1)
    command.send_signal(signal.SIGHUP)
    command.wait_for(lambda: len(records(tmp_path)) > told + 3)
    command.send_signal(signal.SIGUSR1)
    command.wait_for(lambda: "SIGUSR1: the stacks of all threads are in " in command.stderr)
    log = (tmp_path / "train.log").read_text()
    stacks = log[log.index("most recent call first"):]
    assert "in _train_iter" in stacks or "in _loop" in stacks, stacks
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 143


def test_a_killed_run_goes_on_from_its_last_checkpoint(commands, tmp_path):
    # Every iteration is written down, every tenth is saved: what was written after the last of these must not stay.
    arguments = ["train", "--conf", CONF, "--root_dir", tmp_path, *ENDLESS, *WITH_WORKERS, "--conf_param",
                 "TrainerConfig.summary_interval=1"]
    rng = random.Random(3)
    resumed_from = 0
    for evaluation in ([], WITH_EVALUATOR):
        command = commands.start(*arguments, *evaluation)
        if evaluation:
            command.wait_for((tmp_path / "eval" / "metrics.jsonl").exists)
            time.sleep(0.3)
        else:
            command.wait_for_checkpoint(tmp_path, 3)
        time.sleep(rng.random() * 0.3)
        command.send_signal(signal.SIGKILL)
        assert command.wait(10) == -signal.SIGKILL
        command.assert_nobody_left()
        last = checkpoints(tmp_path)[-1]
        if resumed_from:
            assert f"resumed from iteration {resumed_from} of " in command.stderr
        resumed_from = last
    done = commands.run("train", "--root_dir", tmp_path, "--conf_param", f"TrainerConfig.num_iterations={last + 3}",
                        "--conf_param", "TrainerConfig.evaluate=False")
    assert done.code == 0, done.stderr
    steps = [line["step"] for line in records(tmp_path)]
    assert steps == sorted(set(steps)) and steps[-1] <= last + 3
    assert json.loads((tmp_path / "run.json").read_text())["starts"][2:]


def test_first_signal_does_not_wait_for_an_evaluation(commands, tmp_path):
    command = commands.start("train", "--conf", CONF, "--root_dir", tmp_path, *ENDLESS, *WITH_EVALUATOR)
    command.wait_for((tmp_path / "eval" / "metrics.jsonl").exists)
    command.wait_for(lambda: records(tmp_path)[-1:] and records(tmp_path)[-1]["step"] >= 3)
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 143
    assert f"saved iteration {checkpoints(tmp_path)[-1]}: " in command.stderr
    command.assert_nobody_left()


def test_broken_pipe_does_not_stop_training(commands, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    command = commands.start("train", "--conf", CONF, "--root_dir", tmp_path / "run", "--conf_param",
                             "TrainerConfig.num_iterations=60", "--conf_param",
                             "TrainerConfig.num_checkpoints=60", stdout=tmp_path / "pipe")
    command.wait_for_checkpoint(tmp_path / "run", 20)
    os.close(reader)
    assert command.wait(60) == 0, command.stderr
    assert checkpoints(tmp_path / "run")[-1] == 60
    assert "BrokenPipe" not in command.stderr


def test_a_second_trainer_on_the_same_directory_refuses(commands, tmp_path):
    arguments = ["train", "--conf", CONF, "--root_dir", tmp_path, *ENDLESS]
    first = commands.start(*arguments)
    first.wait_for_checkpoint(tmp_path)
    second = commands.run(*arguments)
    assert second.code == 2
    assert f"a trainer or a sweep is at work there already: process {first.pid} on " in second.stderr
    assert "Traceback" not in second.stderr
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    third = commands.start(*arguments)  # the lock is gone with its holder
    third.wait_for(lambda: "resumed from" in third.stderr)
    third.send_signal(signal.SIGTERM)
    assert third.wait(20) == 143
