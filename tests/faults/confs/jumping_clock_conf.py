"""PPO on CartPole-v1 on a machine whose wall clock jumps an hour back or forth whenever somebody looks at it."""

import random
import time

import alf
from alf.examples import ppo_conf  # noqa: F401

_time = time.time
_rng = random.Random(1)
time.time = lambda: _time() + _rng.choice((-3600.0, 0.0, 3600.0))

alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=2)
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("ValueNetwork", fc_layer_params=(8, ))
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config(
    "TrainerConfig",
    random_seed=1,
    unroll_length=8,
    num_iterations=40,
    num_checkpoints=4,
    summary_interval=1,
    evaluate=True,
    async_eval=False,
    eval_interval=20,
    num_eval_episodes=1)
