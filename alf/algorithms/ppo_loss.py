"""Loss of PPO: the clipped surrogate of Eq. (7) of https://arxiv.org/abs/1707.06347."""

from typing import Callable, List, Optional, Union

import torch

from alf.algorithms.actor_critic_loss import ActorCriticLoss
from alf.config_util import configurable
from alf.data_structures import LossInfo, StepType
from alf.nest import Nest
from alf.utils import common, value_ops
from alf.utils.losses import element_wise_squared_loss
from alf.utils.schedulers import ConstantScheduler, as_scheduler, read_scheduler

_LAST = int(StepType.LAST)


@configurable
class PPOLoss(ActorCriticLoss):
    """``-min(ratio * A, clip(ratio, 1 - c, 1 + c) * A) + td_loss_weight * td_loss - entropy_regularization * entropy``.

    Args:
        gamma: discount of the future; a list has one for each component of a vector reward.
        td_error_loss_fn: loss ``(target, value) -> [T, B]`` of the value.
        td_lambda: lambda of GAE and of the returns.
        normalize_advantages: to mean 0 and standard deviation 1 over the mini batch.
        compute_advantages_internally: from the values of this update, rather than once from those of the unroll.
        advantage_clip: clip advantages to [-advantage_clip, advantage_clip].
        entropy_regularization: weight of the entropy; None: 0.
        td_loss_weight: weight of the value loss.
        importance_ratio_clipping: c; the number 0: no clipping. A number or a scheduler.
        log_prob_clipping: clip the difference of log-probabilities to [-log_prob_clipping, log_prob_clipping]; 0: no.
        check_numerics: raise if a loss is not finite.
        debug_summaries: write values, returns, advantages, importance ratios.
        name: name in summaries.
    """

    def __init__(self,
                 gamma: Union[float, List[float]] = 0.99,
                 td_error_loss_fn: Callable = element_wise_squared_loss,
                 td_lambda: float = 0.95,
                 normalize_advantages: bool = True,
                 compute_advantages_internally: bool = False,
                 advantage_clip: Optional[float] = None,
                 entropy_regularization: Optional[float] = None,
                 td_loss_weight: float = 1.0,
                 importance_ratio_clipping: Union[float, Callable] = 0.2,
                 log_prob_clipping: float = 0.0,
                 check_numerics: bool = False,
                 debug_summaries: bool = False,
                 name: str = "PPOLoss"):
        super().__init__(
            gamma=gamma,
            td_error_loss_fn=td_error_loss_fn,
            use_gae=True,
            td_lambda=td_lambda,
            use_td_lambda_return=True,
            normalize_advantages=normalize_advantages,
            advantage_clip=advantage_clip,
            entropy_regularization=entropy_regularization,
            td_loss_weight=td_loss_weight,
            debug_summaries=debug_summaries,
            name=name)
        self._compute_advantages_internally = compute_advantages_internally
        self._importance_ratio_clipping = as_scheduler(importance_ratio_clipping)
        self._log_prob_clipping = log_prob_clipping
        self._check_numerics = check_numerics

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations.

        Raises:
            NotImplementedError: with ``check_numerics``, which looks at each result.
        """
        if self._check_numerics:
            raise NotImplementedError("PPOLoss.check_numerics=True looks at the numbers in each update")
        return ()

    @property
    def compute_advantages_internally(self) -> bool:
        """Whether advantages are computed from the values of this update rather than those of the unroll."""
        return self._compute_advantages_internally

    def compute_returns_and_advantages(self, info: Nest) -> tuple:
        """Return ``(returns, advantages)`` of an unroll, each with the shape of ``info.value`` ``[T, B(, R)]``.

        The last row is there to be bootstrapped from: its return is its value and its advantage 0.
        """
        return super()._calc_returns_and_advantages(info, info.value.detach())

    def _calc_returns_and_advantages(self, info: Nest, value: torch.Tensor) -> tuple:
        if self._compute_advantages_internally:
            return super()._calc_returns_and_advantages(info, value)
        return info.returns, info.advantages

    def _transition_mask(self, info: Nest) -> torch.Tensor:
        mask = info.step_type != _LAST
        if self._compute_advantages_internally:
            mask[-1] = False
        return mask

    def _pg_loss(self, info: Nest, advantages: torch.Tensor) -> torch.Tensor:
        advantages = advantages.detach()
        ratio, clipped_ratio = value_ops.action_importance_ratio(
            action_distribution=info.action_distribution,
            rollout_action_distribution=(),
            action=info.action,
            clipping_mode="double_sided",
            scope=self._name,
            importance_ratio_clipping=read_scheduler(self._importance_ratio_clipping),
            log_prob_clipping=self._log_prob_clipping,
            check_numerics=self._check_numerics,
            debug_summaries=self._debug_summaries,
            rollout_log_prob=info.log_prob)
        clipping = self._importance_ratio_clipping
        if isinstance(clipping, ConstantScheduler) and clipping() == 0:
            return -ratio * advantages
        return -torch.minimum(ratio * advantages, clipped_ratio * advantages)

    def calc_loss(self, info: Nest) -> LossInfo:
        """Return the loss ``[T, B]`` of a mini batch.

        Args:
            info: the fields of :class:`ActorCriticLoss`, and ``log_prob [T, B]`` of the actions when they were done;
                ``returns`` and ``advantages`` with the shape of ``value`` unless they are computed internally.
        """
        loss_info = super().calc_loss(info)
        if self._check_numerics:
            common.check_numerics(loss_info.loss)
        return loss_info
