"""PPO on CartPole-v1 with the settings of RL Zoo, for a measurement of speed: 8 environments, 32 steps, 20 epochs.

Each epoch is one batch of all 256 steps. The runner sets iterations and the summary interval. One checkpoint, at the
end.
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
    td_lambda=0.8,
    td_loss_weight=0.5,
    importance_ratio_clipping=LinearScheduler('env_steps', [(0, 0.2), (100000, 0.0)]))

alf.config(
    'Agent',
    optimizer=alf.optimizers.Adam(
        lr=LinearScheduler('env_steps', [(0, 1e-3), (100000, 0.0)]), gradient_clipping=0.5, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=32,
    mini_batch_size=256,
    num_updates_per_train_iter=20,
    num_checkpoints=1,
    summarize_first_interval=False)
