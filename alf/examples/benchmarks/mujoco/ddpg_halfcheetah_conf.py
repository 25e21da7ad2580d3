"""DDPG on HalfCheetah-v5, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/ddpg_halfcheetah_conf.py --root_dir /tmp/ddpg_halfcheetah
Result: mean return over 5 training episodes 2,668, 1,998 and 2,738 after 100k environment steps (3 seeds); of the last
one without exploration 3,135.
Cost: 23 minutes for 100k steps on a shared core, with TrainerConfig.compile="default".
"""

import alf
from alf.examples import ddpg_conf  # noqa: F401
from alf.utils.schedulers import StepScheduler

alf.config('create_environment', env_name='HalfCheetah-v5', num_parallel_environments=1)

alf.config('ActorNetwork', fc_layer_params=(400, 300))
alf.config('CriticNetwork', joint_fc_layer_params=(400, 300))

alf.config('OneStepTDLoss', gamma=0.99)

alf.config(
    'DdpgAlgorithm',
    # Random actions first, until training begins.
    rollout_random_action=StepScheduler('env_steps', [(10000, 1.0), (10001, 0.0)]),
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    initial_collect_steps=10000,
    replay_buffer_length=1000000,
    mini_batch_size=256,
    num_iterations=1000000,
    summary_interval=5000)
