"""R2D2 on Pong with the settings of the paper: one 84x84 grey frame at a time, for the network has a memory.

Launch: python -m alf.bin.train --conf benchmarks/atari/r2d2_pong_conf.py --root_dir /tmp/r2d2_pong
Result: not trained yet; the paper has its results after billions of frames of 256 actors.
"""

import alf
from alf.algorithms.data_transformer import ImageScaleTransformer
from alf.algorithms.r2d2_algorithm import R2d2Algorithm
from alf.environments import suite_ale
from alf.nest.utils import NestConcat
from alf.networks import EncodingNetwork
from alf.tensor_specs import TensorSpec

alf.config('create_environment', env_name='pong', env_load_fn=suite_ale.load, num_parallel_environments=64)
alf.config('suite_ale.load', stack_size=1)

CONV_LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
IMAGE = TensorSpec((1, 84, 84))
alf.config(
    'QRNNNetwork',
    input_preprocessors=dict(
        observation=EncodingNetwork(IMAGE, conv_layer_params=CONV_LAYERS, fc_layer_params=(512, )),
        prev_action=None,
        prev_reward=None),
    preprocessing_combiner=NestConcat(),
    lstm_hidden_size=512,
    value_fc_layer_params=(512, ))

alf.config(
    'R2d2Algorithm',
    use_prev_action_and_reward=True,
    q_optimizer=alf.optimizers.Adam(lr=1e-4, eps=1e-3, gradient_clipping=40.0, clip_by_global_norm=True))

# Sequences of 40 steps of burn-in, 80 that are learned and 1 to bootstrap from begin every 40 steps.
alf.config('ReplayBuffer', state_interval=40)

alf.config(
    'TrainerConfig',
    algorithm_ctor=R2d2Algorithm,
    data_transformer_ctor=ImageScaleTransformer,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    use_rollout_state=True,
    priority_replay=True,
    priority_replay_alpha=0.9,
    priority_replay_beta=0.6,
    replay_buffer_length=10000,
    initial_collect_steps=100000,
    unroll_length=40,
    mini_batch_length=121,
    mini_batch_size=64,
    replay_ratio=4.0,
    num_iterations=0,
    num_env_steps=10000000,
    summary_interval=5)
