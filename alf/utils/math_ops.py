"""Elementary mathematics: smooth clipping, invertible value transforms, n-ary reductions, small tensor
functions.

Also reachable as `alf.math`.
"""

import functools
from typing import Any, Iterable, Sequence, Union

import torch
import torch.nn.functional as F
from torch import Tensor

import alf.nest as nest
from alf.config_util import configurable


@configurable
def identity(x: Any) -> Any:
    """Return `x` unchanged: the linear activation."""
    return x


@configurable
def clipped_exp(value: Tensor, clip_value_min: float = -20, clip_value_max: float = 2) -> Tensor:
    """Return `exp(value)` with the exponent clamped first; no gradient flows where it is clamped.

    Args:
        value: exponents, any shape.
        clip_value_min: lower bound of the exponent.
        clip_value_max: upper bound of the exponent.
    """
    return torch.exp(value.clamp(clip_value_min, clip_value_max))


def add_ignore_empty(x: Any, y: Any) -> Any:
    """Return `x + y`, or the other one where one of them is the empty nest `()`."""
    if isinstance(x, tuple) and not x:
        return y
    if isinstance(y, tuple) and not y:
        return x
    return x + y


@configurable
def swish(x: Tensor) -> Tensor:
    """Return `x * sigmoid(x)` (https://arxiv.org/abs/1710.05941)."""
    return F.silu(x)


def _scaled_softplus(x: Tensor, softness: float) -> Tensor:
    """Return `softness * log(1 + exp(x / softness))` without overflow."""
    return F.softplus(x, beta=1.0 / softness)


@configurable
def softlower(x: Tensor, low: Union[float, Tensor], hinge_softness: float = 1.0) -> Tensor:
    """Return a smooth `max(x, low)`, never below `low`.

    Args:
        x: any shape.
        low: the lower bound.
        hinge_softness: how wide the bend is; towards 0 this becomes the hard maximum.
    """
    return low + _scaled_softplus(x - low, hinge_softness)


@configurable
def softupper(x: Tensor, high: Union[float, Tensor], hinge_softness: float = 1.0) -> Tensor:
    """Return a smooth `min(x, high)`, never above `high`.

    Args:
        x: any shape.
        high: the upper bound.
        hinge_softness: how wide the bend is; towards 0 this becomes the hard minimum.
    """
    return high - _scaled_softplus(high - x, hinge_softness)


@configurable
def softclip_tf(
    x: Tensor, low: Union[float, Tensor], high: Union[float, Tensor], hinge_softness: float = 1.0
) -> Tensor:
    """Return `x` squashed smoothly into `(low, high)`, bent at `low` first and then at `high`.

    Not symmetric about the middle of the interval (`softclip` is). The map is that of TensorFlow
    Probability's `SoftClip` bijector: `high - (high - low) * s(high - low - s(x - low)) / s(high - low)`,
    `s` the softplus.
    """
    width = torch.as_tensor(high - low, dtype=x.dtype, device=x.device)
    inner = width - _scaled_softplus(x - low, hinge_softness)
    scale = width / _scaled_softplus(width, hinge_softness)
    return high - scale * _scaled_softplus(inner, hinge_softness)


@configurable
def softclip(x: Tensor, low: Union[float, Tensor], high: Union[float, Tensor], hinge_softness: float = 1.0) -> Tensor:
    """Return `x` squashed smoothly and symmetrically into `(low, high)`.

    `low + s(x - low) - s(x - high)` with `s` the softplus: the integral of the difference of two sigmoids,
    so the slope is near 1 inside the interval and near 0 outside.
    """
    return low + _scaled_softplus(x - low, hinge_softness) - _scaled_softplus(x - high, hinge_softness)


def max_n(inputs: Iterable[Tensor]) -> Tensor:
    """Return the elementwise maximum of the tensors, which broadcast against each other."""
    return functools.reduce(torch.max, inputs)


def min_n(inputs: Iterable[Tensor]) -> Tensor:
    """Return the elementwise minimum of the tensors, which broadcast against each other."""
    return functools.reduce(torch.min, inputs)


def add_n(inputs: Iterable[Tensor]) -> Tensor:
    """Return the elementwise sum of the tensors, which broadcast against each other."""
    return functools.reduce(torch.add, inputs)


def mul_n(inputs: Iterable[Tensor]) -> Tensor:
    """Return the elementwise product of the tensors, which broadcast against each other."""
    return functools.reduce(torch.mul, inputs)


def square(x: Tensor) -> Tensor:
    """Return `x * x`."""
    return x * x


def weighted_reduce_mean(x: Tensor, weight: Tensor, dim: Union[int, Sequence[int]] = ()) -> Tensor:
    """Return the mean of `x` over `dim` under `weight`; 0 where all weights are 0.

    Args:
        x: any shape.
        weight: non-negative, with the shape of `x` or broadcasting against it.
        dim: dimension or dimensions to reduce; `()` means all of them.
    """
    weight = weight.to(x.dtype).expand_as(x)
    total = weight.sum(dim)
    # The floor only matters where total is 0, where the weighted sum is 0 as well.
    return (x * weight).sum(dim) / total.clamp(min=torch.finfo(x.dtype).tiny)


def sum_to_leftmost(value: Tensor, dim: int) -> Tensor:
    """Return `value` summed over all but its leftmost `dim` dimensions.

    Args:
        value: shape `[d_1, ..., d_k]`.
        dim: how many leading dimensions stay; a tensor with no more than these is returned as is.

    Returns:
        Shape `[d_1, ..., d_dim]`.
    """
    if value.ndim <= dim:
        return value
    return value.sum(list(range(dim, value.ndim)))


