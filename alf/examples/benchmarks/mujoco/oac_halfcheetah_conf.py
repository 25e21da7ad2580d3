"""OAC on HalfCheetah-v5, with the settings of SAC and the exploration of the paper.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/oac_halfcheetah_conf.py --root_dir /tmp/oac_halfcheetah
Result: mean return over 5 training episodes 3,534 and 3,776 after 100k environment steps (2 seeds), without exploration
4,385 and 4,195.
Cost: 15 minutes for 100k steps on half a core.
"""

import alf
from alf.algorithms.oac_algorithm import OacAlgorithm
from alf.examples.benchmarks.mujoco import sac_mujoco_conf  # noqa: F401
from alf.utils import dist_utils

alf.config('create_environment', env_name='HalfCheetah-v5')

alf.config('Agent', rl_algorithm_cls=OacAlgorithm)

alf.config(
    'OacAlgorithm',
    target_entropy=dist_utils.calc_default_target_entropy,
    target_update_tau=0.005,
    actor_optimizer=alf.optimizers.Adam(lr=3e-4),
    critic_optimizer=alf.optimizers.Adam(lr=3e-4),
    alpha_optimizer=alf.optimizers.Adam(lr=3e-4))
