"""A2C on Breakout from images: 84x84 grey, four frames stacked, in ALE's native batch; a lost life ends an episode.

Launch: python -m alf.bin.train --conf ac_breakout_conf.py --root_dir /tmp/ac_breakout
Result: mean return of a life 0.14 after 92k of 10M steps, where a random policy has 0.08; not trained further here.
Cost: about 380 environment steps/s on one core without a GPU; the two networks take nearly all of it.
"""

import alf
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.agent import Agent
from alf.algorithms.data_transformer import ImageScaleTransformer
from alf.environments import suite_ale

alf.config('create_environment', env_name='breakout', env_load_fn=suite_ale.load, num_parallel_environments=32)
alf.config('suite_ale.load', reward_clipping=True, terminal_on_life_loss=True)

alf.config('TrainerConfig', data_transformer_ctor=ImageScaleTransformer)

CONV_LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
alf.config('ActorDistributionNetwork', conv_layer_params=CONV_LAYERS, fc_layer_params=(512, ))
alf.config('ValueNetwork', conv_layer_params=CONV_LAYERS, fc_layer_params=(512, ))

alf.config('ActorCriticLoss', gamma=0.99, entropy_regularization=0.01, td_loss_weight=0.5)

alf.config(
    'Agent',
    rl_algorithm_cls=ActorCriticAlgorithm,
    optimizer=alf.optimizers.Adam(lr=1e-3, gradient_clipping=0.5, clip_by_global_norm=True))

alf.config('TrainerConfig', algorithm_ctor=Agent, unroll_length=8, num_iterations=39000, summary_interval=50)
