"""Composite layers: residual blocks of convolutional networks, and attention without parameters."""

import math
from typing import Callable, Dict, Optional, Tuple, Union

import torch
import torch.nn as nn

from alf.config_util import configurable
from alf.layers._conv import Conv2D, ConvTranspose2D, _pair
from alf.utils.math_ops import identity

_Size = Union[int, Tuple[int, int]]


def _check_odd(name: str, kernel_size: _Size) -> Tuple[int, int]:
    kernel = _pair(kernel_size)
    if any(k % 2 == 0 for k in kernel):
        raise ValueError(f"{name}.kernel_size: expected odd sizes, got {kernel_size}: with an even kernel "
                         f"the main path and the shortcut differ in size and cannot be added.")
    return kernel


def _linear_conv(in_channels: int, out_channels: int, kernel: Tuple[int, int], stride: Tuple[int, int],
                 transpose: bool, use_bn: bool, bn_ctor: Callable,
                 weight_opt_args: Optional[Dict] = None) -> nn.Module:
    """Return a convolution without activation that keeps the size at stride 1.

    Stride ``s`` turns a size ``H`` into ``ceil(H / s)``, and into ``s * H`` if ``transpose``.
    """
    padding = tuple((k - 1) // 2 for k in kernel)
    args = dict(activation=identity, strides=stride, padding=padding, use_bn=use_bn, bn_ctor=bn_ctor)
    if not transpose:
        return Conv2D(in_channels, out_channels, kernel, weight_opt_args=weight_opt_args, **args)
    output_padding = tuple(s - 1 for s in stride)
    layer = ConvTranspose2D(in_channels, out_channels, kernel, output_padding=output_padding, **args)
    if weight_opt_args is not None:
        layer.weight.opt_args = weight_opt_args
    return layer


@configurable
class ResidueBlock(nn.Module):
    """The basic block of ResNet: two convolutions and a shortcut (Figure 5 left of
    https://arxiv.org/abs/1512.03385).

    The shortcut is the identity where shapes allow, and a convolution of kernel 1 otherwise.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        kernel_size: odd, int or (height, width).
        stride: stride of the first convolution, int or (vertical, horizontal).
        transpose: whether the first convolution (and that of the shortcut) is transposed, and ``stride``
            enlarges.
        activation: module; applied after the first convolution and after the addition.
        with_batch_normalization: whether every convolution is followed by batch normalization.
        weight_opt_args: kept as ``opt_args`` of the weights of all convolutions.
        bn_ctor: called with the number of channels to make a batch normalization layer.
    """

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 kernel_size: Union[int, Tuple[int, int]],
                 stride: Union[int, Tuple[int, int]],
                 transpose: bool = False,
                 activation: nn.Module = nn.ReLU(inplace=True),  # noqa: B008
                 with_batch_normalization: bool = True,
                 weight_opt_args: Optional[Dict] = None,
                 bn_ctor: Callable[[int], nn.Module] = nn.BatchNorm2d):
        super().__init__()
        kernel, stride = _check_odd("ResidueBlock", kernel_size), _pair(stride)
        common = dict(use_bn=with_batch_normalization, bn_ctor=bn_ctor, weight_opt_args=weight_opt_args)
        self._activation = activation
        self._conv1 = _linear_conv(in_channels, channels, kernel, stride, transpose, **common)
        self._conv2 = _linear_conv(channels, channels, kernel, (1, 1), False, **common)
        self._shortcut = None
        if stride != (1, 1) or in_channels != channels:
            self._shortcut = _linear_conv(in_channels, channels, (1, 1), stride, transpose, **common)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``[B, channels, H', W']`` for ``inputs`` ``[B, in_channels, H, W]``."""
        y = self._conv2(self._activation(self._conv1(inputs)))
        return self._activation(y + (inputs if self._shortcut is None else self._shortcut(inputs)))


@configurable
class BottleneckBlock(nn.Module):
    """The bottleneck block of ResNet with a convolutional shortcut (Figure 5 right of
    https://arxiv.org/abs/1512.03385).

    Args:
        in_channels: channels of the input.
        kernel_size: odd, of the middle convolution, int or (height, width).
        filters: output channels of the three convolutions.
        stride: int or (vertical, horizontal).
        transpose: whether the strided convolutions are transposed, and ``stride`` enlarges.
        v1_5: whether the stride is that of the middle convolution ("ResNet v1.5") and not of the first one.
        with_batch_normalization: whether every convolution is followed by batch normalization.
        bn_ctor: called with the number of channels to make a batch normalization layer.
    """

    def __init__(self,
                 in_channels: int,
                 kernel_size: _Size,
                 filters: Tuple[int, int, int],
                 stride: _Size,
                 transpose: bool = False,
                 v1_5: bool = True,
                 with_batch_normalization: bool = True,
                 bn_ctor: Callable = nn.BatchNorm2d):
        super().__init__()
        kernel, stride = _check_odd("BottleneckBlock", kernel_size), _pair(stride)
        common = dict(use_bn=with_batch_normalization, bn_ctor=bn_ctor)
        first, middle = ((1, 1), stride) if v1_5 else (stride, (1, 1))
        self._stride = stride
        self._transpose = transpose
        self._out_channels = filters[2]
        self._conv1 = _linear_conv(in_channels, filters[0], (1, 1), first, transpose and not v1_5, **common)
        self._conv2 = _linear_conv(filters[0], filters[1], kernel, middle, transpose and v1_5, **common)
        self._conv3 = _linear_conv(filters[1], filters[2], (1, 1), (1, 1), False, **common)
        self._shortcut = _linear_conv(in_channels, filters[2], (1, 1), stride, transpose, **common)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``[B, filters[2], H', W']`` for ``inputs`` ``[B, in_channels, H, W]``."""
        y = torch.relu_(self._conv1(inputs))
        y = torch.relu_(self._conv2(y))
        return torch.relu_(self._conv3(y) + self._shortcut(inputs))

    def calc_output_shape(self, input_shape: Tuple[int, int, int]) -> Tuple[int, int, int]:
        """Return the shape ``(C', H', W')`` of the output for inputs of shape ``(C, H, W)``."""
        sizes = (size * s if self._transpose else (size - 1) // s + 1
                 for size, s in zip(input_shape[1:], self._stride, strict=True))
        return (self._out_channels, *sizes)


class SimpleAttention(nn.Module):
    """Scaled dot-product attention without parameters: Eq. (1) of https://arxiv.org/abs/1706.03762."""

    def forward(self, query: torch.Tensor, key: torch.Tensor,
                value: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return what is attended to and the attention weights, ``[..., Q, d_v]`` and ``[..., Q, K]``.

        Args:
            query: ``[..., Q, d]``.
            key: ``[..., K, d]``.
            value: ``[..., K, d_v]``.
        """
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        weights = torch.softmax(scores, dim=-1)
        return weights @ value, weights
