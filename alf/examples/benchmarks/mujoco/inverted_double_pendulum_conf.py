"""InvertedDoublePendulum-v5, a small MuJoCo task: its return is at most 9360; imported by confs with an algorithm."""

import alf
from alf.examples.benchmarks.mujoco import mujoco_conf  # noqa: F401

alf.config('create_environment', env_name='InvertedDoublePendulum-v5')

alf.config(
    'TrainerConfig',
    initial_collect_steps=1000,
    replay_buffer_length=100000,
    num_iterations=40000,
    summary_interval=200)
