"""SAC on InvertedDoublePendulum-v5, a small MuJoCo task.

Launch: python -m alf.bin.train --conf benchmarks/mujoco/sac_inverted_double_pendulum_conf.py --root_dir /tmp/sac_double
Result: mean return over 10 training episodes 9000 after 21k environment steps, 9351 after 39k; the policy without
exploration 9359 of at most 9360 (one seed).
Cost: 240 s for 39k steps on one core, with TrainerConfig.compile="default".
"""

from alf.examples.benchmarks.mujoco import (
    inverted_double_pendulum_conf,  # noqa: F401
    sac_mujoco_conf,  # noqa: F401
)
