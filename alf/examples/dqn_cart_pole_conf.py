"""DQN on CartPole-v1.

Launch: python -m alf.bin.train --conf dqn_cart_pole_conf.py --root_dir /tmp/dqn_cart_pole
"""

import alf
from alf.examples import dqn_conf  # noqa: F401
from alf.utils.losses import element_wise_huber_loss
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=8)

alf.config('QNetwork', fc_layer_params=(256, 256))

alf.config('OneStepTDLoss', gamma=0.99, td_error_loss_fn=element_wise_huber_loss)

alf.config('SacAlgorithm', target_update_period=64)

alf.config(
    'DqnAlgorithm',
    rollout_epsilon_greedy=LinearScheduler('percent', [(0, 1.0), (0.16, 0.04)]),
    q_optimizer=alf.optimizers.Adam(lr=2.3e-3, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=8,
    initial_collect_steps=1000,
    replay_buffer_length=12500,
    mini_batch_size=64,
    num_updates_per_train_iter=32,
    num_iterations=784,
    summary_interval=20)
