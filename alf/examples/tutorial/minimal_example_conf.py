"""The smallest conf: one iteration of A2C on CartPole-v0 in 30 environments, to see that everything works.

Launch: python -m alf.bin.train --conf tutorial/minimal_example_conf.py --root_dir /tmp/alf_minimal
Result: none worth telling, it ends after 210 environment steps.
Cost: 3 s.
"""

from functools import partial

import alf
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm

alf.config(
    'TrainerConfig',
    algorithm_ctor=partial(ActorCriticAlgorithm, optimizer=alf.optimizers.Adam(lr=1e-3)),
    num_iterations=1)
