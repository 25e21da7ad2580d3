"""Q-learning, an algorithm of one page, on CartPole-v1.

Launch: python -m alf.bin.train --conf tutorial/q_learning_conf.py --root_dir /tmp/q_learning
Result: mean return 251 over the last training episodes after 62k environment steps (1 seed).
"""

import alf
from alf.examples.tutorial.q_learning_algorithm import QLearningAlgorithm

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=8)

alf.config('QNetwork', fc_layer_params=(128, 128))

alf.config('QLearningAlgorithm', target_update_period=100, optimizer=alf.optimizers.Adam(lr=5e-4))

alf.config(
    'TrainerConfig',
    algorithm_ctor=QLearningAlgorithm,
    unroll_length=8,
    initial_collect_steps=1000,
    replay_buffer_length=12500,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    mini_batch_length=2,
    mini_batch_size=128,
    num_updates_per_train_iter=12,
    num_iterations=1000)
