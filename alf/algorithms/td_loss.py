"""Temporal difference losses of action values over sampled sequences: of values, or of their quantiles."""

from typing import Callable, List, Optional, Tuple, Union

import torch
from torch import nn

from alf import summary
from alf.algorithms._gamma import register_gamma
from alf.config_util import configurable
from alf.data_structures import LossInfo, StepType, namedtuple
from alf.utils import losses, summary_utils, tensor_utils, value_ops
from alf.utils.normalizers import ScalarAdaptiveNormalizer

_LAST = int(StepType.LAST)


@configurable
class TDLoss(nn.Module):
    """The error of values against TD(lambda) returns that are bootstrapped from target values.

    With ``r_{t+1}`` and ``discount_{t+1}`` standing in row ``t + 1``, where they led to, the target of row ``t`` is
    ``G_t = r_{t+1} + gamma * discount_{t+1} * ((1 - lambda) * v_{t+1} + lambda * G_{t+1})``, Eq. (12.20) of Sutton and
    Barto, Reinforcement Learning, 2nd edition. ``discount`` is 0 only where an episode terminated: the end by a time
    limit is bootstrapped from. A row at ``LAST`` starts no transition: its target is its own target value, and
    the return of the row before it ends there. The last row of a sequence is only bootstrapped from.

    Args:
        gamma: discount of the future in [0, 1], or one for each component of a vector reward.
        td_error_loss_fn: called with target and value; returns the loss of each element.
        td_lambda: 0: one-step targets; 1: returns over the whole sequence.
        normalize_target: measure the error in running standard deviations of the targets, all components together.
        debug_summaries: write values, targets, errors and the fraction of the variance of targets that is explained.
        name: name in summaries.
    Raises:
        ValueError: if ``gamma`` or ``td_lambda`` is not in [0, 1].
    """

    def __init__(self,
                 gamma: Union[float, List[float]] = 0.99,
                 td_error_loss_fn: Callable = losses.element_wise_squared_loss,
                 td_lambda: float = 0.95,
                 normalize_target: bool = False,
                 debug_summaries: bool = False,
                 name: str = "TDLoss"):
        super().__init__()
        register_gamma(self, gamma, name)
        if not 0 <= td_lambda <= 1:
            raise ValueError(f"{name}.td_lambda: expected 0 <= td_lambda <= 1, got {td_lambda}.")
        self._td_error_loss_fn = td_error_loss_fn
        self._lambda = td_lambda
        self._target_normalizer = None
        if normalize_target:
            self._target_normalizer = ScalarAdaptiveNormalizer(auto_update=False, name=f"{name}.target_normalizer")
        self._debug_summaries = debug_summaries
        self._name = name

    @property
    def gamma(self) -> Union[float, torch.Tensor]:
        """Discount of the future: a number, or ``[R]`` for a vector reward."""
        return self._gamma

    def compute_td_target(self, info: namedtuple, target_value: torch.Tensor) -> torch.Tensor:
        """Return the targets of all rows but the last, ``[T - 1, B]`` or ``[T - 1, B, ...]``, without gradient.

        Args:
            info: with fields ``reward [T, B]`` or ``[T, B, R]``, ``step_type [T, B]`` and ``discount [T, B]``.
            target_value: ``[T, B]`` or ``[T, B, R]``: values to bootstrap from. Row 0 is only read at ``LAST``.
        """
        target_value = target_value.detach()
        return self._returns(info.reward, info, self._discounts(info, target_value), target_value)

    def _discounts(self, info: namedtuple, target_value: torch.Tensor) -> torch.Tensor:
        """Return ``gamma * discount`` ``[T, B]``, or ``[T, B, R]`` with one gamma for each component."""
        if not isinstance(self._gamma, torch.Tensor):
            return info.discount * self._gamma
        if target_value.shape[2:3] != self._gamma.shape:
            raise ValueError(f"{self._name}.gamma: expected a number, or one for each component of the reward "
                             f"{tuple(target_value.shape[2:3])}, got {self._gamma.tolist()}.")
        return info.discount.unsqueeze(-1) * self._gamma

    def _returns(self, rewards: torch.Tensor, info: namedtuple, discounts: torch.Tensor,
                 values: torch.Tensor) -> torch.Tensor:
        arguments = {"rewards": rewards, "values": values, "step_types": info.step_type, "discounts": discounts}
        if self._lambda == 0:
            return value_ops.one_step_discounted_return(**arguments)
        if self._lambda == 1:
            return value_ops.discounted_return(**arguments)
        return values[:-1] + value_ops.generalized_advantage_estimation(**arguments, td_lambda=self._lambda)

    def forward(self, info: namedtuple, value: torch.Tensor, target_value: torch.Tensor) -> LossInfo:
        """Return the loss ``[T, B]``; its last row is 0. That of a vector reward is the mean over its components.

        Args:
            info: see :meth:`compute_td_target`.
            value: ``[T, B]`` or ``[T, B, R]``: what is trained.
            target_value: like ``value``: what is bootstrapped from.
        Raises:
            ValueError: if value and target value differ in shape.
        """
        if value.shape != target_value.shape:
            raise ValueError(f"{self._name}: expected value and target_value of one shape, got {tuple(value.shape)} "
                             f"and {tuple(target_value.shape)}.")
        target, value = self._normalize(info, self.compute_td_target(info, target_value), value[:-1])
        if self._debug_summaries and summary.should_record_summaries():
            self._summarize(info, value.detach(), target)
        loss = self._td_error_loss_fn(target, value)
        return self._finish(loss.mean(-1) if loss.ndim == 3 else loss)

    def _finish(self, loss: torch.Tensor) -> LossInfo:
        """Return the loss ``[T - 1, B]`` with a row of zeros at the end."""
        loss = tensor_utils.tensor_extend_zero(loss)
        return LossInfo(loss=loss, extra=loss)

    def _normalize(self, info: namedtuple, target: torch.Tensor,
                   value: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return targets and values ``[T - 1, B, ...]`` in the units that the error is measured in."""
        if self._target_normalizer is None:
            return target, value
        valid = target[info.step_type[:-1] != _LAST]
        if self.training and valid.shape[0] > 0:
            self._target_normalizer.update(valid)
        return self._target_normalizer.normalize(target), self._target_normalizer.normalize(value)

    def _summarize(self, info: namedtuple, value: torch.Tensor, target: torch.Tensor) -> None:
        """Write what is known of values and targets ``[T - 1, B]`` or ``[T - 1, B, R]``."""
        mask = info.step_type[:-1] != _LAST
        parts = [("", value, target)]
        if value.ndim == 3:
            parts = [(f"/{i}", value[..., i], target[..., i]) for i in range(value.shape[-1])]
        with summary.scope(self._name):
            for suffix, v, g in parts:
                summary.scalar("explained_variance_of_return_by_value" + suffix,
                               tensor_utils.explained_variance(v, g, mask))
                summary_utils.safe_mean_hist_summary("values" + suffix, v, mask)
                summary_utils.safe_mean_hist_summary("returns" + suffix, g, mask)
                summary_utils.safe_mean_hist_summary("td_error" + suffix, g - v, mask)


@configurable
class TDQRLoss(TDLoss):
    """The quantile regression loss of predicted quantiles against the TD(lambda) targets of target quantiles.

    Each quantile of the target value makes one target, Eq. (9) of https://arxiv.org/abs/1710.10044.

    Args:
        num_quantiles: number of quantiles of a value.
        gamma: see :class:`TDLoss`.
        td_error_loss_fn: called with ``value [..., n]``, ``target [..., m]`` and the keyword arguments ``tau_hat``,
            ``next_delta_tau``, ``fixed_tau`` and ``sum_over_quantiles`` of :func:`iqn_huber_loss`; returns ``[...]``.
        td_lambda: see :class:`TDLoss`.
        sum_over_quantiles: sum the losses of the quantiles, rather than take their mean.
        debug_summaries: see :class:`TDLoss`; of the means of the quantiles.
        name: name in summaries.
    """

    def __init__(self,
                 num_quantiles: int = 50,
                 gamma: Union[float, List[float]] = 0.99,
                 td_error_loss_fn: Callable = losses.iqn_huber_loss,
                 td_lambda: float = 1.0,
                 sum_over_quantiles: bool = False,
                 debug_summaries: bool = False,
                 name: str = "TDQRLoss"):
        super().__init__(
            gamma=gamma,
            td_error_loss_fn=td_error_loss_fn,
            td_lambda=td_lambda,
            debug_summaries=debug_summaries,
            name=name)
        self._num_quantiles = num_quantiles
        self._sum_over_quantiles = sum_over_quantiles
        self.register_buffer("_fixed_tau", (torch.arange(num_quantiles) + 0.5) / num_quantiles, persistent=False)

    @property
    def num_quantiles(self) -> int:
        """Number of quantiles of a value."""
        return self._num_quantiles

    def compute_td_target(self, info: namedtuple, target_value: torch.Tensor) -> torch.Tensor:
        """Return the targets of all rows but the last, ``[T - 1, B, m]`` or ``[T - 1, B, R, m]``, without gradient.

        Args:
            info: see :class:`TDLoss`.
            target_value: ``[T, B, m]`` or ``[T, B, R, m]``: quantiles to bootstrap from.
        """
        target_value = target_value.detach()
        discounts = self._discounts(info, target_value)
        if discounts.ndim == 3:
            discounts = discounts.unsqueeze(-1).expand_as(target_value)
        rewards = info.reward.unsqueeze(-1).expand_as(target_value)
        return self._returns(rewards, info, discounts, target_value)

    def forward(self,
                info: namedtuple,
                value: torch.Tensor,
                target_value: torch.Tensor,
                tau_hat: Optional[torch.Tensor] = (),
                delta_tau: Optional[torch.Tensor] = (),
                next_delta_tau: Optional[torch.Tensor] = ()) -> LossInfo:
        """Return the loss ``[T, B]``; its last row is 0. That of a vector reward is the mean over its components.

        Args:
            info: see :class:`TDLoss`.
            value: ``[T, B, n]`` or ``[T, B, R, n]``: quantiles that are trained.
            target_value: ``[T, B, m]`` or ``[T, B, R, m]``: quantiles that are bootstrapped from.
            tau_hat: ``[T, B, n]``: at which fractions ``value`` is; ``()``: at ``(k + 0.5) / num_quantiles``.
            delta_tau: ``[T, B, n]``: weights of the quantiles of ``value`` in its mean; ``()``: all the same. Only for
                summaries.
            next_delta_tau: ``[T, B, m]``: weights of the quantiles of ``target_value``; ``()``: all the same.
        Raises:
            ValueError: if there are not ``num_quantiles`` quantiles and no ``tau_hat``.
        """
        is_fixed = not isinstance(tau_hat, torch.Tensor)
        if is_fixed and value.shape[-1] != self._num_quantiles:
            raise ValueError(f"{self._name}.num_quantiles: expected the size of the last dimension of value "
                             f"{tuple(value.shape)}, got {self._num_quantiles}.")
        target, value = self.compute_td_target(info, target_value), value[:-1]
        if self._debug_summaries and summary.should_record_summaries():
            weights = delta_tau[:-1] if isinstance(delta_tau, torch.Tensor) else 1 / value.shape[-1]
            self._summarize(info, (value.detach() * weights).sum(-1), target.mean(-1))
        loss = self._td_error_loss_fn(
            value,
            target,
            tau_hat=() if is_fixed else tau_hat[:-1],
            next_delta_tau=next_delta_tau[1:] if isinstance(next_delta_tau, torch.Tensor) else (),
            fixed_tau=self._fixed_tau if is_fixed else (),
            sum_over_quantiles=self._sum_over_quantiles)
        return self._finish(loss.mean(-1) if loss.ndim == 3 else loss)
