"""DQN on LunarLander-v3, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/box2d/dqn_lunar_lander_conf.py --root_dir /tmp/dqn_lunar_lander
"""

import alf
from alf.examples import dqn_conf  # noqa: F401
from alf.utils.losses import element_wise_huber_loss
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='LunarLander-v3', num_parallel_environments=1)

alf.config('QNetwork', fc_layer_params=(256, 256))

alf.config('OneStepTDLoss', gamma=0.99, td_error_loss_fn=element_wise_huber_loss)

alf.config('SacAlgorithm', target_update_period=250)

alf.config(
    'DqnAlgorithm',
    rollout_epsilon_greedy=LinearScheduler('percent', [(0, 1.0), (0.12, 0.1)]),
    q_optimizer=alf.optimizers.Adam(lr=6.3e-4, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=4,
    initial_collect_steps=128,
    replay_buffer_length=50000,
    mini_batch_size=128,
    num_updates_per_train_iter=4,
    num_iterations=25000,
    summary_interval=250)
