"""A disk that takes no more: training goes on, and what could not be written is told."""

import contextlib
import errno
import os
import pathlib
import re
import signal
import subprocess

import pytest
from command_line import checkpoints

from alf.utils._checkpoint_files import read_manifest

CONF = pathlib.Path(__file__).parents[1] / "bin" / "tiny_conf.py"
FULL_DISK = pathlib.Path(__file__).parent / "confs" / "full_disk_conf.py"


def test_log_that_cannot_be_written_is_told_once(commands, tmp_path):
    for name in ("train.log", "operative_configs.txt"):
        (tmp_path / name).symlink_to("/dev/full")
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path)
    assert done.code == 0, done.stderr
    assert done.stderr.count("train.log cannot be written: [Errno 28] No space left on device. Training goes on.") == 1
    assert "operative_configs.txt cannot be written" in done.stderr
    assert "Traceback" not in done.stderr and "Logging error" not in done.stderr
    assert checkpoints(tmp_path)[-1] == 6


def test_checkpoint_that_cannot_be_written_is_told_each_time(commands, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "algorithm").symlink_to("/proc/nowhere/at/all")
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path)
    assert done.code == 0, done.stderr
    for iteration in (2, 4, 6):
        assert f"no checkpoint was written at iteration {iteration}: " in done.stderr
    assert done.stderr.count("no checkpoint was written") == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_saving_goes_on_when_the_disk_has_room_again(commands, tmp_path, number):
    command = commands.start("train", "--conf", FULL_DISK, "--root_dir", tmp_path)
    command.wait_for_checkpoint(tmp_path, 2)
    (tmp_path / "full.tmp").write_text(str(number))
    (tmp_path / "full.tmp").rename(tmp_path / "full")
    command.wait_for(lambda: command.stderr.count("no checkpoint was written at iteration ") > 3)
    kept = checkpoints(tmp_path)
    assert os.strerror(number) in command.stderr and "Free disk space" in command.stderr
    folder = tmp_path / "train" / "algorithm"
    intact = read_manifest(str(folder / f"ckpt-{kept[-1]}"))
    assert intact["step"] == kept[-1] >= 2
    (tmp_path / "full").unlink()
    command.wait_for_checkpoint(tmp_path, kept[-1] + 5)
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 143
    assert [path for path in os.listdir(folder) if path.startswith(".tmp")] == []
    told = [int(word) for word in re.findall(r"no checkpoint was written at iteration (\d+):", command.stderr)]
    assert told == list(range(told[0], told[-1] + 1)) and kept[-1] == told[0] - 1  # each time, and only then


def test_training_ends_after_as_many_failures_in_a_row_as_are_allowed(commands, tmp_path):
    (tmp_path / "full").write_text(str(errno.ENOSPC))
    done = commands.run("train", "--conf", FULL_DISK, "--root_dir", tmp_path, "--conf_param",
                        "TrainerConfig.max_checkpoint_failures=3")
    assert done.code == 1
    assert done.stderr.count("no checkpoint was written") == 3
    assert ("3 checkpoints in a row could not be saved, as many as TrainerConfig.max_checkpoint_failures allows"
            in done.stderr)
    done.assert_nobody_left()


def test_too_little_space_for_checkpoints_is_told_at_the_start(commands, tmp_path):
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, "--conf_param",
                        "TrainerConfig.num_checkpoints_to_keep=1000000000000")
    assert done.code == 0, done.stderr
    told = re.search(r"DISK SPACE: checkpoints will need ([\d.e+]+) (\w+) in \S+ \(1000000000001 of (\S+) (\w+)\), but "
                     r"only \S+ \w+ are free", done.stderr)
    assert told, done.stderr
    assert "DISK SPACE" not in commands.run("train", "--conf", CONF, "--root_dir", tmp_path, "--conf_param",
                                            "TrainerConfig.num_iterations=7").stderr


