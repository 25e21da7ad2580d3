"""Quantile regression SAC, on Pendulum-v1.

Launch: python -m alf.bin.train --conf qrsac_pendulum_conf.py --root_dir /tmp/qrsac_pendulum
Result: mean return over 10 training episodes -200 after 4.8k to 6.8k environment steps on 3 of 3 seeds.
"""

import alf
from alf.algorithms.qrsac_algorithm import QrsacAlgorithm
from alf.examples import sac_conf  # noqa: F401

alf.config('create_environment', env_name='Pendulum-v1', num_parallel_environments=1)

alf.config('Agent', rl_algorithm_cls=QrsacAlgorithm)

alf.config('ActorDistributionNetwork', fc_layer_params=(256, 256))
alf.config('CriticNetwork', joint_fc_layer_params=(256, 256))

alf.config('OneStepTDQRLoss', num_quantiles=25, gamma=0.99)

alf.config(
    'QrsacAlgorithm',
    target_entropy=-1.0,
    target_update_tau=0.005,
    use_entropy_reward=True,
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    initial_collect_steps=300,
    replay_buffer_length=20000,
    num_iterations=8000,
    summary_interval=200)
