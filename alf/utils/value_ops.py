"""Returns, advantages and importance ratios: pure functions of time-major tensors.

``rewards[t + 1]`` and ``discounts[t + 1]`` belong to the transition from ``t`` to ``t + 1``. A row ``t`` with
``StepType.LAST`` starts no transition: its return is its value, its advantage 0. ``discounts[t + 1] == 0``
means that the episode terminated; a time limit keeps its discount, so the value of the last observation is
bootstrapped from.
"""

from typing import Optional, Tuple

import numpy as np
import torch
from torch import Tensor

import alf.summary as summary
from alf.data_structures import StepType
from alf.utils import dist_utils
from alf.utils.recording import is_recording

_LAST = int(StepType.LAST)
_NUMPY_DTYPES = (torch.float32, torch.float64)


def discounted_return(
    rewards: Tensor, values: Tensor, step_types: Tensor, discounts: Tensor, time_major: bool = True
) -> Tensor:
    """Return the discounted sum of rewards to the end of the episode, or to the last row and its value.

    ``G_t = r_{t+1} + discount_{t+1} * G_{t+1}``, ``G_{T-1} = v_{T-1}``, and ``G_t = v_t`` where ``t`` is
    ``LAST``.

    Args:
        rewards: ``[T, B]`` or ``[T, B, R]``.
        values: like ``rewards``; the values of the observations.
        step_types: ``[T, B]``, int32.
        discounts: ``[T, B]`` or like ``rewards``; includes gamma. 0 = terminated.
        time_major: if False, all inputs and the result have ``B`` before ``T``.

    Returns:
        ``[T - 1, B]`` or ``[T - 1, B, R]``: returns of rows 0 to T - 2.
    """
    tensors = _check("discounted_return", rewards, values, step_types, discounts, time_major)
    xp, (r, v, is_last, discount) = _arrays(*tensors)
    drift = xp.where(is_last, v[:-1], r[1:])
    factor = xp.where(is_last, xp.zeros_like(discount[1:]), discount[1:])
    return _finish(xp, _scan(xp, drift, factor, v[-1]), time_major)


def one_step_discounted_return(
    rewards: Tensor, values: Tensor, step_types: Tensor, discounts: Tensor
) -> Tensor:
    """Return ``r_{t+1} + discount_{t+1} * v_{t+1}``, and ``v_t`` where ``t`` is ``LAST``.

    Args:
        rewards: ``[T, B]`` or ``[T, B, R]``.
        values: like ``rewards``.
        step_types: ``[T, B]``, int32.
        discounts: ``[T, B]`` or like ``rewards``; includes gamma. 0 = terminated.

    Returns:
        ``[T - 1, B]`` or ``[T - 1, B, R]``: targets of rows 0 to T - 2.
    """
    rewards, values, step_types, discounts = _check(
        "one_step_discounted_return", rewards, values, step_types, discounts, True
    )
    is_last = _expand(step_types[:-1] == _LAST, rewards)
    return torch.where(
        is_last, values[:-1], torch.addcmul(rewards[1:], _expand(discounts[1:], rewards), values[1:])
    )


def generalized_advantage_estimation(
    rewards: Tensor,
    values: Tensor,
    step_types: Tensor,
    discounts: Tensor,
    td_lambda: float = 1.0,
    time_major: bool = True,
) -> Tensor:
    """Return the advantages of Eq. (16) of https://arxiv.org/abs/1506.02438.

    ``A_t = delta_t + discount_{t+1} * lambda * A_{t+1}`` with ``delta_t = r_{t+1} + discount_{t+1} * v_{t+1}
    - v_t``, ``A_{T-1} = 0``, and ``A_t = 0`` where ``t`` is ``LAST``.

    Args:
        rewards: ``[T, B]`` or ``[T, B, R]``.
        values: like ``rewards``.
        step_types: ``[T, B]``, int32.
        discounts: ``[T, B]`` or like ``rewards``; includes gamma. 0 = terminated.
        td_lambda: 0 = one-step advantage, 1 = return minus value.
        time_major: if False, all inputs and the result have ``B`` before ``T``.

    Returns:
        ``[T - 1, B]`` or ``[T - 1, B, R]``: advantages of rows 0 to T - 2.
    """
    tensors = _check("generalized_advantage_estimation", rewards, values, step_types, discounts, time_major)
    xp, (r, v, is_last, discount) = _arrays(*tensors)
    goes_on = ~is_last
    discount = discount[1:] * goes_on
    delta = (r[1:] - v[:-1]) * goes_on + discount * v[1:]
    return _finish(xp, _scan(xp, delta, discount * td_lambda, None), time_major)


