"""What TD3 confs have in common: algorithm, one update for each environment step; imported by other confs."""

import alf
from alf.algorithms.agent import Agent
from alf.algorithms.td3_algorithm import Td3Algorithm

alf.config('Agent', rl_algorithm_cls=Td3Algorithm)

alf.config(
    'TrainerConfig',
    algorithm_ctor=Agent,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    mini_batch_length=2,
    unroll_length=1,
    num_updates_per_train_iter=1)
