"""Dense layers with learned noise that is drawn anew in every call: noisy networks without a state."""

from typing import Callable, Optional

import torch
import torch.nn as nn

from alf.utils import common
from alf.utils.linear import linear, parallel_linear
from alf.utils.math_ops import identity


class NoisyDense(nn.Module):
    """``activation((W + S * noise_w) x + b + s * noise_b)`` with factorised Gaussian noise, new in every call.

    Eq. (9) to (11) of https://arxiv.org/abs/1706.10295; there all rows of a mini batch have the same noise, here each
    has its own, so that environments that are unrolled together explore on their own. There is noise in training
    (``module.train()``) and in unrolls (``alf.utils.common.is_rollout()``), and none elsewhere.

    Args:
        input_size: size of the last dimension of the input.
        output_size: size of the last dimension of the output.
        std_init: initial standard deviation, before the division by the root of ``input_size``.
        activation: function or module; it may work in place.
        n: number of layers side by side, with parameters and noise of their own; None: one, without that dimension.
    """

    def __init__(self, input_size: int, output_size: int, std_init: float = 0.5, activation: Callable = identity,
                 n: Optional[int] = None):
        super().__init__()
        if not std_init >= 0:
            raise ValueError(f"NoisyDense.std_init: expected a number >= 0, got {std_init}.")
        self._input_size = input_size
        self._output_size = output_size
        self._std_init = std_init
        self._activation = activation
        self._n = n
        replicas = () if n is None else (n, )
        self._weight = nn.Parameter(torch.empty(*replicas, output_size, input_size))
        self._bias = nn.Parameter(torch.empty(*replicas, output_size))
        self._weight_std = nn.Parameter(torch.empty(*replicas, output_size, input_size))
        self._bias_std = nn.Parameter(torch.empty(*replicas, output_size))
        self.reset_parameters()

    @property
    def keeps_full_precision(self) -> bool:
        """As of :class:`alf.layers.FC`."""
        return self._activation is identity

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new means and set the standard deviations back, as section 3.2 of the paper says."""
        bound = self._input_size**-0.5
        for mean in (self._weight, self._bias):
            mean.uniform_(-bound, bound)
        for std in (self._weight_std, self._bias_std):
            std.fill_(self._std_init * bound)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``[B, output_size]``, or ``[B, n, output_size]`` for ``n`` layers.

        Args:
            inputs: ``[B, input_size]``, or ``[B, n, input_size]`` for ``n`` layers.
        """
        y = self._linear(inputs, self._weight, self._bias)
        if self.training or common.is_rollout():
            noise_in = _scaled_noise(inputs)
            noise_out = _scaled_noise(y)
            # noise_w is the outer product of the two: S * noise_w is never built.
            y = torch.addcmul(y, noise_out, self._linear(noise_in.mul_(inputs), self._weight_std, self._bias_std))
        return self._activation(y)

    def _linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return linear(x, weight, bias) if self._n is None else parallel_linear(x, weight, bias)

    def make_parallel(self, n: int) -> "NoisyDense":
        """Return ``n`` such layers, with parameters of their own, as one."""
        return NoisyDense(self._input_size, self._output_size, self._std_init, self._activation, n)

    def extra_repr(self) -> str:
        return f"{self._input_size}, {self._output_size}" + ("" if self._n is None else f", n={self._n}")


def _scaled_noise(like: torch.Tensor) -> torch.Tensor:
    """Return ``sign(e) sqrt(|e|)`` of standard normal noise ``e``, shaped like ``like``."""
    noise = torch.randn(like.shape, dtype=like.dtype, device=like.device)
    return noise.abs().sqrt_().copysign_(noise)
