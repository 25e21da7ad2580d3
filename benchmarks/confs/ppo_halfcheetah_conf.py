"""PPO on HalfCheetah-v5 with usual settings, for a measurement of speed: 8 environments, 256 steps, 10 epochs of 64.

Observations and rewards are normalized. The runner sets iterations and the summary interval. One checkpoint, at the
end.
"""

import alf
from alf.examples import ppo_halfcheetah_conf  # noqa: F401

alf.config('TrainerConfig', num_checkpoints=1, summarize_first_interval=False)
