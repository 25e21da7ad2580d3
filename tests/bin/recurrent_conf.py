"""A small run of PPO with recurrent networks, whose loss and learning rate follow the progress."""

from functools import partial

import alf
from alf.algorithms.data_transformer import ObservationNormalizer
from alf.examples import ppo_conf  # noqa: F401
from alf.networks import ActorDistributionRNNNetwork, ValueRNNNetwork
from alf.utils.schedulers import LinearScheduler

alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
small = dict(fc_layer_params=(8, ), lstm_hidden_size=6)
alf.config(
    "PPOAlgorithm",
    actor_network_ctor=partial(ActorDistributionRNNNetwork, **small),
    value_network_ctor=partial(ValueRNNNetwork, **small))
alf.config("PPOLoss", importance_ratio_clipping=LinearScheduler("percent", [(0, 0.3), (1, 0.1)]))
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=LinearScheduler("percent", [(0, 1e-2), (1, 0.0)])))
alf.config(
    "TrainerConfig",
    data_transformer_ctor=partial(ObservationNormalizer, update_mode="rollout"),
    random_seed=1,
    use_rollout_state=True,
    unroll_length=8,
    mini_batch_length=4,
    mini_batch_size=4,
    num_updates_per_train_iter=2,
    num_iterations=6,
    num_checkpoints=3,
    summary_interval=1)
