"""Batch normalization that keeps separate running statistics for each step of an unrolled recurrent network.

Early steps of an RNN, whose state has just been reset, have other statistics than later ones. Shared running
averages would describe neither (Section 3 of https://arxiv.org/abs/1603.09025), so `BatchNorm1d` and
`BatchNorm2d` hold one row of running statistics per step, up to a maximum number of steps, and the last row
serves all later steps. Outside of RNNs they are torch's layers of the same name. An unroll looks like this::

    if prepare_rnn_batch_norm(net):
        set_batch_norm_max_steps(net, unroll_length)
    for t in range(unroll_length):
        set_batch_norm_current_step(net, t)
        y, state = net(x[t], state)
"""

from typing import Optional, Union

import torch
import torch.nn as nn
import torch.nn.functional as F

from alf.config_util import configurable


class _NormBase(nn.Module):
    """Batch normalization with one row of running statistics per step.

    Args:
        num_features: number of channels, the size of dimension 1 of the input.
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics; ``None`` gives every batch seen so far
            equal weight.
        affine: whether there is a learned scale and shift.
        track_running_stats: without, evaluation normalizes by the statistics of its batch, as training does.
    """

    _input_dims = ()

    def __init__(self,
                 num_features: int,
                 eps: float = 1e-5,
                 momentum: Optional[float] = 0.1,
                 affine: bool = True,
                 track_running_stats: bool = True):
        super().__init__()
        self._num_features = num_features
        self._eps = eps
        self._momentum = momentum
        self._affine = affine
        self._track_running_stats = track_running_stats
        self._max_steps = 1
        # An int shared by the batch, or int64 [B]: every sample its own step.
        self._current_step: Union[int, torch.Tensor] = 0
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self._make_statistics(1)

    def _make_statistics(self, max_steps: int) -> None:
        if not self._track_running_stats:
            return
        device = None if self.weight is None else self.weight.device
        self.register_buffer("_running_mean", torch.zeros(max_steps, self._num_features, device=device))
        self.register_buffer("_running_var", torch.ones(max_steps, self._num_features, device=device))
        self.register_buffer("_num_batches", torch.zeros(max_steps, dtype=torch.int64, device=device))

    def set_max_steps(self, max_steps: int) -> None:
        """Keep ``max_steps`` rows of running statistics; changing their number starts the statistics anew."""
        if max_steps < 1:
            raise ValueError(f"{type(self).__name__}.set_max_steps: expected max_steps >= 1, got "
                             f"{max_steps}.")
        if max_steps != self._max_steps:
            self._max_steps = max_steps
            self._make_statistics(max_steps)

    def set_current_step(self, current_step: Union[int, torch.Tensor]) -> None:
        """Use the statistics of ``current_step`` in the following calls.

        Args:
            current_step: an int >= 0, or int64 ``[B]`` with a step for each sample. Steps beyond the last row
                use the last row.
        """
        if isinstance(current_step, torch.Tensor) and current_step.ndim > 0:
            self._current_step = current_step.long().clamp(max=self._max_steps - 1)
        else:
            self._current_step = min(int(current_step), self._max_steps - 1)

    def reset_parameters(self) -> None:
        """Reset scale to 1, shift to 0, and forget the running statistics."""
        if self._affine:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)
        if self._track_running_stats:
            self._running_mean.zero_()
            self._running_var.fill_(1.0)
            self._num_batches.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return normalized ``x``.

        Args:
            x: ``[B, num_features, ...]``.
        Raises:
            ValueError: if ``x`` has another number of dimensions or of channels.
        """
        if x.ndim not in self._input_dims or x.shape[1] != self._num_features:
            raise ValueError(f"{type(self).__name__}: expected an input of "
                             f"{' or '.join(map(str, self._input_dims))} "
                             f"dimensions with {self._num_features} channels in dimension 1, got shape "
                             f"{tuple(x.shape)}.")
        if isinstance(self._current_step, torch.Tensor):
            return self._forward_mixed_steps(x, self._current_step)
        return self._forward_one_step(x, self._current_step)

    def _forward_one_step(self, x: torch.Tensor, step: int) -> torch.Tensor:
        if not self._track_running_stats:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self._eps)
        momentum = self._momentum
        if self.training:
            self._num_batches[step] += 1
            if momentum is None:
                momentum = 1.0 / float(self._num_batches[step])
        # A row is a view: F.batch_norm updates the running statistics in place.
        return F.batch_norm(x, self._running_mean[step], self._running_var[step], self.weight, self.bias,
                            self.training, momentum or 0.0, self._eps)

    def _forward_mixed_steps(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        if steps.shape[0] != x.shape[0]:
            raise ValueError(f"{type(self).__name__}: expected one current step for each of the {x.shape[0]} "
                             f"samples, "
                             f"got {steps.shape[0]}. Call set_batch_norm_current_step with the steps of this "
                             f"batch.")
        if self.training or not self._track_running_stats:
            y = torch.empty_like(x)
            for step in steps.unique().tolist():
                rows = steps == step
                y[rows] = self._forward_one_step(x[rows], step)
            return y
        shape = (x.shape[0], self._num_features) + (1, ) * (x.ndim - 2)
        scale = torch.rsqrt(self._running_var[steps] + self._eps)
        y = (x - self._running_mean[steps].view(shape)) * scale.view(shape)
        if self._affine:
            y = y * self.weight.view(shape[1:]) + self.bias.view(shape[1:])
        return y

    def extra_repr(self) -> str:
        return (f"{self._num_features}, eps={self._eps}, momentum={self._momentum}, "
                f"max_steps={self._max_steps}")


@configurable
class BatchNorm1d(_NormBase):
    """Batch normalization of ``[B, C]`` or ``[B, C, L]`` with running statistics per step.

    Args are those of ``_NormBase``.
    """

    _input_dims = (2, 3)


@configurable
class BatchNorm2d(_NormBase):
    """Batch normalization of ``[B, C, H, W]`` with running statistics per step.

    Args are those of ``_NormBase``.
    """

    _input_dims = (4, )


def _batch_norms(module: nn.Module):
    return (m for m in module.modules() if isinstance(m, _NormBase))


def set_batch_norm_max_steps(module: nn.Module, max_steps: int) -> None:
    """Give every batch norm layer in ``module`` that many rows of running statistics."""
    for layer in _batch_norms(module):
        layer.set_max_steps(max_steps)


def set_batch_norm_current_step(module: nn.Module, current_step: Union[torch.Tensor, int]) -> None:
    """Set the step whose running statistics the batch norm layers in ``module`` use.

    Args:
        module: any module.
        current_step: an int >= 0, or int64 ``[B]`` with a step for each sample.
    """
    for layer in _batch_norms(module):
        layer.set_current_step(current_step)


def prepare_rnn_batch_norm(module: nn.Module) -> bool:
    """Return whether ``module`` has batch norm layers that need their step to be set during an unroll.

    Raises:
        ValueError: if a layer in ``module`` is one of torch's batch norm layers, whose shared running
            statistics would mix all steps.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise ValueError(f"{name}: {type(layer).__name__} of torch mixes the statistics of all steps of "
                             f"an RNN. "
                             f"Use bn_ctor=alf.norm_layers.BatchNorm1d (or BatchNorm2d) for this layer.")
    return any(True for _ in _batch_norms(module))
