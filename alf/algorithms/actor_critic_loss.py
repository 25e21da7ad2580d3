"""Loss of actor-critic algorithms: policy gradient, value regression, entropy."""

from typing import Callable, List, Optional, Union

import torch

from alf import summary
from alf.algorithms._gamma import register_gamma
from alf.algorithms.algorithm import Loss
from alf.config_util import configurable
from alf.data_structures import LossInfo, StepType, namedtuple
from alf.nest import Nest
from alf.utils import dist_utils, tensor_utils, value_ops
from alf.utils.losses import element_wise_squared_loss

_LAST = int(StepType.LAST)

ActorCriticLossInfo = namedtuple("ActorCriticLossInfo", ["pg_loss", "td_loss", "neg_entropy"])


def normalize_advantages(advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return advantages shifted and scaled so that those under ``mask`` have mean 0 and standard deviation 1.

    The others are 0.

    Args:
        advantages: ``[T, B]``.
        mask: bool ``[T, B]``: the entries that belong to a transition.
    """
    mask = mask.to(advantages.dtype)
    count = mask.sum().clamp_(min=1.0)
    centered = (advantages - (advantages * mask).sum() / count) * mask
    variance = centered.square().sum() / count
    return centered / (variance.sqrt() + 1e-8)


@configurable
class ActorCriticLoss(Loss):
    """``pg_loss + td_loss_weight * td_loss - entropy_regularization * entropy``, as in A3C,
    https://arxiv.org/abs/1602.01783, with returns or advantages over lambda.

    Args:
        gamma: discount of the future; a list has one for each component of a vector reward.
        td_error_loss_fn: loss ``(target, value) -> [T, B]`` of the value.
        use_gae: advantages by GAE (Eq. 16 of https://arxiv.org/abs/1506.02438) instead of return minus value.
        td_lambda: lambda of GAE and of the returns.
        use_td_lambda_return: regress the value on advantage + value (lambda return) rather than on the return;
            only with ``use_gae``.
        normalize_advantages: to mean 0 and standard deviation 1 over the batch.
        advantage_clip: clip advantages to [-advantage_clip, advantage_clip].
        entropy_regularization: weight of the entropy; None: 0.
        td_loss_weight: weight of the value loss.
        debug_summaries: write values, returns and advantages.
        name: name in summaries.
    """

    def __init__(self,
                 gamma: Union[float, List[float]] = 0.99,
                 td_error_loss_fn: Callable = element_wise_squared_loss,
                 use_gae: bool = False,
                 td_lambda: float = 0.95,
                 use_td_lambda_return: bool = True,
                 normalize_advantages: bool = False,
                 advantage_clip: Optional[float] = None,
                 entropy_regularization: Optional[float] = None,
                 td_loss_weight: float = 1.0,
                 debug_summaries: bool = False,
                 name: str = "ActorCriticLoss"):
        super().__init__(name=name)
        register_gamma(self, gamma, name)
        self._td_error_loss_fn = td_error_loss_fn
        self._use_gae = use_gae
        self._lambda = td_lambda
        self._use_td_lambda_return = use_td_lambda_return
        self._normalize_advantages = normalize_advantages
        self._advantage_clip = advantage_clip
        self._entropy_regularization = entropy_regularization
        self._td_loss_weight = td_loss_weight
        self._debug_summaries = debug_summaries

    @property
    def gamma(self) -> Union[float, torch.Tensor]:
        """Discount of the future."""
        return self._gamma

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def forward(self, info: Nest) -> LossInfo:
        """Return :meth:`calc_loss`."""
        return self.calc_loss(info)

    def calc_loss(self, info: Nest) -> LossInfo:
        """Return the loss ``[T, B]`` of an unroll; that of its last step is nothing but the entropy.

        Args:
            info: fields ``reward [T, B(, R)]``, ``discount [T, B]``, ``step_type [T, B]``, ``value [T, B(, R)]``,
                ``action``, ``action_distribution`` and, for a vector reward, ``reward_weights [R]``.
        """
        value = info.value
        if isinstance(self._gamma, torch.Tensor) and value.shape[2:] != self._gamma.shape:
            raise ValueError(f"{self._name}.gamma: expected a number, or one for each component of the reward "
                             f"{tuple(value.shape[2:])}, got {self._gamma.tolist()}.")
        returns, advantages = self._calc_returns_and_advantages(info, value.detach())
        if value.ndim == 3:
            advantages = (advantages * _reward_weights(info)).sum(-1)
        if self._normalize_advantages:
            # Only rows that start a transition have an advantage; the zeros of the others would shift the mean.
            advantages = normalize_advantages(advantages, self._transition_mask(info))
        if self._advantage_clip:
            advantages = advantages.clamp(-self._advantage_clip, self._advantage_clip)
        pg_loss = self._pg_loss(info, advantages)
        td_loss = self._td_error_loss_fn(returns.detach(), value)
        if td_loss.ndim == 3:
            td_loss = td_loss.mean(-1)
        loss = pg_loss + self._td_loss_weight * td_loss
        neg_entropy = ()
        if self._entropy_regularization is not None:
            entropy = dist_utils.compute_entropy(info.action_distribution)
            loss = loss - self._entropy_regularization * entropy
            neg_entropy = -entropy
        if self._debug_summaries and summary.should_record_summaries():
            self._summarize(returns, value, advantages)
        return LossInfo(loss=loss, extra=ActorCriticLossInfo(pg_loss=pg_loss, td_loss=td_loss, neg_entropy=neg_entropy))

    def _transition_mask(self, info: Nest) -> torch.Tensor:
        """Return where ``[T, B]`` a transition starts: not at LAST, nor at the end of the unroll."""
        mask = info.step_type != _LAST
        mask[-1] = False
        return mask

    def _pg_loss(self, info: Nest, advantages: torch.Tensor) -> torch.Tensor:
        """Return the loss ``[T, B]`` of the policy. May be overridden."""
        return -advantages.detach() * dist_utils.compute_log_probability(info.action_distribution, info.action)

    def _calc_returns_and_advantages(self, info: Nest, value: torch.Tensor):
        """Return ``(returns, advantages)``, each with the shape of ``value``. May be overridden."""
        discounts = expand_discount(info.discount, self._gamma, value)
        returns = value_ops.discounted_return(
            rewards=info.reward, values=value, step_types=info.step_type, discounts=discounts)
        returns = torch.cat([returns, value[-1:]])
        if not self._use_gae:
            return returns, returns - value
        advantages = value_ops.generalized_advantage_estimation(
            rewards=info.reward, values=value, step_types=info.step_type, discounts=discounts, td_lambda=self._lambda)
        advantages = torch.cat([advantages, torch.zeros_like(value[-1:])])
        return (advantages + value if self._use_td_lambda_return else returns), advantages

    def _summarize(self, returns: torch.Tensor, value: torch.Tensor, advantages: torch.Tensor) -> None:
        with summary.scope(self._name):
            summary.scalar("values", value.mean())
            summary.scalar("returns", returns.mean())
            summary.scalar("advantages/mean", advantages.mean())
            summary.histogram("advantages/value", advantages)
            if value.ndim == 2:
                summary.scalar("explained_variance_of_return_by_value", tensor_utils.explained_variance(value, returns))


def _reward_weights(info: Nest) -> Union[float, torch.Tensor]:
    weights = getattr(info, "reward_weights", ())
    return weights if isinstance(weights, torch.Tensor) else 1.0


def expand_discount(discount: torch.Tensor, gamma: Union[float, torch.Tensor], value: torch.Tensor) -> torch.Tensor:
    """Return ``gamma * discount`` with the shape of ``value``: ``[T, B]``, or ``[T, B, R]`` for a vector reward."""
    return gamma * discount if value.ndim == discount.ndim else gamma * discount.unsqueeze(-1).expand_as(value)
