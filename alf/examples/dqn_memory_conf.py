"""Feed-forward DQN on the T-maze of r2d2_memory_conf.py: it cannot remember the sign, so it earns 0 on average.

Launch: python -m alf.bin.train --conf dqn_memory_conf.py --root_dir /tmp/dqn_memory
Result: mean return over 100 training episodes, 2 seeds: 0.04 and 0 after 44k steps.
Cost: about 24 s on one core of a busy machine.
"""

import alf
from alf.algorithms.dqn_algorithm import DqnAlgorithm
from alf.environments import suite_memory

alf.config('create_environment', env_name='TMaze', env_load_fn=suite_memory.load, num_parallel_environments=16)
alf.config('suite_memory.load', env_args=dict(corridor_length=10))

alf.config('QNetwork', fc_layer_params=(64, 64))

alf.config(
    'DqnAlgorithm',
    num_critic_replicas=1,
    rollout_epsilon_greedy=0.4,
    rollout_epsilon_alpha=7.0,
    q_optimizer=alf.optimizers.Adam(lr=3e-3, gradient_clipping=10.0, clip_by_global_norm=True))
alf.config('SacAlgorithm', target_update_tau=1.0, target_update_period=100)
alf.config('OneStepTDLoss', gamma=0.99)

alf.config(
    'TrainerConfig',
    algorithm_ctor=DqnAlgorithm,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    replay_buffer_length=2000,
    initial_collect_steps=4000,
    unroll_length=20,
    mini_batch_length=2,
    mini_batch_size=256,
    num_updates_per_train_iter=4,
    num_iterations=150,
    metric_min_buffer_size=100,
    summary_interval=5)
