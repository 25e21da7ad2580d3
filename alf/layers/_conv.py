"""Convolutional layers and their transposes, single and ``n`` in parallel as one grouped convolution."""

from typing import Callable, Dict, Optional, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F

from alf.config_util import configurable
from alf.layers._initialization import init_bias, init_weight, make_parameter, none_if_identity

_Size = Union[int, Tuple[int, int]]


def _pair(size: _Size) -> Tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _as_float(img: torch.Tensor) -> torch.Tensor:
    """Return images of an integer dtype as float32; their range is the business of ImageScaleTransformer."""
    return img if img.dtype.is_floating_point else img.float()


class _ConvBase(nn.Module):
    """Parameters, normalization and activation of all convolutional layers here.

    Args:
        weight_shape: of one of the parallel layers.
        n: number of parallel layers, or ``None`` for a single layer, whose parameters lack the first
            dimension.
        transposed: whether this is a transposed convolution.
        args: arguments of the public constructor.
    """

    def __init__(self, weight_shape: Tuple[int, ...], n: Optional[int], transposed: bool, **args):
        super().__init__()
        self._args = args
        self._n = n
        self._transposed = transposed
        self._strides = args["strides"]
        self._padding = args["padding"]
        self._activation = none_if_identity(args["activation"])
        use_bias, use_bn, use_ln = args["use_bias"], args["use_bn"], args.get("use_ln", False)
        if use_bias is None:
            # Batch normalization subtracts whatever bias there was.
            use_bias = not use_bn
        out_channels = args["out_channels"]
        outer = () if n is None else (n, )
        self._weight = make_parameter(outer + weight_shape, args.get("weight_opt_args"))
        self.register_parameter("_bias", make_parameter(outer + (out_channels, )) if use_bias else None)
        groups = n or 1
        self._bn = args["bn_ctor"](groups * out_channels) if use_bn else None
        # One group a layer: normalizes over channels and pixels, with an affine part for each channel.
        self._ln = nn.GroupNorm(groups, groups * out_channels) if use_ln else None
        self.reset_parameters()

    @property
    def weight(self) -> nn.Parameter:
        """``[out, in, *kernel]``, ``[in, out, *kernel]`` if transposed, with ``n`` in front if parallel."""
        return self._weight

    @property
    def bias(self) -> Optional[nn.Parameter]:
        """``[out]``, with ``n`` in front if parallel; ``None`` without bias."""
        return self._bias

    def reset_parameters(self) -> None:
        """Draw new parameters, for each of the parallel layers on its own."""
        args = self._args
        use_torch_init = args.get("use_torch_init", False)
        weights = [self._weight] if self._n is None else list(self._weight.data)
        biases = [self._bias] if self._n is None or self._bias is None else list(self._bias.data)
        for weight in weights:
            init_weight(weight, args["activation"], args["kernel_initializer"], args["kernel_init_gain"],
                        use_torch_init, self._transposed)
        fan_in = weights[0][0].numel()
        for bias in biases:
            init_bias(bias, args["bias_init_value"], use_torch_init=use_torch_init, fan_in=fan_in)
        for norm in (self._bn, self._ln):
            if norm is not None:
                norm.reset_parameters()

    def _finish(self, y: torch.Tensor) -> torch.Tensor:
        """Return the output for the convolved ``y``, ``[B, C, H, W]`` or ``[B, n * C, H, W]``."""
        if self._ln is not None:
            y = self._ln(y)
        if self._bn is not None:
            y = self._bn(y)
        if self._activation is not None:
            y = self._activation(y)
        return y if self._n is None else y.view(y.shape[0], self._n, -1, *y.shape[2:])

    def _merge_layers(self, img: torch.Tensor) -> Tuple[torch.Tensor, bool]:
        """Return input of a grouped convolution, and whether it is the same for all parallel layers.

        Args:
            img: ``[B, n, C, H, W]``, or ``[B, C, H, W]`` as input of all layers.
        """
        if img.ndim == 4:
            return img, True
        if img.ndim != 5 or img.shape[1] != self._n:
            channels = self._args["in_channels"]
            raise ValueError(f"{type(self).__name__}: expected images of shape [B, {self._n}, {channels}, "
                             f"H, W] or [B, {channels}, H, W], got {list(img.shape)}.")
        # Stride 0 means that one image was expanded over the layers: it need not be copied n times.
        if img.stride(1) == 0:
            return img[:, 0], True
        return img.flatten(1, 2), False

    def extra_repr(self) -> str:
        args = self._args
        parallel = "" if self._n is None else f", n={self._n}"
        return (f"{args['in_channels']}, {args['out_channels']}, kernel_size={args['kernel_size']}, "
                f"strides={self._strides}, padding={self._padding}{parallel}")


