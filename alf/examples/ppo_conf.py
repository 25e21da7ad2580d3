"""What PPO confs have in common, the algorithm and its usual settings; imported by confs that name an environment."""

import alf
from alf.algorithms.agent import Agent
from alf.algorithms.ppo_algorithm import PPOAlgorithm

alf.config('Agent', rl_algorithm_cls=PPOAlgorithm)

alf.config('PPOLoss', gamma=0.99, td_lambda=0.95, normalize_advantages=True, importance_ratio_clipping=0.2)

alf.config(
    'TrainerConfig',
    algorithm_ctor=Agent,
    whole_replay_buffer_training=True,
    clear_replay_buffer=True,
    mini_batch_length=1)
