"""Rainbow on Pong with a budget for one core: the small network of https://arxiv.org/abs/1906.05243.

Different from the paper: 5 steps rather than 20, an update for every second step, eight games at once.

Launch: python -m alf.bin.train --conf benchmarks/atari/rainbow_pong_small_conf.py --root_dir /tmp/rainbow_pong_small
Result: mean return over 10 training episodes -20.5 after 40k agent steps and 20k updates (1 seed): not yet rising.
Cost: 12 minutes for 40k steps on one of two busy cores, with TrainerConfig.compile="default".
Switches: those of rainbow_pong_conf.py, for example --conf_param "_CONFIG._USER.distribution=None".
"""

import alf
from alf.examples.benchmarks.atari import rainbow_pong_conf
from alf.utils.schedulers import LinearScheduler

N_STEP = alf.define_config('small_n_step', 5)

alf.config(
    rainbow_pong_conf.Q_NETWORK.__name__,
    noisy_std=0.1 if rainbow_pong_conf.NOISY else None,
    conv_layer_params=((32, 5, 5), (64, 5, 5)),
    stream_fc_layer_params=(256, ))

alf.config('NStepReturn', n_step=N_STEP)

if not rainbow_pong_conf.NOISY:
    alf.config('DqnAlgorithm', rollout_epsilon_greedy=LinearScheduler('env_steps', [(0, 1.0), (8000, 0.01)]))

alf.config(
    'TrainerConfig',
    mini_batch_length=N_STEP + 1,
    unroll_length=1,
    num_updates_per_train_iter=4,
    initial_collect_steps=1600,
    num_env_steps=100_000,
    summary_interval=250)