@configurable
class Conv2D(_ConvBase):
    """Two-dimensional convolution: ``activation(norm(conv(x) + b))``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: int or (height, width).
        activation: function or module; it may work in place.
        strides: int or (vertical, horizontal).
        padding: zeros on each side, int or (vertical, horizontal).
        use_bias: whether there is a bias; ``None``: if there is no batch normalization.
        use_bn: whether batch normalization comes before the activation.
        use_ln: whether layer normalization, over channels and pixels, comes before the activation.
        weight_opt_args: kept as ``weight.opt_args``, where optimizers look for per-parameter options.
        bn_ctor: called with ``out_channels`` to make the batch normalization layer.
        kernel_initializer: called with the weight to fill it; ``None`` means ``variance_scaling_init`` with a
            gain measured from ``activation``.
        kernel_init_gain: gain of the default initializer.
        bias_init_value: initial bias.
        use_torch_init: initialize as ``nn.Conv2d`` does.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: _Size,
                 activation: Callable = torch.relu_,
                 strides: _Size = 1,
                 padding: _Size = 0,
                 use_bias: Optional[bool] = None,
                 use_bn: bool = False,
                 use_ln: bool = False,
                 weight_opt_args: Optional[Dict] = None,
                 bn_ctor: Callable = nn.BatchNorm2d,
                 kernel_initializer: Optional[Callable] = None,
                 kernel_init_gain: float = 1.0,
                 bias_init_value: float = 0.0,
                 use_torch_init: bool = False):
        super().__init__(
            (out_channels, in_channels, *_pair(kernel_size)), n=None, transposed=False,
            in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size,
            activation=activation, strides=strides, padding=padding, use_bias=use_bias, use_bn=use_bn,
            use_ln=use_ln, weight_opt_args=weight_opt_args, bn_ctor=bn_ctor,
            kernel_initializer=kernel_initializer, kernel_init_gain=kernel_init_gain,
            bias_init_value=bias_init_value, use_torch_init=use_torch_init)
        self._trains_channels_last = False

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        """Return ``[B, out_channels, H', W']`` for images ``[B, in_channels, H, W]`` of any dtype."""
        img = _as_float(img)
        if self._trains_channels_last and img.is_cpu and torch.is_grad_enabled():
            img = img.contiguous(memory_format=torch.channels_last)
        return self._finish(F.conv2d(img, self._weight, self._bias, self._strides, self._padding))

    def train_channels_last(self) -> None:
        """Where gradients are made on a CPU, keep the channels of a pixel side by side in memory from here on.

        With few channels, as images have, the gradient of the weight then takes a quarter of the time. The output is
        laid out so as well: what follows must not ask for a ``view`` of it that joins channels and pixels.
        """
        self._trains_channels_last = True

    def make_parallel(self, n: int) -> "ParallelConv2D":
        """Return ``n`` layers like this one, with parameters of their own, as one :class:`ParallelConv2D`."""
        return ParallelConv2D(n=n, **self._args)


@configurable
class ParallelConv2D(_ConvBase):
    """``n`` independent convolutions evaluated as one.

    Args are those of :class:`Conv2D`, and:
        n: number of layers.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: _Size,
                 n: int,
                 activation: Callable = torch.relu_,
                 strides: _Size = 1,
                 padding: _Size = 0,
                 use_bias: Optional[bool] = None,
                 use_bn: bool = False,
                 use_ln: bool = False,
                 weight_opt_args: Optional[Dict] = None,
                 bn_ctor: Callable = nn.BatchNorm2d,
                 kernel_initializer: Optional[Callable] = None,
                 kernel_init_gain: float = 1.0,
                 bias_init_value: float = 0.0,
                 use_torch_init: bool = False):
        super().__init__(
            (out_channels, in_channels, *_pair(kernel_size)), n=n, transposed=False, in_channels=in_channels,
            out_channels=out_channels, kernel_size=kernel_size, activation=activation, strides=strides,
            padding=padding, use_bias=use_bias, use_bn=use_bn, use_ln=use_ln, weight_opt_args=weight_opt_args,
            bn_ctor=bn_ctor, kernel_initializer=kernel_initializer, kernel_init_gain=kernel_init_gain,
            bias_init_value=bias_init_value, use_torch_init=use_torch_init)

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        """Return ``[B, n, out_channels, H', W']``.

        Args:
            img: ``[B, n, in_channels, H, W]``, or ``[B, in_channels, H, W]`` as input of all layers; any
                dtype.
        """
        x, is_shared = self._merge_layers(img)
        bias = None if self._bias is None else self._bias.flatten()
        # The filters of all layers stacked are one convolution of a shared input, and groups of one
        # otherwise.
        y = F.conv2d(_as_float(x), self._weight.flatten(0, 1), bias, self._strides, self._padding,
                     groups=1 if is_shared else self._n)
        return self._finish(y)


