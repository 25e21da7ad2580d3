"""TD3 on HalfCheetah-v5, with the settings of RL Zoo: networks, noise and target updates of the paper.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/td3_halfcheetah_conf.py --root_dir /tmp/td3_halfcheetah
Result: mean return over 5 training episodes 5,451 and 5,553 after 100k environment steps (2 seeds), without exploration
5,712 and 6,060.
Cost: 11 minutes for 100k steps on a core.
"""

import alf
from alf.examples import td3_conf  # noqa: F401
from alf.examples.benchmarks.mujoco import mujoco_conf  # noqa: F401
from alf.utils.schedulers import StepScheduler

alf.config('create_environment', env_name='HalfCheetah-v5')

alf.config('ActorNetwork', fc_layer_params=(400, 300))
alf.config('CriticNetwork', joint_fc_layer_params=(400, 300))

alf.config(
    'Td3Algorithm',
    # Random actions first, until training begins.
    rollout_random_action=StepScheduler('env_steps', [(10000, 1.0), (10001, 0.0)]),
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3))
