"""Fully connected layers: `FC`, and `ParallelFC` for many of them in one batched matrix product."""

from typing import Any, Callable, Dict, Optional

import torch
import torch.nn as nn

from alf.config_util import configurable
from alf.layers._initialization import init_bias, init_weight, make_parameter, none_if_identity
from alf.utils.linear import linear, parallel_linear
from alf.utils.math_ops import identity


@configurable
class FC(nn.Module):
    """Fully connected layer: ``activation(norm(x W^T + b))``.

    Args:
        input_size: size of the last dimension of the input.
        output_size: size of the last dimension of the output.
        activation: function or module; it may work in place.
        use_bias: whether there is a bias.
        use_bn: whether batch normalization comes before the activation.
        use_ln: whether layer normalization comes before the activation.
        bn_ctor: called with ``output_size`` to make the batch normalization layer.
        kernel_initializer: called with the weight to fill it; ``None`` means ``variance_scaling_init`` with a
            gain measured from ``activation``.
        kernel_init_gain: gain of the default initializer.
        bias_init_value: initial bias.
        bias_initializer: called with the bias to fill it, instead of ``bias_init_value``.
        use_torch_init: initialize as ``nn.Linear`` does; the other arguments about initialization are then
            unused.
        weight_opt_args: kept as ``weight.opt_args``, where optimizers look for per-parameter options.
        bias_opt_args: kept as ``bias.opt_args``.
    """

    def __init__(self,
                 input_size: int,
                 output_size: int,
                 activation: Callable = identity,
                 use_bias: bool = True,
                 use_bn: bool = False,
                 use_ln: bool = False,
                 bn_ctor: Callable = nn.BatchNorm1d,
                 kernel_initializer: Optional[Callable] = None,
                 kernel_init_gain: float = 1.0,
                 bias_init_value: float = 0.0,
                 bias_initializer: Optional[Callable] = None,
                 use_torch_init: bool = False,
                 weight_opt_args: Optional[Dict] = None,
                 bias_opt_args: Optional[Dict] = None):
        super().__init__()
        self._input_size = input_size
        self._output_size = output_size
        self._parallel_args = dict(
            activation=activation, use_bias=use_bias, use_bn=use_bn, use_ln=use_ln, bn_ctor=bn_ctor,
            kernel_initializer=kernel_initializer, kernel_init_gain=kernel_init_gain,
            bias_init_value=bias_init_value, use_torch_init=use_torch_init, bias_initializer=bias_initializer,
            weight_opt_args=weight_opt_args, bias_opt_args=bias_opt_args)
        self._activation = none_if_identity(activation)
        self._weight = make_parameter((output_size, input_size), weight_opt_args)
        self.register_parameter("_bias", make_parameter((output_size, ), bias_opt_args) if use_bias else None)
        self._bn = bn_ctor(output_size) if use_bn else None
        self._ln = nn.LayerNorm(output_size) if use_ln else None
        self._is_normalized = use_bn or use_ln
        self.reset_parameters()

    @property
    def keeps_full_precision(self) -> bool:
        """Whether mixed precision leaves the layer in float32: without activation it puts out values, logits, means."""
        return self._activation is None

    @property
    def input_size(self) -> int:
        """Size of the last dimension of the input."""
        return self._input_size

    @property
    def output_size(self) -> int:
        """Size of the last dimension of the output."""
        return self._output_size

    @property
    def weight(self) -> nn.Parameter:
        """``[output_size, input_size]``."""
        return self._weight

    @property
    def bias(self) -> Optional[nn.Parameter]:
        """``[output_size]``, or ``None`` without bias."""
        return self._bias

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        args = self._parallel_args
        init_weight(self._weight, args["activation"], args["kernel_initializer"], args["kernel_init_gain"],
                    args["use_torch_init"])
        init_bias(self._bias, args["bias_init_value"], args["bias_initializer"], args["use_torch_init"],
                  self._input_size)
        for norm in (self._bn, self._ln):
            if norm is not None:
                norm.reset_parameters()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``[..., output_size]`` for ``inputs`` ``[..., input_size]``."""
        # `self._weight` would go through nn.Module.__getattr__, which costs as much as the bias addition.
        parameters = self._parameters
        y = linear(inputs, parameters["_weight"], parameters["_bias"])
        if self._is_normalized:
            return self.finish(y)
        activation = self._activation
        return y if activation is None else activation(y)

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        """Return ``y`` ``[..., output_size]`` normalized and activated; it may be changed in place."""
        if self._ln is not None:
            y = self._ln(y)
        if self._bn is not None:
            y = self._bn(y.reshape(-1, self._output_size)).view(y.shape)
        return y if self._activation is None else self._activation(y)

    def make_parallel(self, n: int) -> "ParallelFC":
        """Return ``n`` layers like this one, with parameters of their own, as one :class:`ParallelFC`."""
        return ParallelFC(self._input_size, self._output_size, n, **self._parallel_args)

    def extra_repr(self) -> str:
        return f"{self._input_size}, {self._output_size}"


@configurable
class ParallelFC(nn.Module):
    """``n`` independent fully connected layers evaluated as one batched matrix product.

    Args are those of :class:`FC`, and:
        n: number of layers.
    """

    def __init__(self,
                 input_size: int,
                 output_size: int,
                 n: int,
                 activation: Callable = identity,
                 use_bias: bool = True,
                 use_bn: bool = False,
                 use_ln: bool = False,
                 bn_ctor: Callable = nn.BatchNorm1d,
                 kernel_initializer: Optional[Callable] = None,
                 kernel_init_gain: float = 1.0,
                 bias_init_value: float = 0.0,
                 use_torch_init: bool = False,
                 bias_initializer: Optional[Callable] = None,
                 weight_opt_args: Optional[Dict] = None,
                 bias_opt_args: Optional[Dict] = None):
        super().__init__()
        self._input_size = input_size
        self._output_size = output_size
        self._n = n
        self._init_args: Dict[str, Any] = dict(
            weight=(activation, kernel_initializer, kernel_init_gain, use_torch_init),
            bias=(bias_init_value, bias_initializer, use_torch_init, input_size))
        self._activation = none_if_identity(activation)
        self._weight = make_parameter((n, output_size, input_size), weight_opt_args)
        bias = make_parameter((n, output_size), bias_opt_args) if use_bias else None
        self.register_parameter("_bias", bias)
        self._bn = bn_ctor(n * output_size) if use_bn else None
        # A group of channels per layer: GroupNorm over [B, n * out] is a layer norm with own affine part for
        # each.
        self._ln = nn.GroupNorm(n, n * output_size) if use_ln else None
        self._is_normalized = use_bn or use_ln
        self.reset_parameters()

    @property
    def keeps_full_precision(self) -> bool:
        """As of :class:`FC`."""
        return self._activation is None

    @property
    def weight(self) -> nn.Parameter:
        """``[n, output_size, input_size]``."""
        return self._weight

    @property
    def bias(self) -> Optional[nn.Parameter]:
        """``[n, output_size]``, or ``None`` without bias."""
        return self._bias

    def reset_parameters(self) -> None:
        """Draw new parameters, for each layer on its own."""
        for i in range(self._n):
            init_weight(self._weight.data[i], *self._init_args["weight"])
            if self._bias is not None:
                init_bias(self._bias.data[i], *self._init_args["bias"])
        for norm in (self._bn, self._ln):
            if norm is not None:
                norm.reset_parameters()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``[B, n, output_size]``.

        Args:
            inputs: ``[B, n, input_size]``, or ``[B, input_size]`` as input of all ``n`` layers.
        Raises:
            ValueError: for other shapes.
        """
        if inputs.ndim != 2 and (inputs.ndim != 3 or inputs.shape[1] != self._n):
            raise ValueError(f"ParallelFC: expected inputs of shape [B, {self._n}, {self._input_size}] or "
                             f"[B, {self._input_size}], got {list(inputs.shape)}.")
        weight, bias, activation = self._parameters["_weight"], self._parameters["_bias"], self._activation
        if not self._is_normalized:
            return parallel_linear(inputs, weight, bias, identity if activation is None else activation)
        y = self._normalize(parallel_linear(inputs, weight, bias))
        return y if activation is None else activation(y)

    def _normalize(self, y: torch.Tensor) -> torch.Tensor:
        flat = y.reshape(y.shape[0], -1)
        if self._ln is not None:
            flat = self._ln(flat)
        if self._bn is not None:
            flat = self._bn(flat)
        return flat.view(y.shape)

    def extra_repr(self) -> str:
        return f"{self._input_size}, {self._output_size}, n={self._n}"
