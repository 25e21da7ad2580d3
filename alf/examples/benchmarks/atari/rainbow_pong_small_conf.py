"""Rainbow on Pong with a budget for one core: the small network of https://arxiv.org/abs/1312.5602.

Different from Rainbow otherwise: an update for every step, eight games at once, a learning rate of 2e-4, less noise.

Launch: python -m alf.bin.train --conf benchmarks/atari/rainbow_pong_small_conf.py --root_dir /tmp/rainbow_pong_small
Result: mean return over 10 training episodes -20.9 and -20.4 after 40k steps, -14.0 and -9.4 after 100k, -10.3 and -9.4
after 110k (2 seeds). Without distribution, noise, priorities and dueling streams -10.4 and -13.3 after 60k, 16.5 after
94k and 2.8 after 112k (2 seeds); without distribution -7.8 and -14.6, without noise -17.0 and -17.8, without dueling
streams -16.5 after 112k; without priorities -20.4 after 90k (1 seed).
Cost: 50 minutes for 110k steps, 22 for 94k without the four parts, on one core of a busy machine, with
TrainerConfig.compile="default".
Switches: those of rainbow_pong_conf.py, for example --conf_param "noisy=False". Without
noise, actions are epsilon-greedy.
"""

import alf
from alf.examples.benchmarks.atari import rainbow_pong_conf
from alf.utils.schedulers import LinearScheduler

alf.config(
    rainbow_pong_conf.Q_NETWORK.__name__,
    noisy_std=0.1 if rainbow_pong_conf.NOISY else None,
    conv_layer_params=((16, 8, 4), (32, 4, 2)),
    stream_fc_layer_params=(256, ))

alf.config('SacAlgorithm', target_update_period=1000)

alf.config(
    'DqnAlgorithm',
    q_optimizer=alf.optimizers.Adam(lr=2e-4, eps=1.5e-4, gradient_clipping=10.0, clip_by_global_norm=True))

if not rainbow_pong_conf.NOISY:
    alf.config('DqnAlgorithm', rollout_epsilon_greedy=LinearScheduler('env_steps', [(0, 1.0), (10_000, 0.02)]))

alf.config(
    'TrainerConfig',
    unroll_length=1,
    num_updates_per_train_iter=8,
    initial_collect_steps=2400,
    num_env_steps=150_000,
    summary_interval=250)
