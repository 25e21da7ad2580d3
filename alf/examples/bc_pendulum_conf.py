"""Behavioral cloning on Pendulum-v1 from a stored buffer; the environment is there for evaluation only.

A run that keeps its replay buffer makes one, see iql_pendulum_conf.py. Only its newest steps are imitated, those of the
policy when it was good.

Launch: python -m alf.bin.train --conf bc_pendulum_conf.py --root_dir runs/bc_pendulum \
    --conf_param "TrainerConfig.offline_buffer_dir='runs/sac_pendulum'"
Result: mean return over 20 evaluated episodes -122, -146 and -128 after 5k updates (3 seeds of one buffer, whose policy
had -131).
Cost: half a minute on one core.
"""

import alf
from alf.algorithms.bc_algorithm import BcAlgorithm

alf.config('create_environment', env_name='Pendulum-v1', num_parallel_environments=1)

alf.config('ActorNetwork', fc_layer_params=(64, 64))

alf.config('BcAlgorithm', actor_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    algorithm_ctor=BcAlgorithm,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    offline_buffer_length=5000,
    unroll_length=0,
    mini_batch_length=1,
    mini_batch_size=256,
    num_updates_per_train_iter=100,
    num_iterations=50,
    evaluate=True,
    eval_interval=10,
    num_eval_episodes=20,
    num_eval_environments=10,
    summary_interval=5)
