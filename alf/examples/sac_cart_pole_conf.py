"""SAC on CartPole-v1: a discrete action, whose policy is the softmax of its values.

Launch: python -m alf.bin.train --conf sac_cart_pole_conf.py --root_dir /tmp/sac_cart_pole
Result: mean return over 100 training episodes 475 on 3 of 3 seeds, after 96k, 96k and 118k environment steps.
Cost: about 145 s of one core for 100k steps, on a busy machine.
"""

import alf
from alf.algorithms.td_loss import TDLoss
from alf.examples import sac_conf  # noqa: F401

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=8)

alf.config('QNetwork', fc_layer_params=(128, 128))

# What is lost by drifting out of sight shows after a hundred steps and more: one-step targets tell it too slowly.
alf.config('TDLoss', gamma=0.99, td_lambda=0.9)

alf.config(
    'SacAlgorithm',
    critic_loss_ctor=TDLoss,
    target_entropy=0.1,  # nats; of 0.69 for two equally likely actions
    target_update_tau=0.03,
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    unroll_length=8,
    initial_collect_steps=1000,
    replay_buffer_length=5000,
    mini_batch_length=9,
    mini_batch_size=32,
    num_updates_per_train_iter=16,
    num_iterations=2200,
    summary_interval=50)
