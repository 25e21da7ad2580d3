"""SAC on HalfCheetah-v5, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/sac_halfcheetah_conf.py --root_dir /tmp/sac_halfcheetah
Result: mean return over 5 training episodes 2,718, 3,003 and 3,672 after 100k environment steps (3 seeds); of the last
one without exploration 3,908.
Cost: 100k updates take about 25 minutes on one core, a third less with TrainerConfig.compile="default".
"""

import alf
from alf.examples.benchmarks.mujoco import sac_mujoco_conf  # noqa: F401

alf.config('create_environment', env_name='HalfCheetah-v5')
