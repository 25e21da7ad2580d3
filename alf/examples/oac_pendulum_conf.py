"""OAC: SAC that explores where its critics disagree, on Pendulum-v1.

Launch: python -m alf.bin.train --conf oac_pendulum_conf.py --root_dir /tmp/oac_pendulum
Result: mean return over 10 training episodes -200 or better within 6k environment steps in 3 of 5 seeds; the policy
without exploration has -143 after 6k (3 of 3 seeds).
Cost: 50 s for 6k steps on one core.
"""

import alf
from alf.algorithms.oac_algorithm import OacAlgorithm
from alf.examples import sac_conf  # noqa: F401

alf.config('create_environment', env_name='Pendulum-v1', num_parallel_environments=1)

alf.config('Agent', rl_algorithm_cls=OacAlgorithm)

alf.config('ActorDistributionNetwork', fc_layer_params=(256, 256))
alf.config('CriticNetwork', joint_fc_layer_params=(256, 256))

alf.config(
    'OacAlgorithm',
    target_entropy=-1.0,
    target_update_tau=0.005,
    explore_delta=2.0,
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    initial_collect_steps=300,
    replay_buffer_length=20000,
    num_iterations=6000,
    summary_interval=200)
