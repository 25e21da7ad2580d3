"""DDPG on HalfCheetah-v5, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/ddpg_halfcheetah_conf.py --root_dir /tmp/ddpg_halfcheetah
Result: mean return over 5 training episodes 3,028, 4,487 and 3,394 after 100k environment steps (3 seeds), without
exploration 4,601, 5,118 and 3,708.
Cost: 23 minutes for 100k steps on a shared core, with TrainerConfig.compile="default".
"""

import alf
from alf.examples import ddpg_conf  # noqa: F401
from alf.examples.benchmarks.mujoco import mujoco_conf  # noqa: F401
from alf.utils.schedulers import StepScheduler

alf.config('create_environment', env_name='HalfCheetah-v5')

alf.config('ActorNetwork', fc_layer_params=(400, 300))
alf.config('CriticNetwork', joint_fc_layer_params=(400, 300))

alf.config(
    'DdpgAlgorithm',
    # White noise: without memory of the step before.
    ou_stddev=0.1,
    ou_damping=1.0,
    # Random actions first, until training begins.
    rollout_random_action=StepScheduler('env_steps', [(10000, 1.0), (10001, 0.0)]),
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3))
