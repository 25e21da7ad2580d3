"""SAC on LunarLanderContinuous-v3, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/box2d/sac_lunar_lander_continuous_conf.py --root_dir /tmp/sac_lunar
"""

import alf
from alf.examples import sac_conf  # noqa: F401
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='LunarLanderContinuous-v3', num_parallel_environments=1)

alf.config('ActorDistributionNetwork', fc_layer_params=(400, 300))
alf.config('CriticNetwork', joint_fc_layer_params=(400, 300))

alf.config('OneStepTDLoss', gamma=0.99)

lr = LinearScheduler('percent', [(0, 7.3e-4), (1, 0.0)])
alf.config(
    'SacAlgorithm',
    target_update_tau=0.01,
    actor_optimizer=alf.optimizers.Adam(lr=lr),
    critic_optimizer=alf.optimizers.Adam(lr=lr),
    alpha_optimizer=alf.optimizers.Adam(lr=lr))

alf.config(
    'TrainerConfig',
    initial_collect_steps=10000,
    replay_buffer_length=500000,
    num_iterations=500000,
    summary_interval=5000)
