"""PPO on LunarLander-v3.

Launch: python -m alf.bin.train --conf ppo_lunar_lander_conf.py --root_dir /tmp/ppo_lunar_lander
Result: mean return 163 and 252 after 1M environment steps (2 seeds).
Cost: 125 s on two cores.
"""

import torch

import alf
from alf.examples import ppo_conf  # noqa: F401

alf.config('create_environment', env_name='LunarLander-v3', num_parallel_environments=16)

alf.config('ActorDistributionNetwork', fc_layer_params=(64, 64), activation=torch.tanh)
alf.config('ValueNetwork', fc_layer_params=(64, 64), activation=torch.tanh)

alf.config('PPOLoss', gamma=0.999, td_lambda=0.98, entropy_regularization=0.01, td_loss_weight=0.5)

alf.config('Agent', optimizer=alf.optimizers.Adam(lr=3e-4, gradient_clipping=0.5, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=1024,
    mini_batch_size=64,
    num_updates_per_train_iter=4,
    num_iterations=61,
    summary_interval=1)
