"""An environment that breaks at step 5 of environment 1 in the way that `kind` says."""

import gymnasium
import numpy as np

import alf
from alf.environments.suite_gym import wrap_env
from alf.examples import ppo_conf  # noqa: F401

kind = alf.define_config("kind", "raise")


class Broken(gymnasium.Env):
    """Observation of shape (3,), two actions."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, env_id):
        text = gymnasium.spaces.Text(10)
        box = gymnasium.spaces.Box(-1, 1, (3, ), np.float32)
        self.observation_space = gymnasium.spaces.Dict(position=box, note=text if kind == "space" else box)
        self._env_id = env_id
        self._num_steps = 0

    def _observation(self):
        position = np.zeros(3, np.float32)
        if self._env_id == 1 and self._num_steps == 5:
            if kind == "raise":
                raise OverflowError("the wheel came off")
            position = {"shape": np.zeros(4, np.float32), "dtype": np.zeros(3, np.complex64),
                        "nan": np.full(3, np.nan, np.float32)}[kind]
        return dict(position=position, note=np.zeros(3, np.float32))

    def reset(self, *, seed=None, options=None):
        return self._observation(), {}

    def step(self, action):
        self._num_steps += 1
        return self._observation(), 1.0, False, False, {}


def load_broken(environment_name, env_id=None):
    """Return the environment."""
    return wrap_env(Broken(env_id), env_id=env_id)


alf.config("create_environment", env_load_fn=load_broken, num_parallel_environments=2, num_workers=2)
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("ActorDistributionNetwork", preprocessing_combiner=alf.nest.utils.NestConcat())
alf.config("ValueNetwork", preprocessing_combiner=alf.nest.utils.NestConcat())
alf.config("TrainerConfig", unroll_length=8, mini_batch_size=8, num_updates_per_train_iter=1, num_iterations=3)
