"""What SAC confs for MuJoCo have in common, the settings of RL Zoo; imported by confs that name an environment."""

import alf
from alf.examples import sac_conf  # noqa: F401
from alf.examples.benchmarks.mujoco import mujoco_conf  # noqa: F401
from alf.utils import dist_utils

alf.config('ActorDistributionNetwork', fc_layer_params=(256, 256))
alf.config('CriticNetwork', joint_fc_layer_params=(256, 256))

# Minus one nat for each component of an action in [-1, 1]: log(2 * min_prob) = -1.
alf.config('calc_default_target_entropy', min_prob=0.184)

alf.config(
    'SacAlgorithm',
    target_entropy=dist_utils.calc_default_target_entropy,
    actor_optimizer=alf.optimizers.Adam(lr=3e-4),
    critic_optimizer=alf.optimizers.Adam(lr=3e-4),
    alpha_optimizer=alf.optimizers.Adam(lr=3e-4))
