"""Losses of predictions against targets, element by element or by predicted distributions.

None of them reduces over batch dimensions: weights and masks of the training step come after.
"""

from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

import alf.summary as summary
from alf.config_util import configurable
from alf.utils.math_ops import InvertibleTransform


def _check_same_shape(name: str, x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(
            f"{name}: expected prediction and target of one shape, got {tuple(x.shape)} and {tuple(y.shape)}."
        )


@configurable
def element_wise_huber_loss(x: Tensor, y: Tensor) -> Tensor:
    """Return the Huber loss with delta 1 of each element.

    Args:
        x: label, any shape.
        y: prediction, shape of ``x``.
    """
    _check_same_shape("element_wise_huber_loss", y, x)
    return F.smooth_l1_loss(y, x, reduction="none")


@configurable
def element_wise_squared_loss(x: Tensor, y: Tensor) -> Tensor:
    """Return ``(y - x)^2`` of each element.

    Args:
        x: label, any shape.
        y: prediction, shape of ``x``.
    """
    _check_same_shape("element_wise_squared_loss", y, x)
    return F.mse_loss(y, x, reduction="none")


@configurable
def huber_function(x: Tensor, delta: float = 1.0) -> Tensor:
    """Return ``x^2 / 2`` where ``|x| <= delta`` and ``delta * (|x| - delta / 2)`` elsewhere (Huber, 1964).

    Args:
        x: any shape.
        delta: where the function becomes linear.
    """
    magnitude = x.abs()
    return torch.where(magnitude <= delta, 0.5 * x.square(), delta * (magnitude - 0.5 * delta))


def _midpoints(num_quantiles: int, like: Tensor) -> Tensor:
    """Return ``(k + 0.5) / n``, [n]."""
    return (torch.arange(num_quantiles, dtype=like.dtype, device=like.device) + 0.5) / num_quantiles


@configurable
def multi_quantile_huber_loss(quantiles: Tensor, target: Tensor, delta: float = 0.1) -> Tensor:
    """Return the mean quantile Huber loss of all quantiles against all targets.

    For ``u = target - quantile``: ``|tau - 1(u < 0)| * H_delta(u) / delta``, Eq. (10) of
    https://arxiv.org/abs/1710.10044 divided by delta, so that it tends to the quantile regression loss
    ``|u|`` for small delta.

    Args:
        quantiles: ``[..., n]``; ``quantiles[..., k]`` predicts the quantile at ``tau = (k + 0.5) / n``.
        target: ``[...]``, or ``[..., m]`` for m samples of the target.
        delta: where the Huber function becomes linear; 0 = the absolute value.

    Returns:
        ``[...]``
    """
    if target.ndim == quantiles.ndim - 1:
        target = target.unsqueeze(-1)
    if target.shape[:-1] != quantiles.shape[:-1]:
        raise ValueError(
            "multi_quantile_huber_loss: expected quantiles [..., n] and target [...] or [..., m], got "
            f"{tuple(quantiles.shape)} and {tuple(target.shape)}."
        )
    u = target.unsqueeze(-2) - quantiles.unsqueeze(-1)  # [..., n, m]
    tau = _midpoints(quantiles.shape[-1], quantiles).unsqueeze(-1)
    loss = u.abs() if delta == 0 else huber_function(u, delta) / delta
    return ((tau - (u.detach() < 0).to(u.dtype)).abs() * loss).mean(dim=(-2, -1))


@configurable
def iqn_huber_loss(
    value: Tensor,
    target: Tensor,
    tau_hat: Optional[Tensor] = (),
    next_delta_tau: Optional[Tensor] = (),
    fixed_tau: Optional[Tensor] = (),
    sum_over_quantiles: bool = True,
    loss_fn: Callable = huber_function,
) -> Tensor:
    """Return the quantile Huber loss of implicit quantile networks, Eq. (3) of
    https://arxiv.org/abs/1806.06923.

    ``sum_i sum_j w_j * |tau_i - 1(u_ij < 0)| * H(u_ij)`` with ``u_ij = target_j - value_i``.

    Args:
        value: ``[..., n]``, predicted quantiles.
        target: ``[..., m]``, quantiles of the target distribution.
        tau_hat: ``[..., n]``, the quantile fractions of ``value``.
        next_delta_tau: ``[..., m]``, the weights ``w_j``, adding up to 1; if ``()``, all are ``1 / m``.
        fixed_tau: ``[n]``, used if ``tau_hat`` is ``()``; if both are, fractions are ``(k + 0.5) / n``.
        sum_over_quantiles: sum over i; if False, take the mean.
        loss_fn: the function H.

    Returns:
        ``[...]``
    """
    if value.shape[:-1] != target.shape[:-1]:
        raise ValueError(
            "iqn_huber_loss: expected value [..., n] and target [..., m], got "
            f"{tuple(value.shape)} and {tuple(target.shape)}."
        )
    if isinstance(tau_hat, Tensor):
        tau = tau_hat
    elif isinstance(fixed_tau, Tensor):
        tau = fixed_tau
    else:
        tau = _midpoints(value.shape[-1], value)
    u = target.unsqueeze(-2) - value.unsqueeze(-1)  # [..., n, m]
    loss = (tau.unsqueeze(-1) - (u.detach() < 0).to(u.dtype)).abs() * loss_fn(u)
    if isinstance(next_delta_tau, Tensor):
        loss = (loss * next_delta_tau.unsqueeze(-2)).sum(dim=-1)
    else:
        loss = loss.mean(dim=-1)
    return loss.sum(dim=-1) if sum_over_quantiles else loss.mean(dim=-1)


class ScalarPredictionLoss:
    """Base of losses for a network that predicts a number, possibly through a distribution over numbers."""

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each member of the batch.

        Args:
            pred: what the network gives, ``[...]`` or ``[..., n]``.
            target: ``[...]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__().")

    def calc_expectation(self, pred: Tensor) -> Tensor:
        """Return the predicted number ``[...]``."""
        raise NotImplementedError(f"{type(self).__name__} must define calc_expectation().")

    def initialize_bias(self, bias: Tensor) -> None:
        """Set the bias of the network's last layer so that the first predictions are about 0.

        Args:
            bias: ``[n]``, changed in place; left alone by losses that need nothing.
        """


def _check_batch_shape(name: str, pred: Tensor, target: Tensor) -> None:
    if pred.shape[:-1] != target.shape:
        raise ValueError(
            f"{name}: expected pred [..., n] and target [...], got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}."
        )


class SquareLoss(ScalarPredictionLoss):
    """``(pred - transform(target))^2``."""

    def __init__(self, transform: Optional[InvertibleTransform] = None):
        """
        Args:
            transform: applied to targets; None = identity.
        """
        self._transform = transform

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        _check_same_shape("SquareLoss", pred, target)
        if self._transform is not None:
            target = self._transform.transform(target)
        return F.mse_loss(pred, target, reduction="none")

    def calc_expectation(self, pred: Tensor) -> Tensor:
        return pred if self._transform is None else self._transform.inverse_transform(pred)


class _DiscreteRegressionLossBase(ScalarPredictionLoss):
    """Losses over bins at the integers ``-((n - 1) // 2), ..., n // 2`` of the transformed target."""

    def __init__(self, transform: Optional[InvertibleTransform] = None, inverse_after_mean: bool = False):
        """
        Args:
            transform: applied to targets; None = identity. Transformed targets outside of the bins are
                clipped.
            inverse_after_mean: the predicted number is the inverse transform of the mean bin if True, else
                the mean of the inverse transforms of the bins.
        """
        self._transform = transform
        self._inverse_after_mean = inverse_after_mean

    def _support(self, logits: Tensor) -> Tensor:
        """Return the positions of the bins, [n]."""
        n = logits.shape[-1]
        return torch.arange(-((n - 1) // 2), n // 2 + 1, dtype=logits.dtype, device=logits.device)

    def _position(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return where the target lies between the bins, in ``[0, n - 1]``."""
        _check_batch_shape(type(self).__name__, logits, target)
        if self._transform is not None:
            target = self._transform.transform(target)
        n = logits.shape[-1]
        return (target + (n - 1) // 2).clamp(0, n - 1)

    def _mean(self, values: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
        """Return ``values(bins)`` in the order of transforms that was asked for."""
        support = self._support(logits)
        if self._transform is None:
            return values(support)
        if self._inverse_after_mean:
            return self._transform.inverse_transform(values(support))
        return values(self._transform.inverse_transform(support))


class DiscreteRegressionLoss(_DiscreteRegressionLossBase):
    """Cross entropy against the target spread over its two neighbouring bins, Appendix F of
    https://arxiv.org/abs/1911.08265.
    """

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss ``[...]``.

        Args:
            logits: ``[..., n]``.
            target: ``[...]``.
        """
        position = self._position(logits, target)
        below = position.floor().clamp(max=logits.shape[-1] - 2)
        share_above = position - below
        log_probs = F.log_softmax(logits, dim=-1)
        index = below.long().unsqueeze(-1)
        pair = log_probs.gather(-1, torch.cat([index, index + 1], dim=-1))
        return -torch.lerp(pair[..., 0], pair[..., 1], share_above)

    def calc_expectation(self, logits: Tensor) -> Tensor:
        """Return the predicted number ``[...]`` of logits ``[..., n]``."""
        return self._mean(lambda values: logits.softmax(dim=-1) @ values, logits)

    @torch.no_grad()
    def initialize_bias(self, bias: Tensor) -> None:
        """Set the bias to that of the two-sided geometric law about 0, ``p_k ~ exp(-|k|)``."""
        bias.copy_(-self._support(bias).abs())


class OrderedDiscreteRegressionLoss(_DiscreteRegressionLossBase):
    """Sum of binary cross entropies: logit k is for "the target is at least bin k" (ordinal regression).

    A target between two bins is, for the upper one, true to the degree of its distance from the lower.
    """

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss ``[...]``.

        Args:
            logits: ``[..., n]``.
            target: ``[...]``.
        """
        position = self._position(logits, target).unsqueeze(-1)
        index = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
        labels = (position - index + 1).clamp(0, 1)
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(dim=-1)

    def calc_expectation(self, logits: Tensor) -> Tensor:
        """Return the predicted number ``[...]`` of logits ``[..., n]``."""
        # The lowest bin is reached for sure; each next one adds its distance with its probability.
        return self._mean(lambda values: values[0] + logits[..., 1:].sigmoid() @ values.diff(), logits)

    @torch.no_grad()
    def initialize_bias(self, bias: Tensor) -> None:
        """Set the bias to that of the logistic law about 0."""
        bias.copy_(0.5 - self._support(bias))


class QuantileRegressionLoss(ScalarPredictionLoss):
    """:func:`multi_quantile_huber_loss` of predicted quantiles of the transformed target."""

    def __init__(
        self,
        transform: Optional[InvertibleTransform] = None,
        inverse_after_mean: bool = False,
        delta: float = 0.0,
    ):
        """
        Args:
            transform: applied to targets; None = identity.
            inverse_after_mean: the predicted number is the inverse transform of the mean quantile if True,
                else the mean of the inverse transforms of the quantiles.
            delta: see :func:`multi_quantile_huber_loss`.
        """
        self._transform = transform
        self._inverse_after_mean = inverse_after_mean
        self._delta = delta

    def __call__(self, quantiles: Tensor, target: Tensor) -> Tensor:
        """Return the loss ``[...]``.

        Args:
            quantiles: ``[..., n]``.
            target: ``[...]``.
        """
        _check_batch_shape("QuantileRegressionLoss", quantiles, target)
        if self._transform is not None:
            target = self._transform.transform(target)
        return multi_quantile_huber_loss(quantiles, target, self._delta)

    def calc_expectation(self, quantiles: Tensor) -> Tensor:
        """Return the predicted number ``[...]`` of quantiles ``[..., n]``."""
        if self._transform is None:
            return quantiles.mean(dim=-1)
        if self._inverse_after_mean:
            return self._transform.inverse_transform(quantiles.mean(dim=-1))
        return self._transform.inverse_transform(quantiles).mean(dim=-1)


class MeanSquaredLoss:
    """Mean of the squared error over all dimensions that are not batch dimensions."""

    def __init__(self, batch_dims: int = 1, debug_summaries: bool = True, name: str = "MSELoss"):
        """
        Args:
            batch_dims: how many leading dimensions are kept.
            debug_summaries: write the mean loss and the fraction of the target's variance that is explained.
            name: of this loss in the summaries.
        """
        self._batch_dims = batch_dims
        self._debug_summaries = debug_summaries
        self._name = name

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        """Same as ``forward()``."""
        return self.forward(pred, target)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss, of shape ``pred.shape[:batch_dims]``.

        Args:
            pred: any shape with at least ``batch_dims`` dimensions.
            target: shape of ``pred``.
        """
        _check_same_shape(self._name, pred, target)
        loss = F.mse_loss(pred, target, reduction="none")
        if pred.ndim > self._batch_dims:
            loss = loss.flatten(start_dim=self._batch_dims).mean(dim=-1)
        if self._debug_summaries and summary.should_record_summaries():
            with summary.scope(self._name):
                mean_loss = loss.detach().mean()
                variance = target.detach().var(dim=tuple(range(self._batch_dims)), correction=0).mean()
                summary.scalar("loss", mean_loss)
                summary.scalar("explained_variance", 1 - mean_loss / variance.clamp(min=1e-30))
        return loss
