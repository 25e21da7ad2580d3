"""Rainbow on Pong, with the settings of https://arxiv.org/abs/1710.02298 and each part a switch.

Different from the paper for a smaller budget: a buffer of 100k steps rather than a million, a learning rate of 1e-4.

Launch: python -m alf.bin.train --conf benchmarks/atari/rainbow_pong_conf.py --root_dir /tmp/rainbow_pong
Switches: --conf_param "noisy=False" and so on: double, dueling, noisy, prioritized; and, as others have these names,
too, "_USER.distribution=None" (or 'c51', 'qr') and "_USER.n_step=1".
"""

import alf
from alf.algorithms.data_transformer import FrameStacker, NStepReturn
from alf.environments import suite_ale
from alf.examples import dqn_conf  # noqa: F401
from alf.networks import DistributionalQNetwork, DuelingQNetwork
from alf.utils.schedulers import LinearScheduler

DOUBLE = alf.define_config('double', True)
DUELING = alf.define_config('dueling', True)
DISTRIBUTION = alf.define_config('distribution', 'c51')
NOISY = alf.define_config('noisy', True)
N_STEP = alf.define_config('n_step', 3)
PRIORITIZED = alf.define_config('prioritized', True)
GAMMA = 0.99

alf.config('create_environment', env_name='pong', env_load_fn=suite_ale.load, num_parallel_environments=8)
alf.config('suite_ale.load', reward_clipping=True, stack_size=1)

Q_NETWORK = DuelingQNetwork if DUELING else DistributionalQNetwork
alf.config(
    Q_NETWORK.__name__,
    noisy_std=0.5 if NOISY else None,
    input_preprocessors=alf.layers.Scale(1 / 255),
    conv_layer_params=((32, 8, 4), (64, 4, 2), (64, 3, 1)),
    stream_fc_layer_params=(512, ))

LOSS = {None: 'OneStepTDLoss', 'c51': 'CategoricalTDLoss', 'qr': 'OneStepTDQRLoss'}[DISTRIBUTION]
alf.config(LOSS, gamma=GAMMA)
alf.config('NStepReturn', n_step=N_STEP, gamma=GAMMA)
alf.config('SacAlgorithm', target_update_period=2000)

alf.config(
    'DqnAlgorithm',
    q_network_cls=Q_NETWORK,
    value_distribution=DISTRIBUTION,
    target_net_target_action=not DOUBLE,
    rollout_epsilon_greedy=0.0 if NOISY else LinearScheduler('env_steps', [(0, 1.0), (62_500, 0.01)]),
    q_optimizer=alf.optimizers.Adam(lr=1e-4, eps=1.5e-4, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    data_transformer_ctor=[FrameStacker, NStepReturn],
    priority_replay=PRIORITIZED,
    priority_replay_alpha=0.5,
    priority_replay_beta=LinearScheduler('percent', [(0, 0.4), (1, 1.0)]),
    mini_batch_length=N_STEP + 1,
    unroll_length=4,
    initial_collect_steps=20_000,
    replay_buffer_length=12_500,
    mini_batch_size=32,
    num_updates_per_train_iter=8,
    num_iterations=0,
    num_env_steps=2_000_000,
    num_checkpoints=5,
    summary_interval=100)
