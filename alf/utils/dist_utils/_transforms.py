"""Invertible elementwise transforms that stay finite at the edges of their range.

All of them remember their last input (`cache_size=1`), so that the log probability of a fresh sample needs
no inverse. Each has `get_builder()`, which returns a callable that makes the same transform again with an
empty memory; a `DistributionSpec` stores these builders.
"""

import functools
import math
from typing import Any, Callable, List, Union

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from alf.config_util import configurable
from alf.utils import math_ops

_Number = Union[float, Tensor]


def get_invertible(cls: type) -> type:
    """Return a subclass of the transform class `cls` whose instances remember their last input by default.

    An inverse computed from a rounded output can be far from the true input (`tanh` near 1); a transform that
    remembers the pair gives back the input itself.

    Args:
        cls: a subclass of `torch.distributions.Transform` whose constructor takes `cache_size`.
    """

    class Invertible(cls):
        """A transform with `cache_size=1` by default."""

        __init__ = functools.partialmethod(cls.__init__, cache_size=1)

        def with_cache(self, cache_size: int = 1) -> td.Transform:
            """Return this transform, or one like it if its cache has another size."""
            return self if self._cache_size == cache_size else super().with_cache(cache_size)

    Invertible.__name__ = Invertible.__qualname__ = cls.__name__
    return Invertible


class AffineTransform(get_invertible(td.AffineTransform)):
    """`loc + scale * x`, with the logarithm of the scale computed once.

    Args:
        loc: the offset, a number or a tensor.
        scale: the factor, not 0, a number or a tensor.
    """

    def get_builder(self) -> Callable:
        """Return a callable that makes this transform anew."""
        return functools.partial(AffineTransform, loc=self.loc, scale=self.scale, event_dim=self.event_dim)

    def with_cache(self, cache_size: int = 1) -> td.Transform:
        """Return this transform, or one like it if its cache has another size."""
        if self._cache_size == cache_size:
            return self
        return td.AffineTransform(self.loc, self.scale, self.event_dim, cache_size=cache_size)

    @functools.cached_property
    def _log_abs_scale(self) -> _Number:
        return self.scale.abs().log() if isinstance(self.scale, Tensor) else math.log(abs(self.scale))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return `log |scale|` with the shape of `x`, its event dimensions summed."""
        ladj = self._log_abs_scale
        ladj = ladj.expand(x.shape) if isinstance(ladj, Tensor) else torch.full_like(x, ladj)
        return ladj if self.event_dim == 0 else ladj.sum(tuple(range(-self.event_dim, 0)))


class _ElementwiseTransform(td.Transform):
    """Base of the strictly increasing elementwise transforms below."""

    domain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, cache_size: int = 1):
        super().__init__(cache_size=cache_size)

    def _arguments(self) -> dict:
        """Return the constructor's arguments besides `cache_size`."""
        return {}

    def get_builder(self) -> Callable:
        """Return a callable that makes this transform anew."""
        return functools.partial(type(self), **self._arguments())

    def with_cache(self, cache_size: int = 1) -> td.Transform:
        """Return this transform, or one like it if its cache has another size."""
        if self._cache_size == cache_size:
            return self
        return type(self)(**self._arguments(), cache_size=cache_size)

    def __eq__(self, other: Any) -> bool:
        if type(other) is not type(self):
            return False
        mine, others = self._arguments(), other._arguments()
        return all(torch.equal(torch.as_tensor(v), torch.as_tensor(others[k])) for k, v in mine.items())

    __hash__ = td.Transform.__hash__


def _log_expm1(x: Tensor) -> Tensor:
    """Return `log(exp(x) - 1)` for `x` > 0 without overflow."""
    return x + torch.log(-torch.expm1(-x))


@configurable
class Softplus(_ElementwiseTransform):
    """`s log(1 + exp(x / s))`, a smooth ramp from 0, with `s` the hinge softness.

    Args:
        hinge_softness: how wide the bend at 0 is, > 0.
        cache_size: 1 to remember the last input, 0 not to.
    """

    codomain = constraints.positive

    def __init__(self, hinge_softness: float = 1.0, cache_size: int = 1):
        if not hinge_softness > 0:
            raise ValueError(f"Softplus.hinge_softness: expected > 0, got {hinge_softness}.")
        super().__init__(cache_size=cache_size)
        self._softness = float(hinge_softness)

    def _arguments(self) -> dict:
        return dict(hinge_softness=self._softness)

    def _call(self, x: Tensor) -> Tensor:
        return F.softplus(x, beta=1 / self._softness)

    def _inverse(self, y: Tensor) -> Tensor:
        tiny = torch.finfo(y.dtype).tiny
        return self._softness * _log_expm1((y / self._softness).clamp(min=tiny))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the logarithm of the slope, `log sigmoid(x / s)`, elementwise."""
        return F.logsigmoid(x / self._softness)


@configurable
class Softclip(_ElementwiseTransform):
    """A smooth, symmetric clip into `(low, high)`; see `alf.utils.math_ops.softclip`.

    Args:
        low: lower bound, a number or a tensor.
        high: upper bound, above `low`.
        hinge_softness: how wide the bends are, > 0.
        cache_size: 1 to remember the last input, 0 not to.
    """

    def __init__(self, low: _Number, high: _Number, hinge_softness: float = 1.0, cache_size: int = 1):
        if not hinge_softness > 0:
            raise ValueError(f"Softclip.hinge_softness: expected > 0, got {hinge_softness}.")
        if not torch.all(torch.as_tensor(low < high)):
            raise ValueError(f"Softclip: expected low < high, got low={low}, high={high}.")
        super().__init__(cache_size=cache_size)
        self._low, self._high, self._softness = low, high, float(hinge_softness)

    @property
    def codomain(self):
        """The interval `(low, high)`."""
        return constraints.interval(self._low, self._high)

    def _arguments(self) -> dict:
        return dict(low=self._low, high=self._high, hinge_softness=self._softness)

    def _call(self, x: Tensor) -> Tensor:
        return math_ops.softclip(x, self._low, self._high, self._softness)

    def _inverse(self, y: Tensor) -> Tensor:
        # With a = (y - low) / s and b = (high - y) / s: x = low + s (log(e^a - 1) - log(1 - e^-b)).
        tiny = torch.finfo(y.dtype).eps
        a = ((y - self._low) / self._softness).clamp(min=tiny)
        b = ((self._high - y) / self._softness).clamp(min=tiny)
        return self._low + self._softness * (_log_expm1(a) - torch.log(-torch.expm1(-b)))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the logarithm of the slope, elementwise.

        The slope is `sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))` with `a = (x - low)
        / s`, `b = (x - high) / s`; the product loses no digits in the tails.
        """
        a = (x - self._low) / self._softness
        b = (x - self._high) / self._softness
        width = torch.as_tensor((self._high - self._low) / self._softness, dtype=x.dtype, device=x.device)
        return F.logsigmoid(a) + F.logsigmoid(-b) + torch.log(-torch.expm1(-width))


