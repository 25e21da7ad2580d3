"""SAC on HalfCheetah-v5, for a measurement of speed: 2x256 networks, batches of 256, one update per environment step.

The runner sets iterations and the summary interval. One checkpoint, at the end: a run of normal length makes ten.
"""

import alf
from alf.examples.benchmarks.mujoco import sac_mujoco_conf  # noqa: F401

alf.config('create_environment', env_name='HalfCheetah-v5')

alf.config(
    'TrainerConfig',
    initial_collect_steps=100,
    num_checkpoints=1,
    summarize_first_interval=False)
