"""SAC on Pendulum-v1.

Launch: python -m alf.bin.train --conf sac_pendulum_conf.py --root_dir /tmp/sac_pendulum
Result: mean return over 10 training episodes -200 or better within 6k environment steps on 3 of 3 seeds (4.2k to 5.4k).
Cost: 20 s to -200 on one core.
"""

import alf
from alf.examples import sac_conf  # noqa: F401

alf.config('create_environment', env_name='Pendulum-v1', num_parallel_environments=1)

alf.config('ActorDistributionNetwork', fc_layer_params=(128, 128))
alf.config('CriticNetwork', joint_fc_layer_params=(128, 128))

alf.config(
    'SacAlgorithm',
    target_entropy=-1.0,
    target_update_tau=0.01,
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    initial_collect_steps=300,
    replay_buffer_length=20000,
    mini_batch_size=128,
    num_iterations=6000,
    summary_interval=200)