@configurable
class ConvTranspose2D(_ConvBase):
    """Two-dimensional transposed convolution: ``activation(norm(conv_transpose(x) + b))``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: int or (height, width).
        activation: function or module; it may work in place.
        strides: int or (vertical, horizontal).
        padding: pixels taken off each side of the output, int or (vertical, horizontal).
        output_padding: pixels added at the bottom and the right of the output, int or (vertical, horizontal).
        use_bias: whether there is a bias; ``None``: if there is no batch normalization.
        use_bn: whether batch normalization comes before the activation.
        bn_ctor: called with ``out_channels`` to make the batch normalization layer.
        kernel_initializer: called with the weight to fill it; ``None`` means ``variance_scaling_init`` with a
            gain measured from ``activation``.
        kernel_init_gain: gain of the default initializer.
        bias_init_value: initial bias.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: _Size,
                 activation: Callable = torch.relu_,
                 strides: _Size = 1,
                 padding: _Size = 0,
                 output_padding: _Size = 0,
                 use_bias: Optional[bool] = None,
                 use_bn: bool = False,
                 bn_ctor: Callable = nn.BatchNorm2d,
                 kernel_initializer: Optional[Callable] = None,
                 kernel_init_gain: float = 1.0,
                 bias_init_value: float = 0.0):
        super().__init__(
            (in_channels, out_channels, *_pair(kernel_size)), n=None, transposed=True,
            in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size,
            activation=activation, strides=strides, padding=padding, output_padding=output_padding,
            use_bias=use_bias, use_bn=use_bn, bn_ctor=bn_ctor, kernel_initializer=kernel_initializer,
            kernel_init_gain=kernel_init_gain, bias_init_value=bias_init_value)

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        """Return ``[B, out_channels, H', W']`` for images ``[B, in_channels, H, W]`` of any dtype."""
        return self._finish(
            F.conv_transpose2d(_as_float(img), self._weight, self._bias, self._strides, self._padding,
                               self._args["output_padding"]))

    def make_parallel(self, n: int) -> "ParallelConvTranspose2D":
        """Return ``n`` layers like this one, with parameters of their own, as one layer."""
        return ParallelConvTranspose2D(n=n, **self._args)


@configurable
class ParallelConvTranspose2D(_ConvBase):
    """``n`` independent transposed convolutions evaluated as one.

    Args are those of :class:`ConvTranspose2D`, and:
        n: number of layers.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: _Size,
                 n: int,
                 activation: Callable = torch.relu_,
                 strides: _Size = 1,
                 padding: _Size = 0,
                 output_padding: _Size = 0,
                 use_bias: Optional[bool] = None,
                 use_bn: bool = False,
                 bn_ctor: Callable = nn.BatchNorm2d,
                 kernel_initializer: Optional[Callable] = None,
                 kernel_init_gain: float = 1.0,
                 bias_init_value: float = 0.0):
        super().__init__(
            (in_channels, out_channels, *_pair(kernel_size)), n=n, transposed=True, in_channels=in_channels,
            out_channels=out_channels, kernel_size=kernel_size, activation=activation, strides=strides,
            padding=padding, output_padding=output_padding, use_bias=use_bias, use_bn=use_bn, bn_ctor=bn_ctor,
            kernel_initializer=kernel_initializer, kernel_init_gain=kernel_init_gain,
            bias_init_value=bias_init_value)

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        """Return ``[B, n, out_channels, H', W']``.

        Args:
            img: ``[B, n, in_channels, H, W]``, or ``[B, in_channels, H, W]`` as input of all layers; any
                dtype.
        """
        x, is_shared = self._merge_layers(img)
        bias = None if self._bias is None else self._bias.flatten()
        # A shared input needs all output channels behind each input channel: [n, in, out] -> [in, n * out].
        weight = self._weight.transpose(0, 1).flatten(1, 2) if is_shared else self._weight.flatten(0, 1)
        y = F.conv_transpose2d(_as_float(x), weight, bias, self._strides, self._padding,
                               self._args["output_padding"], groups=1 if is_shared else self._n)
        return self._finish(y)
