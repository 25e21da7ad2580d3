"""Beta and Cauchy distributions that stay finite at the edges, and the affine image of a distribution."""

import math
from typing import Optional, Union

import torch
import torch.distributions as td
from torch import Tensor

from alf.config_util import configurable
from alf.utils.dist_utils._lean import _EMPTY, DiagDistribution, LeanDistribution
from alf.utils.dist_utils._transforms import AffineTransform

_Number = Union[float, Tensor]


@configurable
class Beta(LeanDistribution, td.Beta):
    """A Beta distribution on (0, 1) whose samples and log probabilities stay away from the ends by `eps`.

    At 0 and 1 the density may be 0 or infinite, and float samples do reach them.

    Args:
        concentration1: weight of 1, often called alpha, > 0, `[...]`.
        concentration0: weight of 0, often called beta, > 0, `[...]`.
        eps: distance kept from 0 and 1; None means the machine epsilon of the dtype.
        validate_args: accepted for likeness with PyTorch; nothing is validated.
    """

    has_rsample = True

    def __init__(self, concentration1: Tensor, concentration0: Tensor, eps: Optional[float] = None, validate_args=None):
        if concentration1.shape != concentration0.shape:
            concentration1, concentration0 = torch.broadcast_tensors(concentration1, concentration0)
        self._concentration1, self._concentration0 = concentration1, concentration0
        self._eps = torch.finfo(concentration1.dtype).eps if eps is None else eps

    @property
    def concentration1(self) -> Tensor:
        """Weight of 1 (alpha), `[...]`."""
        return self._concentration1

    @property
    def concentration0(self) -> Tensor:
        """Weight of 0 (beta), `[...]`."""
        return self._concentration0

    @property
    def _batch_shape(self) -> torch.Size:
        return self._concentration1.shape

    @property
    def _dirichlet(self) -> td.Dirichlet:
        return td.Dirichlet(torch.stack([self._concentration1, self._concentration0], -1), validate_args=False)

    @property
    def mode(self) -> Tensor:
        """The most probable value `[...]`.

        Inside where both concentrations exceed 1; otherwise the end with the smaller concentration, where
        the density is unbounded or largest; 0.5 where it is the same at both.
        """
        a, b = self._concentration1, self._concentration0
        inside = (a - 1) / torch.where(a + b == 2, 1.0, a + b - 2)
        at_end = torch.where(a == b, 0.5, (a > b).to(a.dtype))
        return torch.where((a > 1) & (b > 1), inside, at_end).clamp(self._eps, 1 - self._eps)

    def expand(self, batch_shape, _instance=None) -> "Beta":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        shape = torch.Size(batch_shape)
        return Beta(self._concentration1.expand(shape), self._concentration0.expand(shape), eps=self._eps)

    def rsample(self, sample_shape: torch.Size = ()) -> Tensor:
        """Return differentiable samples `[*sample_shape, ...]` in `[eps, 1 - eps]`."""
        return self._dirichlet.rsample(torch.Size(sample_shape)).select(-1, 0).clamp(self._eps, 1 - self._eps)

    def _log_normalizer_direct(self) -> Tensor:
        a, b = self._concentration1, self._concentration0
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities `[...]`; values nearer to 0 or 1 than `eps` count as at that distance."""
        value = value.clamp(self._eps, 1 - self._eps)
        a, b = self._concentration1, self._concentration0
        return (a - 1) * value.log() + (b - 1) * torch.log1p(-value) - self._log_normalizer_direct()

    def entropy(self) -> Tensor:
        """Return entropies `[...]` in nats."""
        a, b = self._concentration1, self._concentration0
        total = a + b
        return (
            self._log_normalizer_direct()
            - (a - 1) * torch.digamma(a)
            - (b - 1) * torch.digamma(b)
            + (total - 2) * torch.digamma(total)
        )


class DiagMultivariateBeta(DiagDistribution):
    """Independent Beta distributions over the components of a vector; log probabilities are summed over them.

    Args:
        concentration1: weights of 1 (alpha), > 0, `[..., A]`.
        concentration0: weights of 0 (beta), > 0, `[..., A]`.
    """

    def __init__(self, concentration1: Tensor, concentration0: Tensor):
        self._base = Beta(concentration1, concentration0)

    def _make_base(self) -> Beta:
        return self._base

    def _any_param(self) -> Tensor:
        return self._base.concentration1

    @property
    def concentration1(self) -> Tensor:
        """Weights of 1 (alpha), `[..., A]`."""
        return self._base.concentration1

    @property
    def concentration0(self) -> Tensor:
        """Weights of 0 (beta), `[..., A]`."""
        return self._base.concentration0

    def expand(self, batch_shape, _instance=None) -> "DiagMultivariateBeta":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        shape = torch.Size(batch_shape) + self._event_shape
        return DiagMultivariateBeta(self.concentration1.expand(shape), self.concentration0.expand(shape))


class StableCauchy(LeanDistribution, td.Cauchy):
    """A Cauchy distribution whose samples are clipped in probability, so that none is astronomically large.

    Args:
        loc: median `[...]`.
        scale: half width at half maximum, > 0.
        validate_args: accepted for likeness with PyTorch; nothing is validated.
    """

    def __init__(self, loc: Tensor, scale: Tensor, validate_args=None):
        if scale.shape != loc.shape:
            loc, scale = torch.broadcast_tensors(loc, scale)
        self.loc, self.scale = loc, scale

    @property
    def _batch_shape(self) -> torch.Size:
        return self.loc.shape

    def expand(self, batch_shape, _instance=None) -> "StableCauchy":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        shape = torch.Size(batch_shape)
        return StableCauchy(self.loc.expand(shape), self.scale.expand(shape))

    def rsample(self, sample_shape: torch.Size = _EMPTY, clipping_value: float = 0.49) -> Tensor:
        """Return differentiable samples `[*sample_shape, ...]`.

        Args:
            sample_shape: leading dimensions of the result.
            clipping_value: quantiles are kept within `0.5 +- clipping_value`; 0.49 limits samples to about
                32 scales.
        """
        loc = self.loc
        shape = torch.Size(sample_shape) + loc.shape
        u = (torch.rand(shape, dtype=loc.dtype, device=loc.device) - 0.5).clamp_(-clipping_value, clipping_value)
        return torch.addcmul(loc, self.scale, torch.tan(math.pi * u))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities `[...]`."""
        z = (value - self.loc) / self.scale
        return -math.log(math.pi) - self.scale.log() - torch.log1p(z * z)

    def entropy(self) -> Tensor:
        """Return entropies `[...]` in nats."""
        return math.log(4 * math.pi) + self.scale.log()


