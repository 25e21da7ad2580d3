"""Small off-policy runs: --conf_param _CONFIG._USER.method chooses the algorithm."""

from functools import partial

import alf
from alf.algorithms.data_transformer import NStepReturn
from alf.algorithms.ddpg_algorithm import DdpgAlgorithm
from alf.algorithms.dqn_algorithm import DqnAlgorithm
from alf.algorithms.r2d2_algorithm import R2d2Algorithm
from alf.algorithms.sac_algorithm import SacAlgorithm
from alf.algorithms.td3_algorithm import Td3Algorithm
from alf.networks import (
    ActorDistributionNetwork,
    ActorNetwork,
    CriticNetwork,
    DuelingQNetwork,
    QNetwork,
    QRNNNetwork,
)
from alf.utils.schedulers import LinearScheduler

method = alf.define_config("method", "sac")
small = dict(fc_layer_params=(8, ))
critic = partial(CriticNetwork, joint_fc_layer_params=(8, ))
adam = partial(alf.optimizers.Adam, lr=1e-2)
training = dict(priority_replay=method in ("dqn", "rainbow", "r2d2"), mini_batch_length=2)

if method == "sac":
    algorithm = partial(
        SacAlgorithm,
        actor_network_cls=partial(ActorDistributionNetwork, **small),
        critic_network_cls=critic,
        actor_optimizer=adam(),
        critic_optimizer=adam(),
        alpha_optimizer=adam())
elif method in ("td3", "ddpg"):  # the noise of DDPG is a state of the unroll
    algorithm = partial(
        Td3Algorithm if method == "td3" else DdpgAlgorithm,
        actor_network_ctor=partial(ActorNetwork, **small),
        critic_network_ctor=critic,
        actor_optimizer=adam(),
        critic_optimizer=adam())
elif method == "rainbow":
    algorithm = partial(
        DqnAlgorithm,
        q_network_cls=partial(DuelingQNetwork, noisy_std=0.5, stream_fc_layer_params=(8, ), **small),
        value_distribution="c51",
        v_min=0.0,
        v_max=100.0,
        target_net_target_action=False,
        rollout_epsilon_greedy=0.0,
        q_optimizer=adam())
    training.update(
        mini_batch_length=4,
        data_transformer_ctor=partial(NStepReturn, n_step=3, gamma=0.99),
        priority_replay_beta=LinearScheduler("percent", [(0, 0.4), (1, 1.0)]))
elif method == "dqn":
    algorithm = partial(DqnAlgorithm, q_network_cls=partial(QNetwork, **small), q_optimizer=adam())
    training.update(mini_batch_length=4, data_transformer_ctor=partial(NStepReturn, n_step=3, gamma=0.99))
else:
    algorithm = partial(
        R2d2Algorithm,
        q_network_cls=partial(QRNNNetwork, lstm_hidden_size=6, **small),
        burn_in_steps=2,
        q_optimizer=adam())
    training.update(mini_batch_length=8, use_rollout_state=True)

is_continuous = method in ("sac", "td3", "ddpg")
alf.config(
    "create_environment",
    env_name="Pendulum-v1" if is_continuous else "CartPole-v1",
    num_parallel_environments=2,
    num_workers=0)
alf.config("ReplayBuffer", enable_checkpoint=True)
alf.config(
    "TrainerConfig",
    algorithm_ctor=algorithm,
    whole_replay_buffer_training=False,
    clear_replay_buffer=False,
    random_seed=1,
    unroll_length=8 if method == "r2d2" else 3,
    initial_collect_steps=20,
    mini_batch_size=8,
    num_updates_per_train_iter=2,
    replay_buffer_length=60,
    num_iterations=6,
    num_checkpoints=3,
    summary_interval=1,
    **training)
