"""DQN on Pong: 84x84 grey frames, stored once each and stacked by four when they are sampled, in ALE's native batch.

Launch: python -m alf.bin.train --conf benchmarks/atari/dqn_pong_conf.py --root_dir /tmp/dqn_pong
Switches: --conf_param "double=True" (double Q-learning), "dueling=True".
"""

import alf
from alf.algorithms.data_transformer import FrameStacker
from alf.environments import suite_ale
from alf.examples import dqn_conf  # noqa: F401
from alf.networks import DuelingQNetwork, QNetwork
from alf.utils.losses import element_wise_huber_loss
from alf.utils.schedulers import LinearScheduler

DOUBLE = alf.define_config('double', False)
DUELING = alf.define_config('dueling', False)

alf.config('create_environment', env_name='pong', env_load_fn=suite_ale.load, num_parallel_environments=8)
alf.config('suite_ale.load', reward_clipping=True, stack_size=1)

IMAGE_TO_FLOAT = alf.layers.Scale(1 / 255)
CONV_LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
alf.config('QNetwork', input_preprocessors=IMAGE_TO_FLOAT, conv_layer_params=CONV_LAYERS, fc_layer_params=(512, ))
alf.config(
    'DuelingQNetwork',
    input_preprocessors=IMAGE_TO_FLOAT,
    conv_layer_params=CONV_LAYERS,
    stream_fc_layer_params=(512, ))

alf.config('OneStepTDLoss', gamma=0.99, td_error_loss_fn=element_wise_huber_loss)
alf.config('SacAlgorithm', target_update_period=1000)

alf.config(
    'DqnAlgorithm',
    q_network_cls=DuelingQNetwork if DUELING else QNetwork,
    target_net_target_action=not DOUBLE,
    rollout_epsilon_greedy=LinearScheduler('env_steps', [(0, 1.0), (200_000, 0.01)]),
    q_optimizer=alf.optimizers.Adam(lr=1e-4, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config(
    'TrainerConfig',
    data_transformer_ctor=FrameStacker,
    unroll_length=4,
    initial_collect_steps=20_000,
    replay_buffer_length=12_500,
    mini_batch_size=32,
    num_updates_per_train_iter=8,
    num_iterations=0,
    num_env_steps=2_000_000,
    num_checkpoints=5,
    summary_interval=100)
