"""SAC on Pendulum-v1, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/classic_control/sac_pendulum_conf.py --root_dir /tmp/sac_pendulum
"""

import alf
from alf.examples import sac_conf  # noqa: F401

alf.config('create_environment', env_name='Pendulum-v1', num_parallel_environments=1)

alf.config('ActorDistributionNetwork', fc_layer_params=(256, 256))
alf.config('CriticNetwork', joint_fc_layer_params=(256, 256))

alf.config('OneStepTDLoss', gamma=0.99)

alf.config(
    'SacAlgorithm',
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    initial_collect_steps=100,
    replay_buffer_length=20000,
    num_iterations=20000,
    summary_interval=250)
