"""R2D2 on a T-maze whose sign is seen 10 steps before the junction: only a policy that remembers it earns anything.

Launch: python -m alf.bin.train --conf r2d2_memory_conf.py --root_dir /tmp/r2d2_memory
Result: mean return over 100 training episodes, random actions included, 0.9 after 11.7k environment steps on 3 of 3
seeds, 0.92 to 0.98 after 41k. dqn_memory_conf.py, without a memory: -0.06, 0.02 and 0.
Cost: 20 to 45 s on one core of a busy machine.
"""

import alf
from alf.algorithms.r2d2_algorithm import R2d2Algorithm
from alf.environments import suite_memory

alf.config('create_environment', env_name='TMaze', env_load_fn=suite_memory.load, num_parallel_environments=16)
alf.config('suite_memory.load', env_args=dict(corridor_length=10))

alf.config('QRNNNetwork', fc_layer_params=(32, ), lstm_hidden_size=32, value_fc_layer_params=(32, ))

alf.config(
    'R2d2Algorithm',
    gamma=0.99,
    burn_in_steps=5,
    target_update_period=100,
    q_optimizer=alf.optimizers.Adam(lr=3e-3, gradient_clipping=10.0, clip_by_global_norm=True))

alf.config('ReplayBuffer', state_interval=5)

alf.config(
    'TrainerConfig',
    algorithm_ctor=R2d2Algorithm,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    use_rollout_state=True,
    priority_replay=True,
    replay_buffer_length=2000,
    initial_collect_steps=4000,
    unroll_length=20,
    mini_batch_length=30,
    mini_batch_size=32,
    num_updates_per_train_iter=4,
    num_iterations=150,
    metric_min_buffer_size=100,
    summary_interval=5)
