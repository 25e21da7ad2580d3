"""SAC on HalfCheetah-v5, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/sac_halfcheetah_conf.py --root_dir /tmp/sac_halfcheetah
Result: mean return over 5 training episodes 5,207, 5,226 and 5,250 after 100k environment steps (3 seeds), without
exploration 5,040, 5,744 and 5,309.
Cost: 100k updates take about 25 minutes on one core, a third less with TrainerConfig.compile="default".
"""

import alf
from alf.examples.benchmarks.mujoco import sac_mujoco_conf  # noqa: F401

alf.config('create_environment', env_name='HalfCheetah-v5')
