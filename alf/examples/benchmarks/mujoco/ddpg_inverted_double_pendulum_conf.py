"""DDPG on InvertedDoublePendulum-v5, a small MuJoCo task.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/ddpg_inverted_double_pendulum_conf.py --root_dir /tmp/ddpg
Result: mean return over 10 training episodes 9000 after 18k, 31k and 17k environment steps (3 seeds); the policy
without exploration after 40k 9293, 9330 and 9262 of at most 9360.
Cost: 160 s on one core, with TrainerConfig.compile="default".
"""

import alf
from alf.examples import ddpg_conf  # noqa: F401
from alf.examples.benchmarks.mujoco import inverted_double_pendulum_conf  # noqa: F401
from alf.utils.schedulers import StepScheduler

alf.config('ActorNetwork', fc_layer_params=(256, 256))
alf.config('CriticNetwork', joint_fc_layer_params=(256, 256))

alf.config(
    'DdpgAlgorithm',
    # White noise: without memory of the step before.
    ou_stddev=0.1,
    ou_damping=1.0,
    # Random actions first, until training begins.
    rollout_random_action=StepScheduler('env_steps', [(1000, 1.0), (1001, 0.0)]),
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3))
