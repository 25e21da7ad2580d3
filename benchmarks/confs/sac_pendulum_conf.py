"""SAC on Pendulum-v1 until it has learned: the example conf, with returns told often enough to see when.

The return is the mean of the last 10 training episodes. The runner ends the run when it is reached.
"""

import alf
from alf.examples import sac_pendulum_conf  # noqa: F401

alf.config(
    'TrainerConfig',
    metric_min_buffer_size=10,
    num_checkpoints=1,
    summarize_first_interval=False)
