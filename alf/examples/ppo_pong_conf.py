"""PPO on Pong from images: 84x84 grey, four frames stacked, in ALE's native batch.

Launch: python -m alf.bin.train --conf ppo_pong_conf.py --root_dir /tmp/ppo_pong
Result: mean return -20.2 after 29k of 10M steps, where a random policy has -20.5; not trained further here. These
settings are published to reach about 20 at the end.
Cost: about 110 environment steps/s on one core without a GPU; the two networks take nearly all of it.
"""

import alf
from alf.algorithms.data_transformer import ImageScaleTransformer
from alf.environments import suite_ale
from alf.examples import ppo_conf  # noqa: F401
from alf.utils.schedulers import LinearScheduler

alf.config('create_environment', env_name='pong', env_load_fn=suite_ale.load, num_parallel_environments=8)
alf.config('suite_ale.load', reward_clipping=True)

alf.config('TrainerConfig', data_transformer_ctor=ImageScaleTransformer)

CONV_LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
alf.config('ActorDistributionNetwork', conv_layer_params=CONV_LAYERS, fc_layer_params=(512, ))
alf.config('ValueNetwork', conv_layer_params=CONV_LAYERS, fc_layer_params=(512, ))

alf.config(
    'PPOLoss',
    gamma=0.99,
    td_lambda=0.95,
    importance_ratio_clipping=0.1,
    entropy_regularization=0.01,
    td_loss_weight=0.5)

alf.config(
    'Agent',
    optimizer=alf.optimizers.Adam(
        lr=LinearScheduler('percent', [(0, 2.5e-4), (1, 0.0)]), gradient_clipping=0.5, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=128,
    mini_batch_size=256,
    num_updates_per_train_iter=4,
    num_iterations=9765,
    summary_interval=5)