def _check(
    name: str, rewards: Tensor, values: Tensor, step_types: Tensor, discounts: Tensor, time_major: bool
) -> Tuple[Tensor, ...]:
    """Return the inputs time-major after checking their shapes."""
    ok = (
        rewards.ndim >= 2
        and values.shape == rewards.shape
        and step_types.shape == rewards.shape[:2]
        and discounts.shape in (rewards.shape[:2], rewards.shape)
    )
    if not ok or rewards.shape[0 if time_major else 1] < 2:
        layout = "[T, B(, R)]" if time_major else "[B, T(, R)]"
        raise ValueError(
            f"{name}: expected rewards and values {layout} with T >= 2, step_types without R and discounts "
            f"with or without it; got rewards {tuple(rewards.shape)}, values {tuple(values.shape)}, "
            f"step_types {tuple(step_types.shape)}, discounts {tuple(discounts.shape)}."
        )
    if time_major:
        return rewards, values, step_types, discounts
    return tuple(tensor.transpose(0, 1) for tensor in (rewards, values, step_types, discounts))


def _expand(x, y):
    """Return ``x`` with dimensions of 1 at the end, as many as ``y`` has."""
    return x.reshape(x.shape + (1,) * (y.ndim - x.ndim))


def _arrays(rewards: Tensor, values: Tensor, step_types: Tensor, discounts: Tensor):
    """Return the module to compute with, and rewards, values, is_last (of rows 0 to T - 2) and discounts in
    its arrays.

    On CPU the recursion runs in NumPy, whose calls cost a third of PyTorch's on small arrays, unless
    gradients are wanted or the operations are being recorded.
    """
    tensors = (rewards, values, discounts)
    needs_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if needs_grad or is_recording() or any(not t.is_cpu or t.dtype not in _NUMPY_DTYPES for t in tensors):
        xp, is_last = torch, step_types[:-1] == _LAST
    else:
        xp, is_last = np, step_types.numpy()[:-1] == _LAST
        rewards, values, discounts = (tensor.detach().numpy() for tensor in tensors)
    return xp, (rewards, values, _expand(is_last, rewards), _expand(discounts, rewards))


def _scan(xp, drift, factor, last):
    """Return ``x_t = drift_t + factor_t * x_{t+1}``, where ``x`` after the last row is ``last`` (None = 0).

    Args:
        drift: ``[N, ...]``; may be overwritten.
        factor: ``[N, ...]`` or broadcastable; may be overwritten.
        last: ``[...]`` or None.
    """
    if xp is torch:
        return _scan_torch(drift, factor, last)
    if last is not None:
        drift[-1] += factor[-1] * last
    num_rows, row_size = drift.shape[0], drift[0].size
    num_rounds = (num_rows - 1).bit_length()
    # Estimated microseconds: rows one after the other are fewer multiplications, doubling is fewer calls.
    if num_rows * (1.2 + 6e-4 * row_size) < num_rounds * (2.4 + 9e-4 * num_rows * row_size):
        for t in range(num_rows - 2, -1, -1):
            drift[t] += factor[t] * drift[t + 1]
        return drift
    # Doubling (Hillis and Steele, 1986): after a round with shift s, drift_t sums over 2 s rows and factor_t
    # is the product of 2 s factors.
    for k in range(num_rounds):
        shift = 1 << k
        drift[:-shift] += factor[: num_rows - shift] * drift[shift:]
        factor = factor[:-shift] * factor[shift:] if 2 * shift < num_rows else factor
    return drift


