"""SAC on InvertedDoublePendulum-v5, a small MuJoCo task.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/sac_inverted_double_pendulum_conf.py --root_dir /tmp/sac_double
Result: mean return over 10 training episodes 8137 after 20k environment steps, and rising (1 seed).
Cost: 450 s for 20k steps on one core of a busy machine.
"""

import alf
from alf.examples.benchmarks.mujoco import sac_mujoco_conf  # noqa: F401

alf.config('create_environment', env_name='InvertedDoublePendulum-v5')

alf.config(
    'TrainerConfig',
    initial_collect_steps=1000,
    replay_buffer_length=100000,
    num_iterations=20000,
    summary_interval=200)
