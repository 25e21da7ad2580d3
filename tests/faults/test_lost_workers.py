"""Environments whose processes die while training: how it goes on, and what is kept where it cannot."""

import pathlib

import pytest

CONF = pathlib.Path(__file__).parent / "confs" / "lost_worker_conf.py"


def train(commands, root_dir, kind):
    return commands.run("train", "--conf", CONF, "--root_dir", root_dir, "--conf_param", f"_CONFIG._USER.kind='{kind}'",
                        "--conf_param", f"_CONFIG._USER.marker='{root_dir}.lost'")


def test_training_outlives_a_lost_worker(commands, tmp_path):
    command = train(commands, tmp_path / "run", "exit once")
    assert command.code == 0, command.stderr
    for word in ("exited with code 9", "in environment 1, whose last action was", "whose seed was", "Restarting it"):
        assert word in command.stderr, command.stderr
    assert checkpoints_of(tmp_path / "run")[-1] == 8
    command.assert_nobody_left()


@pytest.mark.parametrize("kind, words", [
    ("exit always", ["exited with code 9", "It is not restarted: there were 1 restarts within the last 600 seconds"]),
    ("all killed", ["probably out of memory", "All workers were killed at once", "worker 0: ", "worker 1: ", "MiB"]),
])
def test_training_that_cannot_go_on_saves_what_it_learned(commands, tmp_path, kind, words):
    command = train(commands, tmp_path / "run", kind)
    assert command.code == 1, command.stderr
    for word in words:
        assert word in command.stderr, command.stderr
    # 20 steps are two unrolls of 8 and a part of the third.
    assert checkpoints_of(tmp_path / "run")[-1] >= 2
    assert "saved iteration" in command.stderr
    command.assert_nobody_left()
    again = train(commands, tmp_path / "run", "exit once")
    assert again.code == 0 and "resumed from iteration" in again.stderr, again.stderr
    assert checkpoints_of(tmp_path / "run")[-1] == 8


def checkpoints_of(root_dir):
    """Return the iterations of the checkpoints of a run, ascending."""
    names = [path.name for path in pathlib.Path(root_dir, "train", "algorithm").glob("ckpt-*")]
    return sorted(int(name.removeprefix("ckpt-")) for name in names)
