"""DQN on CartPole-v1, with double Q-learning.

Launch: python -m alf.bin.train --conf dqn_cart_pole_conf.py --root_dir /tmp/dqn_cart_pole
Result: mean return over 100 training episodes 475 on 3 of 3 seeds, after 155k, 185k and 200k environment steps.
Cost: about 110 s for 204k steps on one core of a busy machine.
"""

import alf
from alf.examples import dqn_conf  # noqa: F401
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=8)

alf.config('QNetwork', fc_layer_params=(128, 128))

alf.config('OneStepTDLoss', gamma=0.99)

alf.config('SacAlgorithm', target_update_period=100)

alf.config(
    'DqnAlgorithm',
    target_net_target_action=False,
    rollout_epsilon_greedy=LinearScheduler('env_steps', [(0, 1.0), (60000, 0.01)]),
    q_optimizer=alf.optimizers.Adam(lr=5e-4))

alf.config(
    'TrainerConfig',
    unroll_length=8,
    initial_collect_steps=5000,
    replay_buffer_length=12500,
    mini_batch_size=128,
    num_updates_per_train_iter=12,
    num_iterations=3200,
    summary_interval=50)
