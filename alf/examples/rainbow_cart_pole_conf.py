"""Rainbow on CartPole-v1: double Q-learning, dueling streams, value distribution, noisy layers, n-step, priorities.

Launch: python -m alf.bin.train --conf rainbow_cart_pole_conf.py --root_dir /tmp/rainbow_cart_pole
"""

import alf
from alf.algorithms.data_transformer import NStepReturn
from alf.examples import dqn_conf  # noqa: F401
from alf.networks import DuelingQNetwork
from alf.utils.schedulers import LinearScheduler

GAMMA, N_STEP = 0.99, 3

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=8)

alf.config('DuelingQNetwork', noisy_std=0.5, fc_layer_params=(128, ), stream_fc_layer_params=(128, ))

alf.config('CategoricalTDLoss', gamma=GAMMA)
alf.config('NStepReturn', n_step=N_STEP, gamma=GAMMA)

alf.config('SacAlgorithm', target_update_period=64)

alf.config(
    'DqnAlgorithm',
    q_network_cls=DuelingQNetwork,
    value_distribution='c51',
    v_min=0.0,
    v_max=100.0,
    target_net_target_action=False,
    rollout_epsilon_greedy=0.0,
    q_optimizer=alf.optimizers.Adam(lr=1e-3, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    data_transformer_ctor=NStepReturn,
    priority_replay=True,
    priority_replay_alpha=0.5,
    priority_replay_beta=LinearScheduler('percent', [(0, 0.4), (1, 1.0)]),
    mini_batch_length=N_STEP + 1,
    unroll_length=8,
    initial_collect_steps=1000,
    replay_buffer_length=12500,
    mini_batch_size=64,
    num_updates_per_train_iter=16,
    num_iterations=784,
    summary_interval=20)
