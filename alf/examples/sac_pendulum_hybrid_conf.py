"""SAC on Pendulum-v1 that learns from a stored buffer and from what it experiences itself.

The first 500 updates train on the stored buffer alone. See iql_pendulum_conf.py for how to make one.

Launch: python -m alf.bin.train --conf sac_pendulum_hybrid_conf.py --root_dir runs/sac_pendulum_hybrid \
    --conf_param "TrainerConfig.offline_buffer_dir='runs/sac_pendulum'"
"""

import alf
from alf.examples import sac_pendulum_conf  # noqa: F401

alf.config('TrainerConfig', mini_batch_size=128, mini_batch_length=2, rl_train_after_update_steps=500)
