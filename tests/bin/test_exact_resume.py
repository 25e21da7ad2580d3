"""Training that was killed and went on ends where training that was not killed ends: bit for bit."""

import pathlib
import signal

import pytest
import torch
from command_line import final_state, records

HERE = pathlib.Path(__file__).parent
ITERATIONS = 60
ALWAYS = ("--conf_param", f"TrainerConfig.num_iterations={ITERATIONS}", "--conf_param",
          "TrainerConfig.num_checkpoints=60", "--conf_param", "TrainerConfig.random_seed=3")


def _curves(root_dir) -> list:
    kinds = [kind for kind in ("train", "eval") if (root_dir / kind / "metrics.jsonl").exists()]
    return [{name: value for name, value in row.items() if not name.startswith(("time", "memory"))}
            for kind in kinds for row in records(root_dir, kind)]


STACKED = ("TrainerConfig.data_transformer_ctor=__import__('functools').partial(__import__('alf').algorithms."
           "data_transformer.FrameStacker, stack_size=4)")
CASES = {
    "PPO": ("tiny_conf.py",),
    "PPO, fractional unroll": ("tiny_conf.py", "TrainerConfig.unroll_length=7.5", "TrainerConfig.mini_batch_length=1"),
    "PPO, traced": ("tiny_conf.py", "TrainerConfig.compile='trace'"),
    "A2C": ("a2c_conf.py",),
    "A2C, mixed precision": ("a2c_conf.py", "TrainerConfig.enable_amp=True"),
    "PPO, traced in mixed precision": ("tiny_conf.py", "TrainerConfig.compile='trace'",
                                       "TrainerConfig.enable_amp=True"),
    "PPO, normalizers": ("normalizing_conf.py", "TrainerConfig.evaluate=False"),
    "PPO, evaluation": ("tiny_conf.py", "TrainerConfig.evaluate=True", "TrainerConfig.async_eval=False",
                        "TrainerConfig.eval_interval=7", "TrainerConfig.num_eval_episodes=2"),
    "PPO, recurrent, with schedules": ("recurrent_conf.py",),
    "PPO, 1 environment": ("tiny_conf.py", "create_environment.num_parallel_environments=1"),
    "PPO, native batch": ("tiny_conf.py", "create_environment.num_workers=None"),
    "PPO, worker processes": ("tiny_conf.py", "create_environment.num_workers=1"),
    "PPO, frames stacked": ("tiny_conf.py", STACKED),
    "A2C, frames stacked": ("a2c_conf.py", STACKED),
    "SAC, frames stacked": ("off_policy_conf.py", STACKED),
    "PPO, halves in turn": ("tiny_conf.py", "create_environment.num_workers=1", "TrainerConfig.unroll_halves=True"),
    "SAC": ("off_policy_conf.py", "_CONFIG._USER.method='sac'"),
    "SAC, mixed precision": ("off_policy_conf.py", "TrainerConfig.enable_amp=True"),
    "SAC, 1 environment": ("off_policy_conf.py", "create_environment.num_parallel_environments=1"),
    "SAC, worker processes": ("off_policy_conf.py", "create_environment.num_workers=1"),
    "SAC, normalizer": (
        "off_policy_conf.py",
        "TrainerConfig.data_transformer_ctor=__import__('alf').algorithms.data_transformer.ObservationNormalizer"),
    "DDPG, noise with a state": ("off_policy_conf.py", "_CONFIG._USER.method='ddpg'"),
    "Rainbow": ("off_policy_conf.py", "_CONFIG._USER.method='rainbow'"),
    "TD3": ("off_policy_conf.py", "_CONFIG._USER.method='td3'"),
    "DQN, priorities and n steps": ("off_policy_conf.py", "_CONFIG._USER.method='dqn'"),
    "R2D2": ("off_policy_conf.py", "_CONFIG._USER.method='r2d2'"),
    "SAC, replay_ratio": ("off_policy_conf.py", "TrainerConfig.replay_ratio=1.7"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_like_one_that_was_not(commands, tmp_path, case):
    conf, *params = CASES[case]
    arguments = ["--conf", HERE / conf, *ALWAYS]
    for param in params:
        arguments += ["--conf_param", param]
    whole = commands.run("train", *arguments, "--root_dir", tmp_path / "whole")
    assert whole.code == 0, whole.stderr
    for at_least in (9, 31):
        killed = commands.start("train", *arguments, "--root_dir", tmp_path / "killed")
        killed.wait_for_checkpoint(tmp_path / "killed", at_least)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    resumed = commands.run("train", *arguments, "--root_dir", tmp_path / "killed")
    assert resumed.code == 0 and "resumed from iteration" in resumed.stderr, resumed.stderr
    expected, found = final_state(tmp_path / "whole"), final_state(tmp_path / "killed")
    assert _curves(tmp_path / "whole") == _curves(tmp_path / "killed")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        equal = torch.equal(value, found[name]) if isinstance(value, torch.Tensor) else value == found[name]
        assert equal, (name, value, found[name])
