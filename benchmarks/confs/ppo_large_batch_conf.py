"""PPO on 4096 native CartPoles, for a measurement of speed: 64 steps, one epoch of batches of 32768 steps.

The sizes are those that PufferLib has for its CartPole: 4096 environments in each of its parts, a horizon of 64,
minibatches of 32768, one layer of 128. Here actor and value network are apart. Updates are compiled: eager ones take
more than twice as long. The runner sets iterations and the summary interval. One checkpoint, at the end.
"""

import alf
from alf.examples import ppo_conf  # noqa: F401

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=4096, native=True)

alf.config('ActorDistributionNetwork', fc_layer_params=(128, ))
alf.config('ValueNetwork', fc_layer_params=(128, ))

alf.config('PPOLoss', gamma=0.95, td_lambda=0.9, td_loss_weight=0.5)

alf.config('Agent', optimizer=alf.optimizers.Adam(lr=3e-3, gradient_clipping=1.5, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    unroll_length=64,
    mini_batch_size=32768,
    num_updates_per_train_iter=1,
    compile='default',
    num_checkpoints=1,
    summarize_first_interval=False)
