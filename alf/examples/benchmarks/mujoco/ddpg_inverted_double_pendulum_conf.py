"""DDPG on InvertedDoublePendulum-v5, a small MuJoCo task.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/ddpg_inverted_double_pendulum_conf.py --root_dir /tmp/ddpg
Result: one of two seeds learns: the policy without exploration has 22 after 32k environment steps and 9277 of at most
9360 after 38k; training episodes, whose noise makes the poles fall, 20 and 208.
Cost: 160 s on one core, with TrainerConfig.compile="default".
"""

import alf
from alf.examples import ddpg_conf  # noqa: F401
from alf.utils.schedulers import StepScheduler

alf.config('create_environment', env_name='InvertedDoublePendulum-v5', num_parallel_environments=1)

alf.config('ActorNetwork', fc_layer_params=(256, 256))
alf.config('CriticNetwork', joint_fc_layer_params=(256, 256))

alf.config('OneStepTDLoss', gamma=0.99)

alf.config(
    'DdpgAlgorithm',
    # Random actions first, until training begins.
    rollout_random_action=StepScheduler('env_steps', [(1000, 1.0), (1001, 0.0)]),
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    initial_collect_steps=1000,
    replay_buffer_length=100000,
    mini_batch_size=256,
    num_iterations=40000,
    summary_interval=200)
