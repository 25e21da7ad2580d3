"""PPO on CartPole-v1 whose environment never comes to an end of closing."""

import time

import gymnasium

import alf
from alf.examples import ppo_conf  # noqa: F401


class Stuck(gymnasium.Wrapper):
    """Never comes to an end of closing, whatever is raised there."""

    def close(self):
        while True:
            try:
                time.sleep(3600)
            except BaseException:
                pass


gymnasium.register("Stuck-v0", entry_point=lambda **kwargs: Stuck(gymnasium.make("CartPole-v1", **kwargs)))
alf.config("create_environment", env_name="Stuck-v0", num_parallel_environments=2, num_workers=0)
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("ValueNetwork", fc_layer_params=(8, ))
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("TrainerConfig", random_seed=1, unroll_length=8, num_iterations=10**9, num_checkpoints=10**9)
