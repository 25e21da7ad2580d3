"""PPO on BipedalWalker-v3, observations and rewards normalized.

Launch: python -m alf.bin.train --conf ppo_bipedal_walker_conf.py --root_dir /tmp/ppo_bipedal_walker
Result: mean return 33 after 1.5M of 5M environment steps, still climbing (1 seed, ended there).
Cost: about 2,500 environment steps/s on two cores, half an hour for the whole run.
"""

from functools import partial

import torch

import alf
from alf.algorithms.data_transformer import ObservationNormalizer, RewardNormalizer
from alf.examples import ppo_conf  # noqa: F401

alf.config('create_environment', env_name='BipedalWalker-v3', num_parallel_environments=32)

alf.config(
    'TrainerConfig',
    data_transformer_ctor=[partial(ObservationNormalizer, clipping=10.0), partial(RewardNormalizer, clip_value=10.0)])

alf.config('ActorDistributionNetwork', fc_layer_params=(64, 64), activation=torch.tanh)
alf.config('ValueNetwork', fc_layer_params=(64, 64), activation=torch.tanh)

alf.config('PPOLoss', gamma=0.999, td_lambda=0.95, importance_ratio_clipping=0.18, td_loss_weight=0.5)

alf.config('Agent', optimizer=alf.optimizers.Adam(lr=3e-4, gradient_clipping=0.5, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=2048,
    mini_batch_size=64,
    num_updates_per_train_iter=10,
    num_iterations=76,
    summary_interval=1)
