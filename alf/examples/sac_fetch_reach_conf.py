"""SAC with hindsight experience replay on FetchReach-v4.

Launch: python -m alf.bin.train --conf sac_fetch_reach_conf.py --root_dir /tmp/sac_fetch_reach
Result: every episode ends at the goal from 5.4k environment steps on; mean return over 50 training episodes -1.9 after
8.0k to 8.4k steps (3 of 3 seeds).
Cost: about 2 minutes on one of two busy cores for 10k environment steps.
"""

import alf
from alf.examples import her_fetch_conf, sac_conf  # noqa: F401
from alf.nest.utils import NestConcat

alf.config('create_environment', env_name='FetchReach-v4')

alf.config('ActorDistributionNetwork', preprocessing_combiner=NestConcat(), fc_layer_params=(64, 64))
alf.config('CriticNetwork', joint_fc_layer_params=(64, 64))

alf.config(
    'SacAlgorithm',
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    unroll_length=5,
    initial_collect_steps=1000,
    replay_buffer_length=25000,
    mini_batch_size=256,
    num_updates_per_train_iter=10,
    num_iterations=500,
    summary_interval=25)