@pytest.fixture
def small_disk(tmp_path):
    """Return a directory on a disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this user may not mount file systems")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Leave no room on a disk, not for a byte."""
    with open(folder / "filler", "wb", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))


def test_a_run_does_not_begin_on_a_full_disk(commands, small_disk, tmp_path):
    search = tmp_path / "search.json"
    search.write_text('{"max_worker_num": 1, "parameters": {"PPOLoss.gamma": [0.9]}}')
    fill(small_disk)
    for command, words in ((("train", ), "a run cannot begin where nothing can be written"),
                           (("grid_search", "--search_config", search), "a sweep cannot begin where nothing can be ")):
        done = commands.run(*command, "--conf", CONF, "--root_dir", small_disk / command[0])
        assert done.code == 2, done.stderr
        assert words in done.stderr and "No space left on device" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_a_run_goes_on_and_is_shown_on_a_full_disk(commands, small_disk):
    assert commands.run("train", "--conf", CONF, "--root_dir", small_disk / "run").code == 0
    fill(small_disk)
    again = commands.run("train", "--conf", CONF, "--root_dir", small_disk / "run", "--conf_param",
                         "TrainerConfig.num_iterations=8")
    assert again.code == 0, again.stderr
    assert "resumed from iteration 6 of " in again.stderr
    assert "the record of this start cannot be written" in again.stderr
    assert "Traceback" not in again.stderr and "Logging error" not in again.stderr
    done = commands.run("evaluate", "--root_dir", small_disk / "run", "--num_episodes", 2)
    assert done.code == 1
    assert "mean return" in done.stdout and "evaluation-6.json: cannot be written" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    done = commands.run("play", "--root_dir", small_disk / "run", "--num_episodes", 1, "--record_file",
                        small_disk / "episode.mp4")
    assert done.code == 2, done.stderr
    assert "episode.mp4: the video cannot be written: " in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_profile_that_cannot_be_written_does_not_change_how_training_ends(commands, small_disk):
    command = commands.start("train", "--conf", CONF, "--root_dir", small_disk / "run", "--conf_param",
                             "TrainerConfig.num_iterations=10000000", "--conf_param", "TrainerConfig.profiling=True")
    command.wait_for((small_disk / "run" / "operative_configs.txt").exists)
    fill(small_disk)
    command.send_signal(signal.SIGTERM)
    assert command.wait(30) == 143, command.stderr
    assert "train.prof cannot be written" in command.stderr and "Traceback" not in command.stderr


@pytest.fixture
def read_only_disk(small_disk):
    """Return a directory on a disk that cannot be written."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    return small_disk


def test_read_only_directory_is_told(commands, read_only_disk):
    done = commands.run("train", "--conf", CONF, "--root_dir", read_only_disk / "run")
    assert done.code == 2, done.stderr
    assert "expected a directory that can be written, got: " in done.stderr and "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_full_for_everything(commands, small_disk):
    command = commands.start("train", "--conf", CONF, "--root_dir", small_disk / "run", "--conf_param",
                             "TrainerConfig.num_iterations=10000000", "--conf_param",
                             "TrainerConfig.num_checkpoints=10000000", "--conf_param",
                             "TrainerConfig.num_checkpoints_to_keep=3")
    command.wait_for_checkpoint(small_disk / "run", 3)
    fill(small_disk)
    command.wait_for(lambda: command.stderr.count("no checkpoint was written at iteration ") > 3)
    # They are written less often than such small checkpoints.
    command.wait_for(lambda: "Summaries cannot be written" in command.stderr)
    kept = checkpoints(small_disk / "run")
    assert len(kept) == 3
    (small_disk / "filler").unlink()
    command.wait_for_checkpoint(small_disk / "run", kept[-1] + 5)
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 143
    assert "Traceback" not in command.stderr and "Logging error" not in command.stderr
    assert command.stderr.count("Summaries cannot be written") == 1
    assert command.stderr.count("train.log cannot be written") <= 1  # a line may still have fitted
