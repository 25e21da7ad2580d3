"""Asks for a spec, which creates the environment, and configures the environment afterwards."""

import alf
from alf.examples import ppo_conf  # noqa: F401

alf.config("create_environment", num_parallel_environments=2, num_workers=0)
size = alf.get_observation_spec().numel
alf.config("create_environment", env_name="MountainCar-v0")
