"""A run whose policy sees normalized observations, and whose conf asks for specs."""

import alf
from alf.algorithms.data_transformer import ObservationNormalizer
from alf.examples import ppo_conf  # noqa: F401

alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
alf.config("TrainerConfig", data_transformer_ctor=ObservationNormalizer, random_seed=1)

size = alf.get_observation_spec().numel

alf.config("ActorDistributionNetwork", fc_layer_params=(2 * size, ))
alf.config("ValueNetwork", fc_layer_params=(2 * size, ))
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config(
    "TrainerConfig",
    unroll_length=8,
    mini_batch_size=8,
    num_updates_per_train_iter=2,
    num_iterations=6,
    num_checkpoints=1,
    evaluate=True,
    num_evals=3,
    num_eval_episodes=5,
    num_eval_environments=2)
