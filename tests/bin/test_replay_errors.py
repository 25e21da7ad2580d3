"""Mistakes about replay, through the real command line: told in a line or two, without our frames."""

import pathlib

import pytest

CONF = pathlib.Path(__file__).parent / "off_policy_conf.py"


@pytest.mark.parametrize("params, told", [
    (["TrainerConfig.replay_buffer_length=50000000000"], "GiB are available"),
    (["TrainerConfig.mini_batch_length=61"], "mini_batch_length: expected at most replay_buffer_length=60"),
    (["TrainerConfig.initial_collect_steps=1000"], "initial_collect_steps: expected at most the 120 steps"),
    (["TrainerConfig.priority_replay=True"], "gives no priorities. Set its calculate_priority=True"),
    (["TrainerConfig.replay_ratio=-1.0"], "replay_ratio: expected None or a number > 0"),
    (["_CONFIG._USER.method='dqn'", "create_environment.env_name='Pendulum-v1'"], "expected a single discrete action"),
    (["TrainerConfig.mini_batch_length=3", "_CONFIG._USER.method='dqn'"], "mini_batch_length=4"),
    (["OneStepTDLoss.gamma=0.9", "_CONFIG._USER.method='dqn'"], "NStepReturn.gamma: expected that of the loss"),
])
def test_a_mistake_is_told_in_words(commands, tmp_path, params, told):
    arguments = []
    for param in params:
        arguments += ["--conf_param", param]
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, *arguments)
    assert done.code in (1, 2)
    assert told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    done.assert_nobody_left()
