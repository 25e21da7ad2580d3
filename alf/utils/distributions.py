"""Truncated distributions of vectors, sampled by inverting the cumulative distribution function."""

import math
from typing import Tuple, Union

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints


def normcdf(a: Union[float, Tensor], b: Tensor) -> Tensor:
    """Return the probability that a standard normal variable lies in ``(a, b)``.

    Both bounds are taken to the side of 0 where no digits cancel.

    Args:
        a: lower bound, broadcasts with ``b``.
        b: upper bound, at least ``a``.
    """
    a, b = torch.broadcast_tensors(torch.as_tensor(a, dtype=b.dtype, device=b.device), b)
    flip = a + b > 0
    low, high = torch.where(flip, -b, a), torch.where(flip, -a, b)
    return _normal_cdf(high) - _normal_cdf(low)


def _normal_cdf(x: Tensor) -> Tensor:
    """Return the standard normal distribution function; `torch.special.ndtr` has no digits far below 0."""
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


class InverseTransformSampling:
    """A standard distribution, symmetric about 0, known by its distribution function and the inverse of it."""

    def cdf(self, x: Tensor) -> Tensor:
        """Return the probability of values up to `x`; precise in the lower tail."""
        raise NotImplementedError(f"{type(self).__name__}.cdf")

    def icdf(self, x: Tensor) -> Tensor:
        """Return the quantile of the probability `x` in (0, 1); precise for small `x`."""
        raise NotImplementedError(f"{type(self).__name__}.icdf")

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density at `x`."""
        raise NotImplementedError(f"{type(self).__name__}.log_prob")


class NormalITS(InverseTransformSampling):
    """The standard normal distribution."""

    def cdf(self, x: Tensor) -> Tensor:
        return _normal_cdf(x)

    def icdf(self, x: Tensor) -> Tensor:
        return torch.special.ndtri(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x * x - 0.5 * math.log(2 * math.pi)


class CauchyITS(InverseTransformSampling):
    """The standard Cauchy distribution."""

    def cdf(self, x: Tensor) -> Tensor:
        # atan2(1, -x) / pi is atan(x) / pi + 1/2 without the cancellation in the lower tail.
        return torch.atan2(torch.ones_like(x), -x) / math.pi

    def icdf(self, x: Tensor) -> Tensor:
        return -1 / torch.tan(math.pi * x)

    def log_prob(self, x: Tensor) -> Tensor:
        return -math.log(math.pi) - torch.log1p(x * x)


class T2Cdf_(torch.autograd.Function):
    """The distribution function of Student's t with two degrees of freedom, `1/2 + x / (2 sqrt(2 + x^2))`."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """Return the probability of values up to `x`, without cancellation in the lower tail."""
        ctx.save_for_backward(x)
        root = torch.sqrt(2 + x * x)
        tail = 1 / (root * (root + x.abs()))
        return torch.where(x > 0, 1 - tail, tail)

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> Tensor:
        """Return the gradient: the slope is the density `(2 + x^2)^(-3/2)`."""
        (x,) = ctx.saved_tensors
        return grad_output * (2 + x * x) ** -1.5


class T2ITS(InverseTransformSampling):
    """Student's t distribution with two degrees of freedom: tails between normal and Cauchy, all in closed form."""

    def cdf(self, x: Tensor) -> Tensor:
        return T2Cdf_.apply(x)

    def icdf(self, x: Tensor) -> Tensor:
        return (2 * x - 1) / torch.sqrt(2 * x * (1 - x))

    def log_prob(self, x: Tensor) -> Tensor:
        return -1.5 * torch.log(2 + x * x)


