"""DDPG on Pendulum-v1.

Launch: python -m alf.bin.train --conf ddpg_pendulum_conf.py --root_dir /tmp/ddpg_pendulum
Result: mean return over 10 training episodes -200 or better after 6.0k to 9.0k environment steps (5 of 5 seeds); the
policy without exploration has -143 to -149 after 15k (3 seeds).
Cost: 24 s for 15k steps on one core.
"""

import alf
from alf.examples import ddpg_conf  # noqa: F401
from alf.utils.schedulers import StepScheduler

alf.config('create_environment', env_name='Pendulum-v1', num_parallel_environments=1)

alf.config('ActorNetwork', fc_layer_params=(64, 64))
alf.config('CriticNetwork', joint_fc_layer_params=(64, 64))

alf.config('OneStepTDLoss', gamma=0.98)

alf.config(
    'DdpgAlgorithm',
    ou_stddev=0.1,
    # Random actions first, until training begins.
    rollout_random_action=StepScheduler('env_steps', [(1000, 1.0), (1001, 0.0)]),
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    initial_collect_steps=1000,
    replay_buffer_length=20000,
    mini_batch_size=128,
    num_iterations=15000,
    summary_interval=500)
