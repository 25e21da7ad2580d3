"""A run that does in its third iteration what `mischief` says, unless it did before: then a file says so.

`crash` raises, `memory` is killed as the system does it when memory runs out, `hang` waits for ever in an environment.
"""

import os
import pathlib
import signal
import time

import gymnasium as gym

import alf
from alf.environments import suite_gym
from alf.examples import ppo_conf  # noqa: F401

mischief = alf.define_config("mischief", "none")
folder = alf.define_config("folder", "")


class _Mischief(gym.Wrapper):

    def step(self, action):
        marker = pathlib.Path(folder, mischief)
        if mischief != "none" and alf.progress.get_progress("iterations") >= 2 and not marker.exists():
            marker.touch()
            if mischief == "memory":
                os.kill(os.getpid(), signal.SIGKILL)
            if mischief == "hang":
                time.sleep(1e6)
            raise RuntimeError("the environment has had enough")
        return self.env.step(action)


alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
alf.config("suite_gym.load", gym_env_wrappers=(_Mischief, ))
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("ValueNetwork", fc_layer_params=(8, ))
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("create_environment", env_load_fn=suite_gym.load)
alf.config("TrainerConfig", unroll_length=8, mini_batch_size=8, num_updates_per_train_iter=1, num_iterations=6,
           num_checkpoints=6, summary_interval=1, leave_within_seconds=0.5)