def argmin(x: Tensor) -> Tensor:
    """Return the index of the first smallest element of each row.

    Args:
        x: shape `[..., n]`.

    Returns:
        Shape `[...]`, int64.
    """
    return torch.argmin(x, dim=-1)


def shuffle(values: Any) -> Any:
    """Return the nest with its rows (first dimension) permuted, by one permutation for all its tensors."""
    tensors = nest.flatten(values)
    if not tensors:
        return values
    n = tensors[0].shape[0]
    if any(t.shape[0] != n for t in tensors):
        raise ValueError(
            f"shuffle: expected all tensors to have as many rows, got {[t.shape[0] for t in tensors]} rows"
        )
    permutation = torch.randperm(n, device=tensors[0].device)
    return nest.pack_sequence_as(values, [t[permutation.to(t.device)] for t in tensors])


def normalize_min_max(x: Tensor) -> Tensor:
    """Return `x` moved and scaled so that its smallest element is 0 and its largest 1; all 0 if `x` is constant."""
    low, high = torch.aminmax(x)
    return (x - low) / (high - low).clamp(min=torch.finfo(x.dtype).tiny)


def binary_neg_entropy(p: Tensor) -> Tensor:
    """Return `p log p + (1 - p) log(1 - p)`, the negative entropy of a coin, in nats; 0 at `p` = 0 and 1.

    Args:
        p: probabilities in `[0, 1]`, any shape.
    """
    return torch.xlogy(p, p) + torch.special.xlog1py(1 - p, -p)


class Softsign_(torch.autograd.Function):
    """`x / (1 + |x|)` computed in place; only the output is kept for the backward pass."""

    @staticmethod
    def forward(ctx, input: Tensor) -> Tensor:
        """Overwrite `input` with its softsign and return it."""
        output = input.div_(input.abs().add_(1))
        ctx.mark_dirty(input)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> Tensor:
        """Return the gradient: the slope is `(1 - |y|)^2`."""
        (output,) = ctx.saved_tensors
        return grad_output * (1 - output.abs()).square()


class Softsign(torch.autograd.Function):
    """`x / (1 + |x|)`; only the output is kept for the backward pass."""

    @staticmethod
    def forward(ctx, input: Tensor) -> Tensor:
        """Return the softsign of `input`."""
        output = input / (1 + input.abs())
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> Tensor:
        """Return the gradient: the slope is `(1 - |y|)^2`."""
        (output,) = ctx.saved_tensors
        return grad_output * (1 - output.abs()).square()


softsign_ = Softsign_.apply
softsign = Softsign.apply


class InvertibleTransform:
    """A strictly increasing odd map of the reals, used to compress the scale of values before regression."""

    def transform(self, x: Tensor) -> Tensor:
        """Return the compressed value."""
        raise NotImplementedError(f"{type(self).__name__}.transform")

    def inverse_transform(self, y: Tensor) -> Tensor:
        """Return `x` with `transform(x) == y`."""
        raise NotImplementedError(f"{type(self).__name__}.inverse_transform")


class SqrtLinearTransform(InvertibleTransform):
    """`sign(x) (sqrt(|x| + 1) - 1) + eps x`, Proposition A.2 of https://arxiv.org/abs/1805.11593.

    Args:
        eps: slope of the linear part, which keeps the inverse Lipschitz.
    """

    def __init__(self, eps: float = 0.001):
        if not eps > 0:
            raise ValueError(f"SqrtLinearTransform.eps: expected > 0, got {eps}; for 0 use Sqrt1pTransform.")
        self._eps = eps

    def transform(self, x: Tensor) -> Tensor:
        a = x.abs()
        # a / (sqrt(a + 1) + 1) is sqrt(a + 1) - 1 without the cancellation near 0.
        return x.sign() * (a / ((a + 1).sqrt() + 1)) + self._eps * x

    def inverse_transform(self, y: Tensor) -> Tensor:
        # With s = sqrt(|x| + 1) - 1: eps s^2 + (1 + 2 eps) s - |y| = 0; the root is written without
        # cancellation.
        a, eps = y.abs(), self._eps
        b = 1 + 2 * eps
        s = 2 * a / (b + (b * b + 4 * eps * a).sqrt())
        return y.sign() * (s * (s + 2))


class Sqrt1pTransform(InvertibleTransform):
    """`sign(x) (sqrt(|x| + 1) - 1)`."""

    def transform(self, x: Tensor) -> Tensor:
        return x / ((x.abs() + 1).sqrt() + 1)

    def inverse_transform(self, y: Tensor) -> Tensor:
        return y * (y.abs() + 2)


class Log1pTransform(InvertibleTransform):
    """`alpha sign(x) log(1 + |x|)`.

    Args:
        alpha: the slope at 0, so the resolution of the transformed scale.
    """

    def __init__(self, alpha: float = 20):
        if not alpha > 0:
            raise ValueError(f"Log1pTransform.alpha: expected > 0, got {alpha}.")
        self._alpha = alpha

    def transform(self, x: Tensor) -> Tensor:
        return self._alpha * x.sign() * torch.log1p(x.abs())

    def inverse_transform(self, y: Tensor) -> Tensor:
        return y.sign() * torch.expm1(y.abs() / self._alpha)
