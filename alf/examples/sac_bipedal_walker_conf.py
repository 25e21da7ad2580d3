"""SAC on BipedalWalker-v3, with networks, learning rate and discount of RL Zoo.

Launch: python -m alf.bin.train --conf sac_bipedal_walker_conf.py --root_dir /tmp/sac_bipedal_walker
"""

import alf
from alf.examples import sac_conf  # noqa: F401

alf.config('create_environment', env_name='BipedalWalker-v3', num_parallel_environments=1)

alf.config('ActorDistributionNetwork', fc_layer_params=(400, 300))
alf.config('CriticNetwork', joint_fc_layer_params=(400, 300))

alf.config('OneStepTDLoss', gamma=0.98)

alf.config(
    'SacAlgorithm',
    target_entropy=-4.0,
    target_update_tau=0.02,
    actor_optimizer=alf.optimizers.Adam(lr=7.3e-4),
    critic_optimizer=alf.optimizers.Adam(lr=7.3e-4),
    alpha_optimizer=alf.optimizers.Adam(lr=7.3e-4))

alf.config(
    'TrainerConfig',
    initial_collect_steps=10000,
    replay_buffer_length=300000,
    num_iterations=500000,
    summary_interval=2000)
