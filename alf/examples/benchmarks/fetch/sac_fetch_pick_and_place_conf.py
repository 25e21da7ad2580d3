"""SAC with hindsight experience replay on FetchPickAndPlace-v4, with networks and learning rate of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/fetch/sac_fetch_pick_and_place_conf.py --root_dir /tmp/sac_fetch
"""

import alf
from alf.examples import her_fetch_conf, sac_conf  # noqa: F401
from alf.nest.utils import NestConcat

alf.config('create_environment', env_name='FetchPickAndPlace-v4', num_parallel_environments=16)

alf.config('ActorDistributionNetwork', preprocessing_combiner=NestConcat(), fc_layer_params=(512, 512, 512))
alf.config('CriticNetwork', joint_fc_layer_params=(512, 512, 512))

alf.config('OneStepTDLoss', gamma=0.95)

alf.config(
    'SacAlgorithm',
    target_update_tau=0.05,
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

# 16 episodes an iteration, 1M environment steps in all.
alf.config(
    'TrainerConfig',
    unroll_length=50,
    initial_collect_steps=10000,
    replay_buffer_length=62500,
    mini_batch_size=1024,
    num_updates_per_train_iter=200,
    num_iterations=1250,
    summary_interval=10)
