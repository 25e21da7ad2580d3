"""Environments that break while training: which one, where, and what it did."""

import pathlib

import pytest

CONF = pathlib.Path(__file__).parent / "confs" / "broken_env_conf.py"


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
