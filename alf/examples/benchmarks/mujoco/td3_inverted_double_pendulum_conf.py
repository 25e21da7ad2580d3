"""TD3 on InvertedDoublePendulum-v5, a small MuJoCo task.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/td3_inverted_double_pendulum_conf.py --root_dir /tmp/td3_double
Result: mean return over 10 training episodes 9000 after 23k and 27k environment steps (2 seeds); the policy without
exploration after 39k 9320 and 9327 of at most 9360.
Cost: 165 s for 39k steps on one core, with TrainerConfig.compile="default".
"""

import alf
from alf.examples import td3_conf  # noqa: F401
from alf.examples.benchmarks.mujoco import inverted_double_pendulum_conf  # noqa: F401
from alf.utils.schedulers import StepScheduler

alf.config('ActorNetwork', fc_layer_params=(256, 256))
alf.config('CriticNetwork', joint_fc_layer_params=(256, 256))

alf.config(
    'Td3Algorithm',
    # Random actions first, until training begins.
    rollout_random_action=StepScheduler('env_steps', [(1000, 1.0), (1001, 0.0)]),
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3))
