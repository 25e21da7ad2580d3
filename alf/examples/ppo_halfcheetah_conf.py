"""PPO on HalfCheetah-v5, observations and rewards normalized.

Launch: python -m alf.bin.train --conf ppo_halfcheetah_conf.py --root_dir /tmp/ppo_halfcheetah
Result: mean return 1441 and 4202 after 1M environment steps (2 seeds).
Cost: about 5 minutes on two cores.
"""

from functools import partial

import torch

import alf
from alf.algorithms.data_transformer import ObservationNormalizer, RewardNormalizer
from alf.examples import ppo_conf  # noqa: F401
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='HalfCheetah-v5', num_parallel_environments=8)

alf.config(
    'TrainerConfig',
    data_transformer_ctor=[partial(ObservationNormalizer, clipping=10.0), partial(RewardNormalizer, clip_value=10.0)])

alf.config('ActorDistributionNetwork', fc_layer_params=(64, 64), activation=torch.tanh)
alf.config('ValueNetwork', fc_layer_params=(64, 64), activation=torch.tanh)

alf.config('PPOLoss', gamma=0.99, td_lambda=0.95, td_loss_weight=0.5)

alf.config(
    'Agent',
    optimizer=alf.optimizers.Adam(
        lr=LinearScheduler('percent', [(0, 3e-4), (1, 0.0)]), gradient_clipping=0.5, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=256,
    mini_batch_size=64,
    num_updates_per_train_iter=10,
    num_iterations=488,
    summary_interval=2)
