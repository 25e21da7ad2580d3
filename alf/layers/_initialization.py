"""What dense and convolutional layers share: making parameters and filling them."""

import math
from typing import Any, Callable, Dict, Optional

import torch
import torch.nn as nn

from alf.initializers import identity as _linear
from alf.initializers import variance_scaling_init
from alf.utils.math_ops import identity


def make_parameter(shape, opt_args: Optional[Dict[str, Any]] = None) -> nn.Parameter:
    """Return an uninitialized parameter; ``opt_args``, if given, is its attribute, for optimizers.

    Raises:
        ValueError: if a size is negative.
        MemoryError: if there is not enough memory.
    """
    if min(shape) < 0:
        raise ValueError(f"A layer needs a parameter of shape {list(shape)}: expected sizes >= 0. Correct the sizes of "
                         "its network, such as fc_layer_params.")
    try:
        parameter = nn.Parameter(torch.empty(*shape))
    except (RuntimeError, OverflowError) as error:
        gigabytes = math.prod(shape) * torch.get_default_dtype().itemsize / 1e9
        raise MemoryError(f"A layer needs a parameter of shape {list(shape)}, {gigabytes:,.0f} GB, which is too much. "
                          "Use smaller layers; where a size is the number of values of a Discrete space, give the "
                          "environment another space.") from error
    if opt_args is not None:
        parameter.opt_args = opt_args
    return parameter


def init_weight(weight: torch.Tensor,
                activation: Callable,
                kernel_initializer: Optional[Callable],
                kernel_init_gain: float,
                use_torch_init: bool = False,
                transposed: bool = False) -> None:
    """Fill ``weight`` in place.

    Args:
        weight: ``[out, in, *kernel]``, or ``[in, out, *kernel]`` if ``transposed``.
        activation: what follows the layer; sets the gain of the default initializer.
        kernel_initializer: called with the weight; ``None`` means ``variance_scaling_init``.
        kernel_init_gain: gain of the default initializer.
        use_torch_init: initialize as ``nn.Linear`` and ``nn.Conv2d`` do, whatever the other arguments.
        transposed: whether the weight is that of a transposed convolution.
    """
    with torch.no_grad():
        if use_torch_init:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        elif kernel_initializer is None:
            variance_scaling_init(
                weight,
                gain=kernel_init_gain,
                nonlinearity=_linear if activation is identity else activation,
                transposed=transposed)
        else:
            kernel_initializer(weight)


def init_bias(bias: Optional[torch.Tensor],
              bias_init_value: float = 0.0,
              bias_initializer: Optional[Callable] = None,
              use_torch_init: bool = False,
              fan_in: int = 1) -> None:
    """Fill ``bias`` in place, if there is one.

    Args:
        bias: ``[out]``.
        bias_init_value: the value if there is no ``bias_initializer``.
        bias_initializer: called with the bias.
        use_torch_init: draw from ``+-1 / sqrt(fan_in)`` as ``nn.Linear`` does, whatever the other arguments.
        fan_in: number of inputs of an output unit.
    """
    if bias is None:
        return
    with torch.no_grad():
        if use_torch_init:
            limit = 1 / math.sqrt(fan_in)
            bias.uniform_(-limit, limit)
        elif bias_initializer is None:
            bias.fill_(bias_init_value)
        else:
            bias_initializer(bias)


def none_if_identity(activation: Callable) -> Optional[Callable]:
    """Return ``activation``, or ``None`` for the identity: layers skip the call, which is not free."""
    return None if activation is identity or activation is _linear else activation
