"""What SAC confs have in common: algorithm, policy, one update for each environment step; imported by other confs."""

from functools import partial

import alf
from alf.algorithms.agent import Agent
from alf.algorithms.sac_algorithm import SacAlgorithm
from alf.networks import NormalProjectionNetwork
from alf.utils.math_ops import clipped_exp

alf.config('Agent', rl_algorithm_cls=SacAlgorithm)

# The usual policy of SAC: a normal distribution squashed by tanh, whose deviation depends on the observation.
alf.config(
    'ActorDistributionNetwork',
    continuous_projection_net_ctor=partial(
        NormalProjectionNetwork,
        state_dependent_std=True,
        scale_distribution=True,
        std_transform=partial(clipped_exp, clip_value_min=-10, clip_value_max=2)))

alf.config('SacAlgorithm', target_update_tau=0.005)

alf.config(
    'TrainerConfig',
    algorithm_ctor=Agent,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    mini_batch_length=2,
    mini_batch_size=256,
    unroll_length=1,
    num_updates_per_train_iter=1)
