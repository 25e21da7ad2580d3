"""What DQN confs have in common, the algorithm and hard target updates; imported by confs that name an environment."""

import alf
from alf.algorithms.dqn_algorithm import DqnAlgorithm

alf.config('DqnAlgorithm', num_critic_replicas=1)
alf.config('SacAlgorithm', target_update_tau=1.0)

alf.config(
    'TrainerConfig',
    algorithm_ctor=DqnAlgorithm,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    mini_batch_length=2)