@configurable
class Softsign(_ElementwiseTransform):
    """`x / (1 + |x|)`, a squashing into (-1, 1) with polynomial tails.

    Args:
        cache_size: 1 to remember the last input, 0 not to.
    """

    codomain = constraints.interval(-1.0, 1.0)

    def __init__(self, cache_size: int = 1):
        super().__init__(cache_size=cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return x / (1 + x.abs())

    def _inverse(self, y: Tensor) -> Tensor:
        return y / (1 - y.abs()).clamp(min=torch.finfo(y.dtype).eps)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the logarithm of the slope, `-2 log(1 + |x|)`, elementwise."""
        return -2 * torch.log1p(x.abs())


@configurable
class StableTanh(_ElementwiseTransform):
    """`tanh(x)` whose inverse and log slope stay finite for outputs that were rounded to -1 or 1.

    Args:
        cache_size: 1 to remember the last input, 0 not to.
    """

    codomain = constraints.interval(-1.0, 1.0)

    def __init__(self, cache_size: int = 1):
        super().__init__(cache_size=cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def _inverse(self, y: Tensor) -> Tensor:
        # The largest number below 1 (0.99999994 in float32) stands for everything that was rounded to 1.
        limit = 1 - torch.finfo(y.dtype).eps / 2
        return torch.atanh(y.clamp(-limit, limit))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return `log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2 x))`, elementwise, exact for large `|x|`."""
        # softplus with beta = -2 is -softplus(-2 x) / 2: one operation less.
        return (4 * F.softplus(x, beta=-2)).sub_(x, alpha=2).add_(2 * math.log(2))


@configurable
def Softlower(low: float, hinge_softness: float = 1.0) -> td.ComposeTransform:
    """Return the transform `math_ops.softlower`: a smooth `max(x, low)`."""
    return td.ComposeTransform(
        [AffineTransform(loc=-low, scale=1.0), Softplus(hinge_softness), AffineTransform(loc=low, scale=1.0)]
    )


@configurable
def Softupper(high: float, hinge_softness: float = 1.0) -> td.ComposeTransform:
    """Return the transform `math_ops.softupper`: a smooth `min(x, high)`."""
    return td.ComposeTransform(
        [AffineTransform(loc=high, scale=-1.0), Softplus(hinge_softness), AffineTransform(loc=high, scale=-1.0)]
    )


@configurable
def SoftclipTF(low: float, high: float, hinge_softness: float = 1.0) -> td.ComposeTransform:
    """Return the transform `math_ops.softclip_tf`: a smooth clip into `(low, high)`, asymmetric in its bends."""
    if not low < high:
        raise ValueError(f"SoftclipTF: expected low < high, got low={low}, high={high}.")
    width = high - low
    softplus_width = F.softplus(torch.tensor(float(width), dtype=torch.float64), beta=1 / hinge_softness).item()
    return td.ComposeTransform(
        [
            AffineTransform(loc=-low, scale=1.0),
            Softplus(hinge_softness),
            AffineTransform(loc=width, scale=-1.0),
            Softplus(hinge_softness),
            AffineTransform(loc=high, scale=-width / softplus_width),
        ]
    )


def flatten_transforms(transforms: List[td.Transform]) -> List[td.Transform]:
    """Return the transforms in order, compositions replaced by their parts."""
    flat = []
    for transform in transforms:
        flat.extend(flatten_transforms(transform.parts) if isinstance(transform, td.ComposeTransform) else [transform])
    return flat


# Transforms of PyTorch itself that have no arguments.
_PLAIN_TRANSFORMS = (td.ExpTransform, td.TanhTransform, td.SigmoidTransform, td.SoftplusTransform, td.AbsTransform)


def get_transform_builder(transform: td.Transform) -> Callable:
    """Return a callable that makes a transform like this one, with an empty memory.

    Raises:
        ValueError: if the class has no `get_builder` and is not known here.
    """
    if hasattr(transform, "get_builder"):
        return transform.get_builder()
    if isinstance(transform, td.AffineTransform):
        return functools.partial(
            AffineTransform, loc=transform.loc, scale=transform.scale, event_dim=transform.event_dim
        )
    if isinstance(transform, _PLAIN_TRANSFORMS):
        return functools.partial(type(transform), cache_size=transform._cache_size)
    raise ValueError(
        f"DistributionSpec: do not know how to make a transform {type(transform).__name__} again. Give the class a "
        f"method get_builder() that returns a callable without arguments, as alf.utils.dist_utils.Softclip has."
    )
