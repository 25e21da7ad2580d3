"""python -m alf.bin.check: what it prints and how it ends."""

import pathlib
import re
import subprocess
import sys

import pytest
from command_line import ROOT

CONF = pathlib.Path(__file__).parent / "tiny_conf.py"

BROKEN = """
import numpy as np
import gymnasium
import alf
from alf.environments import suite_gym
from alf.examples import ppo_conf  # noqa: F401


class Broken(gymnasium.Wrapper):
    def __init__(self, env, kind):
        super().__init__(env)
        self.kind = kind

    def step(self, action):
        observation, *rest = self.env.step(action)
        if self.kind == "raise":
            raise OverflowError("the wheel came off")
        return (observation[:3] if self.kind == "shape" else observation * np.float32("nan")), *rest


@alf.configurable
def load(name, env_id=None, kind="shape"):
    return suite_gym.load(name, env_id=env_id, gym_env_wrappers=[lambda env: Broken(env, kind)])


alf.config("create_environment", env_name="CartPole-v1", env_load_fn=load, num_parallel_environments=2)
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
"""
SAC = """
from alf.examples import sac_conf  # noqa: F401
import alf
from alf.algorithms.agent import Agent
from alf.algorithms.sac_algorithm import SacAlgorithm
alf.config("create_environment", env_name="Pendulum-v1", num_parallel_environments=4)
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("CriticNetwork", joint_fc_layer_params=(8, ))
alf.config("SacAlgorithm", actor_optimizer=alf.optimizers.Adam(lr=1e-3), critic_optimizer=alf.optimizers.Adam(lr=1e-3),
           alpha_optimizer=alf.optimizers.SGD(lr=1e-3))
alf.config("TrainerConfig", unroll_length=1, mini_batch_length=2, mini_batch_size=16, initial_collect_steps=1000,
           num_updates_per_train_iter=3, whole_replay_buffer_training=False, clear_replay_buffer=False,
           replay_buffer_length=1000, num_iterations=100000)
"""


def test_an_environment_in_which_nothing_is_wrong(commands):
    done = commands.run("check", "--env", "CartPole-v1", "--num_steps", 50)
    assert done.code == 0, done.stderr
    assert "environment CartPole-v1: 0 errors, 0 warnings in 50 random steps" in done.stdout
    assert "nothing is wrong" in done.stdout


@pytest.mark.parametrize("kind, words", [
    ("shape", "error: step 1: observation: expected shape (4,), got shape (3,)"),
    ("nan", "error: step 1: observation: expected finite numbers, got nan"),
    ("raise", "OverflowError: the wheel came off"),
])
def test_errors_of_a_confs_environment_end_with_1_before_training(commands, tmp_path, kind, words):
    (tmp_path / "broken_conf.py").write_text(BROKEN)
    done = commands.run("check", "--conf", tmp_path / "broken_conf.py", "--conf_param", f"load.kind='{kind}'")
    assert done.code == 1, done.stderr
    assert words in done.stdout, done.stdout
    assert "nothing is wrong" not in done.stdout and "update:" not in done.stdout
    done.assert_nobody_left()


def test_environment_made_by_a_function_of_the_user(commands, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import gymnasium, numpy as np\n"
        "from alf.environments import suite_gym\n"
        "class Bandit(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(0, 1, (1, ), np.float32)\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        return self.np_random.random(1, np.float32), {}\n"
        "    def step(self, action):\n"
        "        return self.np_random.random(1, np.float32), [1.0], True, False, {}\n"
        "def load(name, env_id=None):\n"
        "    assert name == 'bandit'\n"
        "    return suite_gym.wrap_env(Bandit(), env_id=env_id)\n")
    done = commands.run("check", "--env", "bandit", "--env_load_fn", "mine.load", cwd=tmp_path)
    assert done.code == 1, done.stderr
    assert "error: step 1: reward: expected a number, got list [1.0]. Return float(reward)" in done.stdout
    unknown = commands.run("check", "--env", "bandit", "--env_load_fn", "mine.loat", cwd=tmp_path)
    assert unknown.code == 2
    assert "--env_load_fn: expected 'module.function', got 'mine.loat'" in unknown.stderr


def test_a_conf_is_trained_a_little_and_leaves_nothing(commands, tmp_path):
    done = commands.run("check", "--conf", CONF, cwd=tmp_path)
    assert done.code == 0, done.stderr
    # Two networks of 8 units: (4 * 8 + 8) + (8 * 2 + 2) for the actor, (4 * 8 + 8) + (8 + 1) for the value.
    for words in ("BoundedTensorSpec(shape=(4,)", "Adam(lr=0.01", "8 tensors, 107 parameters",
                  "update: learned 8 steps", "replay buffer: none, only the last unroll is kept",
                  "a run that resumes goes on from exactly where it was"):
        assert words in done.stdout, done.stdout
    assert not list(tmp_path.iterdir())


def test_off_policy_conf_tells_the_memory_of_its_whole_replay_buffer(commands, tmp_path):
    (tmp_path / "tiny_sac_conf.py").write_text(SAC)
    done = commands.run("check", "--conf", tmp_path / "tiny_sac_conf.py")
    assert done.code == 0, done.stderr
    assert "update: learned 16 steps" in done.stdout
    # What is stored is told by the buffer itself for the one environment of the check.
    step_bytes = re.search(r"(\d+) bytes a step x 1 environments x max_length=1000", done.stderr)[1]
    total = 4 * 1000 * int(step_bytes) / 2**20
    assert (f"replay buffer: about {total:.1f} MiB: 4 environments, 1,000 steps of each, {step_bytes} bytes a step"
            ) in done.stdout
    assert "SGD(lr=0.001" in done.stdout


def test_no_environments_are_refused(commands):
    done = commands.run("check", "--conf", CONF, "--conf_param", "create_environment.num_parallel_environments=0")
    assert done.code == 2
    assert "num_parallel_environments: must be >= 1, got 0" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--env", "CartPole-v1", "--conf", CONF)])
def test_either_environment_or_conf_must_be_named(commands, arguments):
    done = commands.run("check", *arguments)
    assert done.code == 2
    assert "expected either --env NAME or --conf FILE" in done.stderr


def test_help_does_not_import_torch():
    script = ("import runpy, sys; sys.argv = ['check', '--help']\n"
              "try: runpy.run_module('alf.bin.check', run_name='__main__', alter_sys=True)\n"
              "finally: assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert "--env_load_fn" in done.stdout and "Assertion" not in done.stderr, done.stderr
