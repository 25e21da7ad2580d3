"""Implicit Q-learning on Pendulum-v1 from a stored buffer; the environment is there for evaluation only.

A run that keeps its replay buffer makes one; its newest 10k steps are learned from:
python -m alf.bin.train --conf sac_pendulum_conf.py --root_dir runs/sac_pendulum \
    --conf_param "ReplayBuffer.enable_checkpoint=True" --conf_param "TrainerConfig.num_iterations=15000"

Launch: python -m alf.bin.train --conf iql_pendulum_conf.py --root_dir runs/iql_pendulum \
    --conf_param "TrainerConfig.offline_buffer_dir='runs/sac_pendulum'"
Result: mean return over 20 evaluated episodes -170, -162 and -169 after 12k updates (3 seeds of one buffer, whose
policy had -131); -157 to -121 after 2k.
Cost: about 2 minutes on one core.
"""

from functools import partial

import alf
from alf.algorithms.data_transformer import RewardScaling
from alf.algorithms.iql_algorithm import IqlAlgorithm

alf.config('create_environment', env_name='Pendulum-v1', num_parallel_environments=1)

alf.config('ActorDistributionNetwork', fc_layer_params=(64, 64))
alf.config('CriticNetwork', joint_fc_layer_params=(64, 64))
alf.config('ValueNetwork', fc_layer_params=(64, 64))

alf.config('OneStepTDLoss', gamma=0.98)

alf.config(
    'IqlAlgorithm',
    temperature=1.0,
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    value_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    algorithm_ctor=IqlAlgorithm,
    # Advantages are multiplied by the temperature and exponentiated: they have to be of the size of 1.
    data_transformer_ctor=partial(RewardScaling, scale=0.1),
    offline_buffer_length=10000,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    unroll_length=0,
    mini_batch_length=2,
    mini_batch_size=256,
    num_updates_per_train_iter=100,
    num_iterations=120,
    evaluate=True,
    eval_interval=20,
    num_eval_episodes=20,
    num_eval_environments=10,
    summary_interval=5)
