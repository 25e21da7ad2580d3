"""Recurrent PPO on CartPole-v1 without velocities: the policy must remember to know which way the pole falls.

Launch: python -m alf.bin.train --conf ppo_rnn_cart_pole_conf.py --root_dir /tmp/ppo_rnn_cart_pole
Result: mean return over 100 episodes, 2 seeds: 475 after 240k steps, 475 after 224k steps (run of 408k).
Cost: 211 s on one core.
"""

from functools import partial

import torch

import alf
from alf.algorithms.data_transformer import ObservationNormalizer
from alf.environments.gym_wrappers import SelectObservation
from alf.examples import ppo_conf  # noqa: F401
from alf.networks import ActorDistributionRNNNetwork, ValueRNNNetwork
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=16)
alf.config('suite_gym.load', gym_env_wrappers=(partial(SelectObservation, elements=[0, 2]), ))

# The difference of two angles is small: without normalization the networks hardly see it.
alf.config(
    'TrainerConfig', data_transformer_ctor=partial(ObservationNormalizer, clipping=10.0, update_mode='rollout'))

alf.config(
    'PPOAlgorithm',
    actor_network_ctor=partial(
        ActorDistributionRNNNetwork, fc_layer_params=(64, ), lstm_hidden_size=64, activation=torch.tanh),
    value_network_ctor=partial(ValueRNNNetwork, fc_layer_params=(64, ), lstm_hidden_size=64, activation=torch.tanh))

alf.config(
    'PPOLoss',
    gamma=0.98,
    td_lambda=0.9,
    td_loss_weight=0.5,
    importance_ratio_clipping=LinearScheduler('percent', [(0, 0.2), (1, 0.0)]))

alf.config(
    'Agent',
    optimizer=alf.optimizers.Adam(
        lr=LinearScheduler('percent', [(0, 2e-3), (1, 0.0)]), gradient_clipping=0.5, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=32,
    mini_batch_length=16,
    mini_batch_size=16,
    use_rollout_state=True,
    num_updates_per_train_iter=6,
    num_iterations=800,
    summary_interval=10)