class DiagMultivariateCauchy(DiagDistribution):
    """Independent Cauchy distributions over the components of a vector; log probabilities are summed over
    them.

    Args:
        loc: medians `[..., A]`.
        scale: half widths at half maximum, > 0, `[..., A]` or broadcasting to it.
    """

    def __init__(self, loc: Tensor, scale: Tensor):
        self._base = StableCauchy(loc, scale)

    def _make_base(self) -> StableCauchy:
        return self._base

    def _any_param(self) -> Tensor:
        return self._base.loc

    @property
    def loc(self) -> Tensor:
        """Medians `[..., A]`."""
        return self._base.loc

    @property
    def scale(self) -> Tensor:
        """Half widths at half maximum `[..., A]`."""
        return self._base.scale

    def expand(self, batch_shape, _instance=None) -> "DiagMultivariateCauchy":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        shape = torch.Size(batch_shape) + self._event_shape
        return DiagMultivariateCauchy(self.loc.expand(shape), self.scale.expand(shape))


class AffineTransformedDistribution(LeanDistribution, td.TransformedDistribution):
    """The distribution of `loc + scale * x`, with the moments and the entropy that follow from those of `x`.

    Args:
        base_dist: the distribution of `x`.
        loc: the offset, a number or a tensor that broadcasts to the events of `x`.
        scale: the factor, not 0, likewise.
    """

    def __init__(self, base_dist: td.Distribution, loc: _Number, scale: _Number):
        self.base_dist = base_dist
        self.transforms = [AffineTransform(loc=loc, scale=scale)]
        self.loc, self.scale = loc, scale

    @property
    def _batch_shape(self) -> torch.Size:
        return self.base_dist.batch_shape

    @property
    def _event_shape(self) -> torch.Size:
        return self.base_dist.event_shape

    def expand(self, batch_shape, _instance=None) -> "AffineTransformedDistribution":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        return AffineTransformedDistribution(self.base_dist.expand(batch_shape), self.loc, self.scale)

    def sample(self, sample_shape: torch.Size = _EMPTY) -> Tensor:
        """Return samples without gradient."""
        return self.loc + self.scale * self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: torch.Size = _EMPTY) -> Tensor:
        """Return differentiable samples."""
        return self.loc + self.scale * self.base_dist.rsample(sample_shape)

    def _log_scale_sum(self) -> _Number:
        """Return `log |scale|` summed over the event, a number."""
        log_scale = self.transforms[0]._log_abs_scale
        event_shape = self.base_dist.event_shape
        if isinstance(log_scale, Tensor):
            return log_scale.expand(event_shape).sum()
        return log_scale * event_shape.numel()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log probabilities, batch dimensions."""
        return self.base_dist.log_prob((value - self.loc) / self.scale) - self._log_scale_sum()

    def entropy(self) -> Tensor:
        """Return entropies in nats, batch dimensions: that of `x` plus `log |scale|`, summed over the event."""
        return self.base_dist.entropy() + self._log_scale_sum()

    @property
    def mean(self) -> Tensor:
        """Means, batch and event dimensions."""
        return self.loc + self.scale * self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        """Variances, batch and event dimensions."""
        return self.scale**2 * self.base_dist.variance

    @property
    def stddev(self) -> Tensor:
        """Standard deviations, batch and event dimensions."""
        return abs(self.scale) * self.base_dist.stddev

    @property
    def mode(self) -> Tensor:
        """The most probable value, batch and event dimensions."""
        return self.loc + self.scale * self.base_dist.mode
