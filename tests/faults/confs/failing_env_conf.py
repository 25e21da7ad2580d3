"""An environment that fails in the way that `kind` says: at step 20 of environment 1, while it is made, or closed."""

import os
import time

import gymnasium
import numpy as np

import alf
from alf.environments.suite_gym import wrap_env
from alf.examples import ppo_conf  # noqa: F401

kind = alf.define_config("kind", "")


class WithoutTextError(Exception):
    """An error that cannot say what it is."""

    def __str__(self):
        raise RuntimeError("no words")


class Failing(gymnasium.Env):
    """Observation of shape (3,), two actions, episodes of 10 steps."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(-1, 1, (3, ), np.float32)

    def __init__(self, env_id):
        self._env_id = env_id
        self._num_steps = self._length = 0
        if kind == "slow start":
            print("making it", flush=True)
            time.sleep(60)
        if kind == "exits at once":
            raise SystemExit(0)

    def reset(self, *, seed=None, options=None):
        self._length = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self._num_steps += 1
        self._length += 1
        if self._env_id in (1, None) and self._num_steps == 20:
            self._fail()
        return np.zeros(3, np.float32), 1.0, False, self._length >= 10, {}

    def _fail(self):
        if kind == "fork":
            os.fork()
        errors = {
            "exit": SystemExit(0),
            "generator exit": GeneratorExit(),
            "raise": OverflowError("the wheel came off"),
            "memory": MemoryError("no room for the wheel"),
            "long": ValueError("x" * 5_000_000),
            "no text": WithoutTextError()
        }
        if kind in errors:
            raise errors[kind]

    def close(self):
        if kind == "close":
            raise OverflowError(f"environment {self._env_id} is stuck")


def load_failing(environment_name, env_id=None):
    """Return the environment."""
    return wrap_env(Failing(env_id), env_id=env_id)


alf.config("create_environment", env_load_fn=load_failing, num_parallel_environments=2, num_workers=0)
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("ValueNetwork", fc_layer_params=(8, ))
alf.config("TrainerConfig", random_seed=1, unroll_length=8, mini_batch_size=8, num_updates_per_train_iter=1,
           num_iterations=6, num_checkpoints=1)
