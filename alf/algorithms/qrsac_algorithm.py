"""Quantile regression SAC: SAC whose critics predict quantiles of the return, as https://arxiv.org/abs/1710.10044."""

from typing import Callable, Optional, Union

import torch

from alf.algorithms._actor_critic.action_kind import check_continuous
from alf.algorithms._actor_critic.action_values import pessimistic_quantiles
from alf.algorithms.config import TrainerConfig
from alf.algorithms.one_step_loss import OneStepTDQRLoss
from alf.algorithms.sac_algorithm import SacAlgorithm
from alf.config_util import configurable
from alf.nest import Nest
from alf.networks.actor_distribution_networks import ActorDistributionNetwork
from alf.networks.critic_networks import CriticNetwork
from alf.tensor_specs import BoundedTensorSpec, NestedTensorSpec, TensorSpec
from alf.utils.schedulers import Scheduler


@configurable
class QrsacAlgorithm(SacAlgorithm):
    """SAC with critics that predict as many quantiles of the return as the critic loss has.

    The policy maximises the mean of the quantiles. Arguments are those of :class:`SacAlgorithm`, for continuous actions
    only, but:

    Args:
        critic_network_cls: called with ``input_tensor_spec`` and ``output_tensor_spec``, which has one dimension more
            than the reward, for the quantiles.
        critic_loss_ctor: makes a :class:`TDQRLoss`; None: ``OneStepTDQRLoss``.
        min_critic_by_critic_mean: of the replicas take all quantiles of the one with the lowest mean; else take the
            lowest of each quantile.
    Raises:
        ValueError: if the action is not continuous.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 actor_network_cls: Callable = ActorDistributionNetwork,
                 critic_network_cls: Callable = CriticNetwork,
                 epsilon_greedy: Optional[float] = None,
                 use_entropy_reward: bool = False,
                 normalize_entropy_reward: bool = False,
                 calculate_priority: bool = False,
                 num_critic_replicas: int = 2,
                 min_critic_by_critic_mean: bool = False,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 critic_loss_ctor: Optional[Callable] = None,
                 target_entropy: Union[None, float, Callable, list, tuple] = None,
                 prior_actor_ctor: Optional[Callable] = None,
                 target_kld_per_dim: float = 3.0,
                 initial_log_alpha: float = 0.0,
                 max_log_alpha: Optional[float] = None,
                 target_update_tau: Union[float, Scheduler] = 0.05,
                 target_update_period: Union[int, Scheduler] = 1,
                 dqda_clipping: Optional[float] = None,
                 actor_optimizer: Optional[torch.optim.Optimizer] = None,
                 critic_optimizer: Optional[torch.optim.Optimizer] = None,
                 alpha_optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 reproduce_locomotion: bool = False,
                 name: str = "QrsacAlgorithm"):
        check_continuous(action_spec, name)
        critic_loss_ctor = OneStepTDQRLoss if critic_loss_ctor is None else critic_loss_ctor
        num_quantiles = critic_loss_ctor().num_quantiles

        def make_critic(input_tensor_spec: NestedTensorSpec, output_tensor_spec: TensorSpec):
            quantiles_spec = TensorSpec((*output_tensor_spec.shape, num_quantiles))
            return critic_network_cls(input_tensor_spec=input_tensor_spec, output_tensor_spec=quantiles_spec)

        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            actor_network_cls=actor_network_cls,
            critic_network_cls=make_critic,
            q_network_cls=None,
            epsilon_greedy=epsilon_greedy,
            use_entropy_reward=use_entropy_reward,
            normalize_entropy_reward=normalize_entropy_reward,
            calculate_priority=calculate_priority,
            num_critic_replicas=num_critic_replicas,
            env=env,
            config=config,
            critic_loss_ctor=critic_loss_ctor,
            target_entropy=target_entropy,
            prior_actor_ctor=prior_actor_ctor,
            target_kld_per_dim=target_kld_per_dim,
            initial_log_alpha=initial_log_alpha,
            max_log_alpha=max_log_alpha,
            target_update_tau=target_update_tau,
            target_update_period=target_update_period,
            dqda_clipping=dqda_clipping,
            actor_optimizer=actor_optimizer,
            critic_optimizer=critic_optimizer,
            alpha_optimizer=alpha_optimizer,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            reproduce_locomotion=reproduce_locomotion,
            name=name)
        self._min_critic_by_critic_mean = min_critic_by_critic_mean

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def _lowest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the lowest quantiles ``[B, ..., m]`` of those ``[B, n, ..., m]`` of the replicas."""
        return pessimistic_quantiles(values, self._min_critic_by_critic_mean, self._reward_weights)

    def _scalarize_value(self, value: torch.Tensor) -> torch.Tensor:
        """Return what the policy maximises ``[B]``, from quantiles ``[B, m]`` or ``[B, R, m]``."""
        return super()._scalarize_value(value.mean(-1))
