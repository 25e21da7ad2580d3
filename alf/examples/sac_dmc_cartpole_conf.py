"""SAC on cartpole:swingup of the DeepMind control suite, from states.

Launch: python -m alf.bin.train --conf sac_dmc_cartpole_conf.py --root_dir /tmp/sac_dmc_cartpole
Result: mean return 308 after 38k environment steps, 486 after 63k (1 seed).
Cost: about 7 minutes on one of two busy cores for 80k environment steps.
"""

import alf
from alf.environments import suite_dmc
from alf.examples import sac_conf  # noqa: F401

alf.config(
    'create_environment', env_name='cartpole:swingup', env_load_fn=suite_dmc.load, num_parallel_environments=4)
alf.config('suite_dmc.load', from_pixels=False)

alf.config('ActorDistributionNetwork', fc_layer_params=(128, 128))
alf.config('CriticNetwork', joint_fc_layer_params=(128, 128))

alf.config('OneStepTDLoss', gamma=0.99)

alf.config(
    'SacAlgorithm',
    actor_optimizer=alf.optimizers.Adam(lr=1e-3),
    critic_optimizer=alf.optimizers.Adam(lr=1e-3),
    alpha_optimizer=alf.optimizers.Adam(lr=1e-3))

alf.config(
    'TrainerConfig',
    unroll_length=4,
    initial_collect_steps=2000,
    replay_buffer_length=50000,
    num_updates_per_train_iter=8,
    num_iterations=5000,
    summary_interval=50)
