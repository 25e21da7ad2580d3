"""Environments whose processes are lost after some steps, once or each time, as `kind` says."""

import os
import signal

import gymnasium
import numpy as np

import alf
from alf.environments.suite_gym import wrap_env
from alf.examples import ppo_conf  # noqa: F401

kind = alf.define_config("kind", "exit once")
marker = alf.define_config("marker", "")


class Lost(gymnasium.Env):
    """Observation of shape (3,), two actions; episodes of 7 steps, each with the reward 1."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3, ), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, env_id):
        self._env_id = env_id
        self._num_steps = self._t = 0

    def reset(self, *, seed=None, options=None):
        self._t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self._num_steps += 1
        self._t += 1
        if self._num_steps == 20:
            self._get_lost()
        return np.full(3, 0.1, np.float32), 1.0, False, self._t == 7, {}

    def _get_lost(self):
        if kind == "all killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._env_id == 1 and (kind == "exit always" or not os.path.exists(marker)):
            open(marker, "w").close()
            os._exit(9)


def load_lost(environment_name, env_id=None):
    """Return the environment."""
    return wrap_env(Lost(env_id), env_id=env_id)


alf.config("create_environment", env_load_fn=load_lost, num_parallel_environments=2, num_workers=2)
alf.config("FastParallelEnvironment", on_worker_death="restart", max_restarts=1)
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("TrainerConfig", unroll_length=8, mini_batch_size=8, num_updates_per_train_iter=1, num_iterations=8,
           num_checkpoints=1)
