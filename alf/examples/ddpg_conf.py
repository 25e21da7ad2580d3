"""What DDPG confs have in common: algorithm, one update for each environment step; imported by other confs."""

import alf
from alf.algorithms.agent import Agent
from alf.algorithms.ddpg_algorithm import DdpgAlgorithm

alf.config('Agent', rl_algorithm_cls=DdpgAlgorithm)

alf.config('DdpgAlgorithm', target_update_tau=0.005)

alf.config(
    'TrainerConfig',
    algorithm_ctor=Agent,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    mini_batch_length=2,
    unroll_length=1,
    num_updates_per_train_iter=1)
