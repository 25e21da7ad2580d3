"""DQN on CartPole-v1 with the settings of RL Zoo, for a measurement of speed: 128 updates after each 256 steps.

The target network is copied before each 128 updates: RL Zoo copies it every 10 environment steps, which without
updates between them is the same. The runner sets iterations and the summary interval. One checkpoint, at the end.
"""

import alf
from alf.examples import dqn_conf  # noqa: F401
from alf.utils.losses import element_wise_huber_loss
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=1)

alf.config('QNetwork', fc_layer_params=(256, 256))

alf.config('OneStepTDLoss', gamma=0.99, td_error_loss_fn=element_wise_huber_loss)

alf.config('SacAlgorithm', target_update_period=128)

alf.config(
    'DqnAlgorithm',
    rollout_epsilon_greedy=LinearScheduler('env_steps', [(0, 1.0), (8000, 0.04)]),
    q_optimizer=alf.optimizers.Adam(lr=2.3e-3, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=256,
    initial_collect_steps=1000,
    replay_buffer_length=100000,
    mini_batch_size=64,
    num_updates_per_train_iter=128,
    num_checkpoints=1,
    summarize_first_interval=False)
