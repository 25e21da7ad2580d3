"""SAC on InvertedDoublePendulum-v5, a small MuJoCo task.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/sac_inverted_double_pendulum_conf.py --root_dir /tmp/sac_double
Result: mean return over 10 training episodes 9000 after 22k and 23k environment steps, 9352 and 9353 after 39k (2
seeds); the policy without exploration 9360 of at most 9360.
Cost: 240 s for 39k steps on one core, with TrainerConfig.compile="default".
"""

import alf
from alf.examples.benchmarks.mujoco import sac_mujoco_conf  # noqa: F401

alf.config('create_environment', env_name='InvertedDoublePendulum-v5')

alf.config(
    'TrainerConfig',
    initial_collect_steps=1000,
    replay_buffer_length=100000,
    num_iterations=40000,
    summary_interval=200)
