"""Variance scaling initialization of weights, with a gain measured from the activation of the layer."""

import functools
import math
from typing import Callable, Tuple

import torch

from alf.config_util import configurable

# Standard deviation of a standard normal that is cut off at -2 and 2.
_TRUNCATED_STD = 0.87962566103423978


def identity(x: torch.Tensor) -> torch.Tensor:
    """Return ``x``: the activation of a linear layer."""
    return x


def _calculate_fans(tensor: torch.Tensor, transposed: bool) -> Tuple[int, int]:
    """Return (fan_in, fan_out) of a weight ``[out, in, *kernel]``; ``[in, out, *kernel]`` if transposed."""
    if tensor.ndim < 2:
        raise ValueError(f"variance_scaling_init.tensor: expected a weight of 2 or more dimensions, got "
                         f"shape {tuple(tensor.shape)}. Initialize a bias with a constant instead.")
    receptive_field = math.prod(tensor.shape[2:])
    fan_out, fan_in = tensor.shape[0] * receptive_field, tensor.shape[1] * receptive_field
    return (fan_out, fan_in) if transposed else (fan_in, fan_out)


@functools.lru_cache(maxsize=64)
def _gain_of(nonlinearity: Callable) -> float:
    """Return ``1 / sqrt(E[f(z)^2])`` for a standard normal ``z`` and the elementwise function ``f``.

    That factor keeps the second moment of the activations at 1 from layer to layer: Eq. (10) of
    https://arxiv.org/abs/1502.01852 where ``f`` is the ReLU and the factor is ``sqrt(2)``. The expectation is
    a Riemann sum, not a sample, so that initialization draws no random number for it.
    """
    z = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float32, device="cpu")
    density = torch.exp(-0.5 * z.double()**2)
    try:
        with torch.no_grad():
            # One value a row: functions that normalize over the last dimension (softmax) see a single
            # element. Activations may work in place, hence the clone.
            f_z = nonlinearity(z.clone().unsqueeze(-1)).squeeze(-1).double()
        second_moment = float((density * f_z**2).sum() / density.sum())
    except Exception as e:
        raise ValueError(f"variance_scaling_init.nonlinearity: {nonlinearity!r} cannot be applied "
                         f"elementwise to a "
                         f"float32 tensor of shape (4001, 1). Pass calc_gain_after_activation=False and the "
                         f"gain yourself.") from e
    if not (math.isfinite(second_moment) and second_moment > 1e-12):
        raise ValueError(f"variance_scaling_init.nonlinearity: {nonlinearity!r} of a standard normal "
                         f"variable has "
                         f"the second moment {second_moment}, so no gain can bring it to 1. Pass "
                         f"calc_gain_after_activation=False.")
    return second_moment**-0.5


@configurable
def variance_scaling_init(tensor: torch.Tensor,
                          gain: float = 1.0,
                          mode: str = 'fan_in',
                          distribution: str = 'truncated_normal',
                          calc_gain_after_activation: bool = True,
                          nonlinearity: Callable = identity,
                          transposed: bool = False) -> torch.Tensor:
    """Fill a weight in place with zero-mean noise of standard deviation ``gain / sqrt(fan)`` and return it.

    Args:
        tensor: weight ``[out, in, *kernel]``, or ``[in, out, *kernel]`` if ``transposed``.
        gain: factor on the standard deviation.
        mode: ``fan_in``, ``fan_out`` or ``fan_avg``: which fan the variance is divided by.
        distribution: ``truncated_normal`` (cut off at two of its standard deviations and rescaled, so that
            the variance is as said), ``untruncated_normal`` or ``uniform``.
        calc_gain_after_activation: multiply ``gain`` by the factor that makes the second moment of
            ``nonlinearity(y)`` 1 for a standard normal ``y``.
        nonlinearity: the elementwise activation applied to what the layer with this weight puts out.
        transposed: whether the weight is that of a transposed convolution.
    Raises:
        ValueError: if ``mode`` or ``distribution`` is unknown, the tensor has fewer than two dimensions, or
            the gain of ``nonlinearity`` cannot be measured.
    """
    fan_in, fan_out = _calculate_fans(tensor, transposed)
    fans = dict(fan_in=fan_in, fan_out=fan_out, fan_avg=0.5 * (fan_in + fan_out))
    if mode not in fans:
        raise ValueError(f"variance_scaling_init.mode: expected one of {sorted(fans)}, got {mode!r}.")
    if calc_gain_after_activation and nonlinearity is not identity:
        gain = gain * _gain_of(nonlinearity)
    std = gain / math.sqrt(max(1.0, fans[mode]))

    with torch.no_grad():
        if distribution == 'truncated_normal':
            std = std / _TRUNCATED_STD
            return torch.nn.init.trunc_normal_(tensor, 0.0, std, -2 * std, 2 * std)
        if distribution == 'untruncated_normal':
            return tensor.normal_(0.0, std)
        if distribution == 'uniform':
            limit = math.sqrt(3.0) * std
            return tensor.uniform_(-limit, limit)
    raise ValueError(f"variance_scaling_init.distribution: expected 'truncated_normal', 'untruncated_normal' "
                     f"or 'uniform', got {distribution!r}.")
