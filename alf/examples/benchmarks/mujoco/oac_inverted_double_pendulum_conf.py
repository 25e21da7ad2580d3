"""OAC on InvertedDoublePendulum-v5, a small MuJoCo task.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/oac_inverted_double_pendulum_conf.py --root_dir /tmp/oac_double
Result: the policy without exploration 9344 of at most 9360 after 38k environment steps (one seed). With it, training
episodes have 160: what shifts the action most where critics disagree makes a pole fall.
Cost: 290 s for 38k steps on one core, with TrainerConfig.compile="default".
"""

import alf
from alf.algorithms.oac_algorithm import OacAlgorithm
from alf.examples.benchmarks.mujoco import (
    inverted_double_pendulum_conf,  # noqa: F401
    sac_mujoco_conf,  # noqa: F401
)
from alf.utils import dist_utils

alf.config('Agent', rl_algorithm_cls=OacAlgorithm)

alf.config(
    'OacAlgorithm',
    target_entropy=dist_utils.calc_default_target_entropy,
    target_update_tau=0.005,
    actor_optimizer=alf.optimizers.Adam(lr=3e-4),
    critic_optimizer=alf.optimizers.Adam(lr=3e-4),
    alpha_optimizer=alf.optimizers.Adam(lr=3e-4))
