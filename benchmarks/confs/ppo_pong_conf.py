"""PPO on Pong with usual settings, for a measurement of speed: 8 environments, 128 steps, 4 epochs of 256.

Actor and value network are apart, as peers are told to have them. The runner sets iterations and the summary interval.
One checkpoint, at the end.
"""

import alf
from alf.examples import ppo_pong_conf  # noqa: F401

alf.config('TrainerConfig', num_checkpoints=1, summarize_first_interval=False)
