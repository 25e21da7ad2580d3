"""SAC on HalfCheetah-v5, with the settings of RL Zoo.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/sac_halfcheetah_conf.py --root_dir /tmp/sac_halfcheetah
"""

import alf
from alf.examples.benchmarks.mujoco import sac_mujoco_conf  # noqa: F401

alf.config('create_environment', env_name='HalfCheetah-v5')
