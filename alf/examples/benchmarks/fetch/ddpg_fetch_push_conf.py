"""DDPG with hindsight experience replay on FetchPush-v4, close to the settings of https://arxiv.org/abs/1707.01495.

Launch: python -m alf.bin.train --conf benchmarks/fetch/ddpg_fetch_push_conf.py --root_dir /tmp/ddpg_fetch_push
"""

import alf
from alf.examples import ddpg_fetch_reach_conf  # noqa: F401

alf.config('create_environment', env_name='FetchPush-v4', num_parallel_environments=16)

# 16 episodes an iteration, 1.25M environment steps in all.
alf.config(
    'TrainerConfig',
    unroll_length=50,
    initial_collect_steps=10000,
    replay_buffer_length=62500,
    mini_batch_size=1024,
    num_updates_per_train_iter=320,
    num_iterations=1550,
    summary_interval=10)
