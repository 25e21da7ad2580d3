"""Imports what is not installed."""

import alf
from alf.examples import ppo_conf  # noqa: F401

alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("TrainerConfig", unroll_length=8, mini_batch_size=8, num_updates_per_train_iter=1, num_iterations=3)

import nosuchmodule  # noqa: E402, F401
