"""PPO on CartPole-v1.

Launch: python -m alf.bin.train --conf ppo_cart_pole_conf.py --root_dir /tmp/ppo_cart_pole
Result: mean return 475 over 100 episodes after 57k to 66k environment steps on 5 of 5 seeds; 485 to 500 at 102k.
Cost: 8 to 11 s to 475 on one core, start included; the whole run 13 s.
"""

import torch

import alf
from alf.examples import ppo_conf  # noqa: F401
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=8)

alf.config('ActorDistributionNetwork', fc_layer_params=(64, 64), activation=torch.tanh)
alf.config('ValueNetwork', fc_layer_params=(64, 64), activation=torch.tanh)

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
    unroll_length=64,
    mini_batch_size=128,
    num_updates_per_train_iter=6,
    num_iterations=200,
    summary_interval=5)
