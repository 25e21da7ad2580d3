"""DDPG with hindsight experience replay on FetchReach-v4.

Launch: python -m alf.bin.train --conf ddpg_fetch_reach_conf.py --root_dir /tmp/ddpg_fetch_reach
Result: 7 of 10 episodes end at the goal after 3.4k environment steps, 9 or 10 of 10 after 5.4k, with random actions;
without those a mean return of -1.8 over 100 episodes after 9.8k (1 seed).
Cost: about 2.5 minutes on one of two busy cores.
"""

import alf
from alf.examples import ddpg_conf, her_fetch_conf  # noqa: F401
from alf.nest.utils import NestConcat

alf.config('create_environment', env_name='FetchReach-v4')

alf.config('ActorNetwork', preprocessing_combiner=NestConcat(), fc_layer_params=(64, 64))
alf.config('CriticNetwork', joint_fc_layer_params=(64, 64))

alf.config(
    'DdpgAlgorithm',
    rollout_random_action=0.3,
    # Squared actions cost a little: the hand is moved gently.
    action_l2=0.05,
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    unroll_length=5,
    initial_collect_steps=1000,
    replay_buffer_length=25000,
    mini_batch_size=256,
    num_updates_per_train_iter=10,
    num_iterations=500,
    summary_interval=25)
