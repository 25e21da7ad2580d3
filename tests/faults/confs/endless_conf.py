"""A small run of PPO that saves after each iteration and has no end."""

import alf
from alf.examples import ppo_conf  # noqa: F401

alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("ValueNetwork", fc_layer_params=(8, ))
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("TrainerConfig", random_seed=1, unroll_length=8, num_iterations=10**9, num_checkpoints=10**9)
