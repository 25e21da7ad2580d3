"""Optimistic actor-critic (OAC), https://arxiv.org/abs/1910.12807: SAC that explores where its critics disagree."""

from typing import Callable, Optional, Union

import torch
import torch.distributions as td

from alf.algorithms._actor_critic.action_kind import check_continuous
from alf.algorithms._actor_critic.action_values import action_gradient, weights_fixed
from alf.algorithms._actor_critic.optimism import optimistic_shift
from alf.algorithms.config import TrainerConfig
from alf.algorithms.sac_algorithm import SacAlgorithm, SacState
from alf.config_util import configurable
from alf.nest import Nest, flatten_with_structure, map_structure
from alf.networks.actor_distribution_networks import ActorDistributionNetwork
from alf.networks.critic_networks import CriticNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils
from alf.utils.schedulers import Scheduler


@configurable
class OacAlgorithm(SacAlgorithm):
    """SAC whose rollouts sample from the policy moved towards the upper bound of the value.

    The mean of the policy is moved as far as a limit on its divergence allows, see :func:`optimistic_shift`. Training,
    and acting without learning, are those of SAC. Arguments are those of :class:`SacAlgorithm`, for continuous actions
    only, and:

    Args:
        explore_delta: the limit of the divergence from the policy, half of the squared length of the shift in standard
            deviations: ``delta`` of the paper.
        beta_ub: standard deviations of the critics that the upper bound lies above their mean.
    Raises:
        ValueError: if the action is not continuous.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 actor_network_cls: Callable = ActorDistributionNetwork,
                 critic_network_cls: Callable = CriticNetwork,
                 repr_alg_ctor: Optional[Callable] = None,
                 epsilon_greedy: Optional[float] = None,
                 use_entropy_reward: bool = True,
                 calculate_priority: bool = False,
                 num_critic_replicas: int = 2,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 critic_loss_ctor: Optional[Callable] = None,
                 target_entropy: Union[None, float, Callable, list, tuple] = None,
                 prior_actor_ctor: Optional[Callable] = None,
                 target_kld_per_dim: float = 3.0,
                 initial_log_alpha: float = 0.0,
                 explore_delta: float = 6.8,
                 beta_ub: float = 4.6,
                 max_log_alpha: Optional[float] = None,
                 target_update_tau: Union[float, Scheduler] = 0.05,
                 target_update_period: Union[int, Scheduler] = 1,
                 parameter_reset_period: Union[int, Scheduler] = -1,
                 dqda_clipping: Optional[float] = None,
                 actor_optimizer: Optional[torch.optim.Optimizer] = None,
                 critic_optimizer: Optional[torch.optim.Optimizer] = None,
                 alpha_optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 reproduce_locomotion: bool = False,
                 name: str = "OacAlgorithm"):
        check_continuous(action_spec, name)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            actor_network_cls=actor_network_cls,
            critic_network_cls=critic_network_cls,
            q_network_cls=None,
            repr_alg_ctor=repr_alg_ctor,
            epsilon_greedy=epsilon_greedy,
            use_entropy_reward=use_entropy_reward,
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
            parameter_reset_period=parameter_reset_period,
            dqda_clipping=dqda_clipping,
            actor_optimizer=actor_optimizer,
            critic_optimizer=critic_optimizer,
            alpha_optimizer=alpha_optimizer,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            reproduce_locomotion=reproduce_locomotion,
            name=name)
        self._explore_delta = explore_delta
        self._beta_ub = beta_ub

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def _upper_bound(self, values: torch.Tensor) -> torch.Tensor:
        """Return the upper bound ``[B]`` of the value, Eq. (3) of the paper, from values ``[B, n]`` or ``[B, n, R]``.

        With two replicas the deviation is half of their distance, as there.
        """
        if self._reward_weights is not None:
            values = values @ self._reward_weights
        return values.mean(1) + self._beta_ub * values.std(1, correction=0)

    @torch.no_grad()
    def _explore(self, observation: Nest, state: SacState):
        """Return an action sampled from the optimistic policy, and the new state of the actor.

        Args:
            observation: nest ``[B, ...]``, as the networks see it.
            state: of actor and critics.
        """
        distribution, actor_state = self._actor_network(observation, state=state.actor)
        leaves, structure = flatten_with_structure(distribution)
        normals = [_normal(leaf, self._name) for leaf in leaves]
        with torch.enable_grad():
            means = prepare_critic_action([normal.loc for normal in normals])
            action = structure.unflatten(
                [dist_transform_action(mean, leaf) for mean, leaf in zip(means, leaves, strict=True)])
            with weights_fixed(self._critic_networks):
                values, _ = self._critic_networks((observation, action), state=state.critics)
            gradients = action_gradient(self._upper_bound(values), means)
        scales = [normal.scale for normal in normals]
        shifts = optimistic_shift(gradients, scales, self._explore_delta)
        moved = [
            dist_transform_action(torch.normal(mean + shift, scale), leaf)
            for leaf, mean, shift, scale in zip(leaves, means, shifts, scales, strict=True)
        ]
        return structure.unflatten(moved), state._replace(actor=actor_state)


def prepare_critic_action(action: Nest) -> Nest:
    """Return a nest of actions cut from their graph, of which critics can give gradients."""
    return map_structure(lambda leaf: leaf.detach().requires_grad_(), action)


def dist_transform_action(action: torch.Tensor, dist: td.Distribution) -> torch.Tensor:
    """Return a value of the normal variable under a squashed distribution as an action, differentiable.

    Args:
        action: ``[B, A]``, before the transforms of ``dist``.
        dist: the distribution; one without transforms leaves the action as it is.
    """
    for transform in getattr(dist, "transforms", ()):
        action = transform(action)
    return action


def _normal(distribution: td.Distribution, name: str) -> td.Normal:
    """Return the normal distribution under a perhaps squashed one, parameters ``[B, A]``."""
    base = dist_utils.get_base_dist(distribution)
    if not isinstance(base, td.Normal):
        raise ValueError(f"{name}.actor_network_cls: expected normal distributions, squashed or not, got "
                         f"{type(distribution).__name__}. Use NormalProjectionNetwork.")
    return base
