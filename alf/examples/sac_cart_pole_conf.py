"""SAC on CartPole-v1: a discrete action, whose policy is the softmax of its values.

Launch: python -m alf.bin.train --conf sac_cart_pole_conf.py --root_dir /tmp/sac_cart_pole
"""

import alf
from alf.examples import sac_conf  # noqa: F401

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=8)

alf.config('QNetwork', fc_layer_params=(64, 64))

alf.config(
    'SacAlgorithm',
    target_entropy=0.2,
    target_update_tau=0.01,
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    initial_collect_steps=1000,
    replay_buffer_length=10000,
    mini_batch_size=128,
    num_updates_per_train_iter=2,
    num_iterations=10000,
    summary_interval=200)