class TruncatedDistribution(td.Distribution):
    """A location-scale distribution of independent vector components, each cut to `[lower_bound,
    upper_bound]`.

    Args:
        loc: location before truncation `[..., A]`.
        scale: scale before truncation, > 0, `[..., A]` or broadcasting to it.
        lower_bound: lower bounds `[A]`.
        upper_bound: upper bounds `[A]`, above the lower ones.
        its: the standard distribution.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    has_rsample = True
    _validate_args = False

    def __init__(
        self, loc: Tensor, scale: Tensor, lower_bound: Tensor, upper_bound: Tensor, its: InverseTransformSampling
    ):
        if scale.shape != loc.shape:
            loc, scale = torch.broadcast_tensors(loc, scale)
        self._loc, self._scale, self._its = loc, scale, its
        self._lower_bound, self._upper_bound = lower_bound, upper_bound

    @property
    def _batch_shape(self) -> torch.Size:
        return self._loc.shape[:-1]

    @property
    def _event_shape(self) -> torch.Size:
        return self._loc.shape[-1:]

    @property
    def support(self):
        """The box between the bounds."""
        return constraints.independent(constraints.interval(self._lower_bound, self._upper_bound), 1)

    @property
    def scale(self) -> Tensor:
        """Scale before truncation `[..., A]`."""
        return self._scale

    @property
    def loc(self) -> Tensor:
        """Location before truncation `[..., A]`."""
        return self._loc

    @property
    def lower_bound(self) -> Tensor:
        """Lower bounds `[A]`."""
        return self._lower_bound

    @property
    def upper_bound(self) -> Tensor:
        """Upper bounds `[A]`."""
        return self._upper_bound

    @property
    def mode(self) -> Tensor:
        """The most probable vector `[..., A]`: the location, moved to the nearest bound if it is outside."""
        return torch.minimum(torch.maximum(self._loc, self._lower_bound), self._upper_bound)

    def _standard_interval(self) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return `(sign, p_low, p_high, mass)`: the standardised interval as probabilities.

        An interval whose middle is above 0 is mirrored (sign -1): the distribution function keeps its
        relative precision in the lower tail only.
        """
        low = (self._lower_bound - self._loc) / self._scale
        high = (self._upper_bound - self._loc) / self._scale
        mirrored = low + high > 0
        sign = torch.where(mirrored, -1.0, 1.0).to(low.dtype)
        p_low = self._its.cdf(torch.where(mirrored, -high, low))
        p_high = self._its.cdf(torch.where(mirrored, -low, high))
        mass = (p_high - p_low).clamp(min=torch.finfo(low.dtype).tiny)
        return sign, p_low, p_high, mass

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Return samples `[*sample_shape, ..., A]`, differentiable in `loc` and `scale`, within the bounds."""
        sign, p_low, _, mass = self._standard_interval()
        dtype = self._loc.dtype
        u = torch.rand(torch.Size(sample_shape) + self._loc.shape, dtype=dtype, device=self._loc.device)
        # Quantiles of exactly 0 and 1 are infinite, and their gradients NaN.
        p = (p_low + u * mass).clamp(torch.finfo(dtype).tiny, 1 - torch.finfo(dtype).eps / 2)
        x = self._loc + self._scale * sign * self._its.icdf(p)
        return torch.minimum(torch.maximum(x, self._lower_bound), self._upper_bound)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities `[...]` of the vectors `value`, `[..., A]`, which lie within the bounds."""
        mass = self._standard_interval()[3]
        z = (value - self._loc) / self._scale
        return (self._its.log_prob(z) - self._scale.log() - mass.log()).sum(-1)

    def expand(self, batch_shape, _instance=None) -> "TruncatedDistribution":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        shape = torch.Size(batch_shape) + self._event_shape
        new = object.__new__(type(self))
        TruncatedDistribution.__init__(
            new, self._loc.expand(shape), self._scale.expand(shape), self._lower_bound, self._upper_bound, self._its
        )
        return new

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)})"


class TruncatedNormal(TruncatedDistribution):
    """A normal distribution cut to a box; arguments as in `TruncatedDistribution`."""

    def __init__(self, loc: Tensor, scale: Tensor, lower_bound: Tensor, upper_bound: Tensor):
        super().__init__(loc, scale, lower_bound, upper_bound, NormalITS())


class TruncatedCauchy(TruncatedDistribution):
    """A Cauchy distribution cut to a box; arguments as in `TruncatedDistribution`."""

    def __init__(self, loc: Tensor, scale: Tensor, lower_bound: Tensor, upper_bound: Tensor):
        super().__init__(loc, scale, lower_bound, upper_bound, CauchyITS())


class TruncatedT2(TruncatedDistribution):
    """Student's t with two degrees of freedom cut to a box; arguments as in `TruncatedDistribution`."""

    def __init__(self, loc: Tensor, scale: Tensor, lower_bound: Tensor, upper_bound: Tensor):
        super().__init__(loc, scale, lower_bound, upper_bound, T2ITS())
