"""R2D2 on CartPole-v1 without velocities: the policy must remember to know which way the pole falls.

Launch: python -m alf.bin.train --conf r2d2_cart_pole_conf.py --root_dir /tmp/r2d2_cart_pole
Result: mean return over 100 training episodes, 1 seed: 227 after 56k steps, 356 after 238k steps; with the random
actions of 16 environments, in the first of them 40 %.
Cost: about 330 s on one core of a busy machine.
"""

from functools import partial

import alf
from alf.algorithms.data_transformer import ObservationNormalizer
from alf.algorithms.r2d2_algorithm import R2d2Algorithm
from alf.environments.gym_wrappers import SelectObservation

alf.config('create_environment', env_name='CartPole-v1', num_parallel_environments=16)
alf.config('suite_gym.load', gym_env_wrappers=(partial(SelectObservation, elements=[0, 2]), ))

alf.config('QRNNNetwork', fc_layer_params=(64, ), lstm_hidden_size=64, value_fc_layer_params=(64, ))

alf.config(
    'R2d2Algorithm',
    gamma=0.99,
    burn_in_steps=10,
    target_update_period=100,
    q_optimizer=alf.optimizers.Adam(lr=1e-3, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config('ReplayBuffer', state_interval=10)

alf.config(
    'TrainerConfig',
    algorithm_ctor=R2d2Algorithm,
    # The difference of two angles is small: without normalization the network hardly sees it.
    data_transformer_ctor=partial(ObservationNormalizer, clipping=10.0, update_mode='rollout'),
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    use_rollout_state=True,
    priority_replay=True,
    replay_buffer_length=5000,
    initial_collect_steps=2000,
    unroll_length=10,
    mini_batch_length=30,
    mini_batch_size=32,
    num_updates_per_train_iter=2,
    num_iterations=1500,
    metric_min_buffer_size=100,
    summary_interval=20)
