"""DQN on MountainCar-v0, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/classic_control/dqn_mountain_car_conf.py --root_dir /tmp/dqn_car
"""

import alf
from alf.examples import dqn_conf  # noqa: F401
from alf.utils.losses import element_wise_huber_loss
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='MountainCar-v0', num_parallel_environments=1)

alf.config('QNetwork', fc_layer_params=(256, 256))

alf.config('OneStepTDLoss', gamma=0.98, td_error_loss_fn=element_wise_huber_loss)

# 600 environment steps
alf.config('SacAlgorithm', target_update_period=300)

alf.config(
    'DqnAlgorithm',
    rollout_epsilon_greedy=LinearScheduler('percent', [(0, 1.0), (0.2, 0.07)]),
    q_optimizer=alf.optimizers.Adam(lr=4e-3, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=16,
    initial_collect_steps=1000,
    replay_buffer_length=10000,
    mini_batch_size=128,
    num_updates_per_train_iter=8,
    num_iterations=7500,
    summary_interval=75)
