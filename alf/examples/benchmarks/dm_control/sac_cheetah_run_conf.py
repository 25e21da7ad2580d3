"""SAC on cheetah:run of the DeepMind control suite, from states.

Launch: python -m alf.bin.train --conf benchmarks/dm_control/sac_cheetah_run_conf.py --root_dir /tmp/sac_cheetah_run
"""

import alf
from alf.environments import suite_dmc
from alf.examples import sac_conf  # noqa: F401

alf.config(
    'create_environment', env_name='cheetah:run', env_load_fn=suite_dmc.load, num_parallel_environments=1)
alf.config('suite_dmc.load', from_pixels=False)

alf.config('ActorDistributionNetwork', fc_layer_params=(256, 256))
alf.config('CriticNetwork', joint_fc_layer_params=(256, 256))

alf.config('OneStepTDLoss', gamma=0.99)

alf.config(
    'SacAlgorithm',
    actor_optimizer=alf.optimizers.Adam(lr=3e-4),
    critic_optimizer=alf.optimizers.Adam(lr=3e-4),
    alpha_optimizer=alf.optimizers.Adam(lr=3e-4))

alf.config(
    'TrainerConfig',
    initial_collect_steps=10000,
    replay_buffer_length=1000000,
    num_iterations=1000000,
    summary_interval=5000)