def _scan_torch(drift: Tensor, factor: Tensor, last: Optional[Tensor]) -> Tensor:
    """Return the same as ``_scan`` by doubling, without writing in place, so that gradients flow."""
    if last is not None:
        drift = torch.cat([drift[:-1], drift[-1:] + factor[-1:] * last])
    shift = 1
    while shift < drift.shape[0]:
        drift = torch.cat(
            [torch.addcmul(drift[:-shift], factor[: drift.shape[0] - shift], drift[shift:]), drift[-shift:]]
        )
        factor = factor[:-shift] * factor[shift:] if 2 * shift < drift.shape[0] else factor
        shift *= 2
    return drift


def _finish(xp, result, time_major: bool) -> Tensor:
    """Return the result as a tensor in the caller's layout."""
    if xp is np:
        result = torch.from_numpy(result)
    return result if time_major else result.transpose(0, 1)


def action_importance_ratio(
    action_distribution,
    rollout_action_distribution,
    action,
    clipping_mode: str,
    scope: str,
    importance_ratio_clipping: float,
    log_prob_clipping: float,
    check_numerics: bool,
    debug_summaries: bool,
    rollout_log_prob: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor]:
    """Return how much likelier the action is under the present policy than under the one that chose it.

    Args:
        action_distribution: nest of distributions of the present policy, batch shape ``[T, B]`` or ``[B]``.
        rollout_action_distribution: nest of the distributions that ``action`` was sampled from; not used if
            ``rollout_log_prob`` is given.
        action: nest of actions.
        clipping_mode: ``double_sided`` clips the ratio to ``[1 - c, 1 + c]``, ``capping`` to at most ``1 +
            c``, where ``c = importance_ratio_clipping``.
        scope: summary scope.
        importance_ratio_clipping: see ``clipping_mode``.
        log_prob_clipping: if positive, the difference of log probabilities is clipped to plus or minus this.
        check_numerics: raise if a ratio is not finite (this waits for the device).
        debug_summaries: write the fraction of clipped ratios and a histogram of the ratios.
        rollout_log_prob: log probability of ``action`` when it was chosen, if known.

    Returns:
        tuple:
        - the ratio ``pi(a|s) / pi_rollout(a|s)``, batch shape;
        - the clipped ratio.

    Raises:
        ValueError: unknown ``clipping_mode``.
        FloatingPointError: ``check_numerics`` found a ratio that is not finite.
    """
    if clipping_mode not in ("double_sided", "capping"):
        raise ValueError(
            "action_importance_ratio: clipping_mode: expected 'double_sided' or 'capping', "
            f"got {clipping_mode!r}."
        )
    if rollout_log_prob is None:
        rollout_log_prob = dist_utils.compute_log_probability(rollout_action_distribution, action)
    log_prob_change = (
        dist_utils.compute_log_probability(action_distribution, action) - rollout_log_prob.detach()
    )
    if log_prob_clipping > 0:
        log_prob_change = log_prob_change.clamp(-log_prob_clipping, log_prob_clipping)
    ratio = log_prob_change.exp()
    low = 1 - importance_ratio_clipping if clipping_mode == "double_sided" else None
    clipped_ratio = ratio.clamp(min=low, max=1 + importance_ratio_clipping)

    if check_numerics and not bool(torch.isfinite(ratio).all()):
        raise FloatingPointError(
            f"action_importance_ratio ({scope}): {int((~torch.isfinite(ratio)).sum())} of "
            f"{ratio.numel()} ratios are not finite. Lower the learning rate or set "
            "log_prob_clipping > 0."
        )
    if debug_summaries and summary.should_record_summaries():
        with summary.scope(scope):
            is_clipped = (ratio.detach() - clipped_ratio.detach()).abs() > 0
            summary.scalar("clip_fraction", is_clipped.float().mean())
            summary.histogram("action_log_prob", (log_prob_change + rollout_log_prob).detach())
            summary.histogram("importance_ratio", ratio.detach())
            summary.scalar("importance_ratio_mean", ratio.detach().mean())
    return ratio, clipped_ratio
