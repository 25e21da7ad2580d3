"""An environment whose actions or observations are of the kind that `kind` says."""

import gymnasium
import numpy as np

import alf
from alf.environments.suite_gym import wrap_env
from alf.examples import ppo_conf  # noqa: F401

spaces = gymnasium.spaces
kind = alf.define_config("kind", "discrete")
BOX = spaces.Box(-1, 1, (3, ), np.float32)
ACTIONS = {
    "huge_discrete": spaces.Discrete(2**40),
    "text": spaces.Text(5),
    "graph": spaces.Graph(BOX, None),
    "sequence": spaces.Sequence(BOX),
    "empty_dict": spaces.Dict(),
    "int_box": spaces.Box(-5, 5, (2, ), np.int64),
    "unbounded": spaces.Box(-np.inf, np.inf, (2, ), np.float32),
}
OBSERVATIONS = {
    "huge_obs": spaces.Discrete(2**40),
    "int_obs": spaces.Box(-5, 5, (2, ), np.int64),
    "image_hwc": spaces.Box(0, 255, (84, 84, 3), np.uint8),
}


class Strange(gymnasium.Env):
    """Stands still."""

    def __init__(self):
        self.action_space = ACTIONS.get(kind, spaces.Discrete(2))
        self.observation_space = OBSERVATIONS.get(kind, BOX)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}


def load_strange(environment_name, env_id=None):
    """Return the environment."""
    return wrap_env(Strange(), env_id=env_id)


alf.config("create_environment", env_load_fn=load_strange, num_parallel_environments=2, num_workers=0)
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("TrainerConfig", unroll_length=8, mini_batch_size=8, num_updates_per_train_iter=1, num_iterations=2)
