"""Environments that break while training: which one, where, and what it did."""

import pathlib

import pytest

CONF = pathlib.Path(__file__).parent / "confs" / "broken_env_conf.py"
DIVERGES = pathlib.Path(__file__).parent / "confs" / "non_finite_env_conf.py"


@pytest.mark.parametrize("kind, num_workers, words", [
    ("raise", 0, ["OverflowError: the wheel came off", "in _observation"]),
    ("raise", 2, ["OverflowError: the wheel came off", "in _observation"]),
    ("shape", 2, ["observation.position", "(3,)", "(4,)"]),
    ("dtype", 0, ["observation.position", "float32", "complex64"]),
    ("nan", 2, ["observation.position", "finite", "nan"]),
])
def test_broken_environment_is_named(commands, tmp_path, kind, num_workers, words):
    command = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, "--conf_param",
                           f"_CONFIG._USER.kind='{kind}'", "--conf_param",
                           f"create_environment.num_workers={num_workers}")
    assert command.code == 1, command.stderr
    for word in ["environment 1", *words]:
        assert word in command.stderr, command.stderr
    assert words[0] in (tmp_path / "train.log").read_text()
    command.assert_nobody_left()


def test_space_without_tensors_is_told(commands, tmp_path):
    command = commands.run("train", "--conf", CONF, "--root_dir", tmp_path / "run", "--conf_param",
                           "_CONFIG._USER.kind='space'")
    assert command.code == 2, command.stderr
    for word in ("note", "Text"):
        assert word in command.stderr
    assert "Traceback" not in command.stderr


def train_diverging(commands, root_dir, kind, *settings):
    params = [f"_CONFIG._USER.kind={kind!r}", *settings]
    return commands.run("train", "--conf", DIVERGES, "--root_dir", root_dir,
                        *[word for param in params for word in ("--conf_param", param)])


@pytest.mark.parametrize("place", ["num_workers=0", "num_workers=2", "nonparallel=True"])
def test_training_outlives_a_reward_that_is_not_finite(commands, tmp_path, place):
    command = train_diverging(commands, tmp_path / "run", "once", f"create_environment.{place}",
                              "create_environment.on_non_finite='reset'")
    assert command.code == 0, command.stderr
    # Its step 20: one told what `info` holds, 19 are of training, which besides counts two that began episodes.
    who = "env_id 1" if place == "nonparallel=True" else "environment 1"
    for word in (who, "reward: expected a finite number, got", "nan", "step 21", "It is reset"):
        assert word in command.stderr, command.stderr
    command.assert_nobody_left()


def test_rewards_that_are_not_finite_again_and_again_end_training_with_what_it_learned(commands, tmp_path):
    command = train_diverging(commands, tmp_path / "run", "again", "create_environment.num_workers=2",
                              "create_environment.on_non_finite='reset'", "create_environment.max_non_finite_resets=1")
    assert command.code == 1, command.stderr
    for word in ("It is not reset: there were 1 resets within the last 600 seconds", "saved iteration"):
        assert word in command.stderr, command.stderr
    command.assert_nobody_left()
    again = train_diverging(commands, tmp_path / "run", "once", "create_environment.on_non_finite='reset'")
    assert again.code == 0 and "resumed from iteration" in again.stderr, again.stderr
