"""Diagonal normal distributions, plain and squashed, with direct formulas."""

import math
from typing import List, Optional, Sequence, Tuple

import torch
import torch.distributions as td
from torch import Tensor

from alf.utils.dist_utils._lean import _EMPTY, DiagDistribution, LeanDistribution, may_cache
from alf.utils.dist_utils._transforms import flatten_transforms

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class DiagMultivariateNormal(DiagDistribution):
    """A normal distribution over vectors with independent components; log probabilities are summed over them.

    Args:
        loc: means `[..., A]`.
        scale: standard deviations, > 0, `[..., A]` or broadcasting to it.
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor):
        if scale.shape != loc.shape:
            loc, scale = torch.broadcast_tensors(loc, scale)
        self.loc, self.scale = loc, scale
        self._log_det = None

    def _make_base(self) -> td.Normal:
        return td.Normal(self.loc, self.scale, validate_args=False)

    def _any_param(self) -> Tensor:
        return self.loc

    @property
    def mean(self) -> Tensor:
        """Means `[..., A]`."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The most probable vector: the means `[..., A]`."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """Standard deviations `[..., A]`."""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """Variances `[..., A]`."""
        return self.scale.square()

    def expand(self, batch_shape, _instance=None) -> "DiagMultivariateNormal":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        shape = torch.Size(batch_shape) + self.loc.shape[-1:]
        return DiagMultivariateNormal(self.loc.expand(shape), self.scale.expand(shape))

    def _noise(self, sample_shape: torch.Size) -> Tensor:
        if sample_shape:
            loc = self.loc
            return torch.randn(torch.Size(sample_shape) + loc.shape, dtype=loc.dtype, device=loc.device)
        return torch.randn_like(self.loc)

    def sample(self, sample_shape: torch.Size = _EMPTY) -> Tensor:
        """Return samples `[*sample_shape, ..., A]` without gradient."""
        return torch.addcmul(self.loc.detach(), self.scale.detach(), self._noise(sample_shape))

    def rsample(self, sample_shape: torch.Size = _EMPTY) -> Tensor:
        """Return samples `[*sample_shape, ..., A]`, differentiable in `loc` and `scale`."""
        return torch.addcmul(self.loc, self.scale, self._noise(sample_shape))

    def rsample_with_log_prob(self) -> Tuple[Tensor, Tensor]:
        """Return a differentiable sample `[..., A]` and its log probability `[...]`, cheaper than one by one.

        The derivative of `log_prob(rsample())` with respect to `loc` vanishes, so the quadratic term is a
        constant.
        """
        noise = self._noise(_EMPTY)
        return torch.addcmul(self.loc, self.scale, noise), self._log_prob_of_noise(noise)

    def _log_scale_sum(self) -> Tensor:
        """Return the sum of the log standard deviations `[...]`."""
        log_det = self._log_det
        if log_det is None:
            log_det = self.scale.log().sum(-1)
            if may_cache(self.scale):
                self._log_det = log_det
        return log_det

    def _log_prob_of_noise(self, noise: Tensor) -> Tensor:
        """Return log probabilities `[...]` of `loc + scale * noise`."""
        quadratic = (noise * noise).sum(-1)
        # -(quadratic / 2 + sum of log scales) - A / 2 log(2 pi)
        return torch.rsub(self._log_scale_sum().add(quadratic, alpha=0.5), self.loc.shape[-1] * -_HALF_LOG_2PI)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log probabilities `[...]` of the vectors `value`, `[..., A]`."""
        return self._log_prob_of_noise((value - self.loc) / self.scale)

    def entropy(self) -> Tensor:
        """Return entropies `[...]` in nats."""
        return self._log_scale_sum() + self.loc.shape[-1] * (0.5 + _HALF_LOG_2PI)


class SquashedDiagNormal(LeanDistribution, td.TransformedDistribution):
    """A diagonal normal distribution pushed through elementwise transforms, such as tanh and an affine map.

    Equal to `TransformedDistribution(DiagMultivariateNormal(loc, scale), transforms)`. It remembers the way
    from its last sample back to the normal variable, so that the log probability of that sample is exact
    even where the squashing saturates; the transforms' own memories are not used, so one transform may
    serve many distributions.

    Args:
        loc: means of the normal variable `[..., A]`.
        scale: its standard deviations, > 0.
        transforms: applied in order; all must be elementwise.
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, transforms: Sequence[td.Transform]):
        self.transforms: List[td.Transform] = transforms
        self.base_dist = DiagMultivariateNormal(loc, scale)
        self._last: Optional[Tuple[Tensor, List[Tensor]]] = None

    @staticmethod
    def supports(transforms: Sequence[td.Transform]) -> bool:
        """Return whether all transforms (after `flatten_transforms`) are elementwise."""
        return all(t.domain.event_dim == 0 and t.codomain.event_dim == 0 for t in flatten_transforms(transforms))

    @property
    def loc(self) -> Tensor:
        """Means of the normal variable `[..., A]`."""
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        """Standard deviations of the normal variable `[..., A]`."""
        return self.base_dist.scale

    @property
    def _batch_shape(self) -> torch.Size:
        return self.base_dist.loc.shape[:-1]

    @property
    def _event_shape(self) -> torch.Size:
        return self.base_dist.loc.shape[-1:]

    @property
    def mode(self) -> Tensor:
        """The image of the mean `[..., A]`: the median, and what is taken for the most probable action."""
        value = self.base_dist.loc
        for transform in self.transforms:
            value = transform._call(value)
        return value

    def expand(self, batch_shape, _instance=None) -> "SquashedDiagNormal":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        base = self.base_dist.expand(batch_shape)
        return SquashedDiagNormal(base.loc, base.scale, self.transforms)

    def _push(self, x: Tensor) -> Tensor:
        """Return the image of `x` and remember the way."""
        way = [x]
        for transform in self.transforms:
            x = transform._call(x)
            way.append(x)
        self._last = (x, way)
        return x

    def sample(self, sample_shape: torch.Size = _EMPTY) -> Tensor:
        """Return samples `[*sample_shape, ..., A]` without gradient."""
        return self._push(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: torch.Size = _EMPTY) -> Tensor:
        """Return samples `[*sample_shape, ..., A]`, differentiable in `loc` and `scale`."""
        return self._push(self.base_dist.rsample(sample_shape))

    def rsample_with_log_prob(self) -> Tuple[Tensor, Tensor]:
        """Return a differentiable sample `[..., A]` and its log probability `[...]`, cheaper than one by one."""
        x, log_prob = self.base_dist.rsample_with_log_prob()
        value = self._push(x)
        return value, log_prob - self._log_slope_sum(self._last[1])

    def _log_slope_sum(self, way: List[Tensor]) -> Tensor:
        """Return the log absolute determinant `[...]` of the transforms along `way`."""
        total = None
        for transform, x, y in zip(self.transforms, way, way[1:]):
            slope = transform.log_abs_det_jacobian(x, y)
            total = slope if total is None else total + slope
        return total.sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log probabilities `[...]` of the vectors `value`, `[..., A]`."""
        if self._last is not None and self._last[0] is value:
            way = self._last[1]
        else:
            way = [value]
            for transform in reversed(self.transforms):
                way.append(transform._inverse(way[-1]))
            way.reverse()
        return self.base_dist.log_prob(way[0]) - self._log_slope_sum(way)


def make_transformed(base: td.Distribution, transforms: Sequence[td.Transform]) -> td.TransformedDistribution:
    """Return `base` pushed through `transforms`, as a `SquashedDiagNormal` where that is possible."""
    if type(base) is DiagMultivariateNormal and transforms and SquashedDiagNormal.supports(transforms):
        return SquashedDiagNormal(base.loc, base.scale, flatten_transforms(transforms))
    return td.TransformedDistribution(base, list(transforms), validate_args=False)
