"""SAC with a mixed action: a point on a plane chooses a mode (along x, along y, stop) and an amount.

Launch: python -m alf.bin.train --conf sac_mixed_conf.py --root_dir /tmp/sac_mixed
Result: mean return over 100 training episodes above 2 after 5.1k to 7.6k environment steps on 5 of 6 seeds, 2.1 to 2.3
at the end; 1.3 on the sixth.
Cost: about 1 minute on one of two busy cores for 17k environment steps.
"""

import alf
from alf.environments import suite_mixed
from alf.examples import sac_conf  # noqa: F401
from alf.nest.utils import NestConcat

alf.config(
    'create_environment', env_name='ModePoint', env_load_fn=suite_mixed.load, num_parallel_environments=8)

# The actor makes the amount; the critics then value each mode together with it.
alf.config('ActorDistributionNetwork', fc_layer_params=(128, 128))
alf.config('QNetwork', preprocessing_combiner=NestConcat(), fc_layer_params=(128, 128))

alf.config('OneStepTDLoss', gamma=0.9)

alf.config(
    'SacAlgorithm',
    # Entropy has little weight from the start: with much of it an episode is better not ended.
    initial_log_alpha=-3.0,
    target_entropy=(0.1, -1.0),
    target_update_tau=0.02,
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    unroll_length=4,
    initial_collect_steps=1000,
    replay_buffer_length=12500,
    mini_batch_size=128,
    num_updates_per_train_iter=16,
    num_iterations=600,
    summary_interval=25)
