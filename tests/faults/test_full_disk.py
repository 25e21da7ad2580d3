"""A disk that takes no more: training goes on, and what could not be written is told."""

import pathlib

from command_line import checkpoints

CONF = pathlib.Path(__file__).parents[1] / "bin" / "tiny_conf.py"


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
