"""A2C on CartPole-v1: learns from the graph of its unroll."""

import alf
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.agent import Agent

alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("ValueNetwork", fc_layer_params=(8, ))
alf.config("Agent", rl_algorithm_cls=ActorCriticAlgorithm, optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("TrainerConfig", algorithm_ctor=Agent, random_seed=1, unroll_length=8, num_iterations=6, num_checkpoints=3)
