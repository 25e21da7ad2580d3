"""A process that may open 64 files, and needs more for its workers."""

import resource

import alf
from alf.examples import ppo_conf  # noqa: F401

resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=30, num_workers=30)
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
