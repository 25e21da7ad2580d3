"""SAC on Walker2d-v5, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/sac_walker_conf.py --root_dir /tmp/sac_walker
"""

import alf
from alf.examples.benchmarks.mujoco import sac_mujoco_conf  # noqa: F401

alf.config('create_environment', env_name='Walker2d-v5')
