"""A2C on CartPole-v0.

Launch: python -m alf.bin.train --conf ac_cart_pole_conf.py --root_dir /tmp/ac_cart_pole
Result: mean return 195 over 100 episodes after 36k to 161k environment steps on 5 of 5 seeds.
Cost: 6 to 15 s to 195 on one core, start included; the whole run (191k steps) 18 s.
"""

from functools import partial

import torch

import alf
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm

alf.config('create_environment', env_name='CartPole-v0', num_parallel_environments=8)

alf.config('ActorDistributionNetwork', fc_layer_params=(64, 64), activation=torch.tanh)
alf.config('ValueNetwork', fc_layer_params=(64, 64), activation=torch.tanh)

alf.config(
    'ActorCriticLoss', gamma=0.98, use_gae=True, td_lambda=0.95, entropy_regularization=1e-3, td_loss_weight=0.5,
    normalize_advantages=True)

alf.config(
    'TrainerConfig',
    algorithm_ctor=partial(
        ActorCriticAlgorithm,
        optimizer=alf.optimizers.Adam(lr=2e-3, gradient_clipping=0.5, clip_by_global_norm=True)),
    unroll_length=16,
    num_iterations=1500,
    summary_interval=20)
