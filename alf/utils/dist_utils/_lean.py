"""What the lean distributions share: no validation, shapes computed only when asked for.

PyTorch's constructors check arguments, normalise and broadcast eagerly; at batch 8 that costs more than the
mathematics. The classes here derive from PyTorch's, so `isinstance` and `kl_divergence` work, but only
store their parameters.
"""

import torch
import torch.distributions as td
from torch import Tensor

_EMPTY = torch.Size()


def may_cache(value: Tensor) -> bool:
    """Return whether a tensor just derived from the parameter `value` may be kept for later calls.

    Not under `no_grad` when the parameter has a gradient: a later call under grad would silently get a
        constant.
    """
    return torch.is_grad_enabled() or not value.requires_grad


class LeanDistribution(td.Distribution):
    """Base of the lean distributions; `_batch_shape` and `_event_shape` are properties of the class."""

    _validate_args = False
    _event_shape = _EMPTY

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)})"


class Independent(LeanDistribution, td.Independent):
    """A distribution whose last `reinterpreted_batch_ndims` batch dimensions count as one event.

    Args:
        base_distribution: the distribution of the parts.
        reinterpreted_batch_ndims: number of batch dimensions that become event dimensions.
        validate_args: accepted for likeness with PyTorch; nothing is validated.
    """

    def __init__(self, base_distribution: td.Distribution, reinterpreted_batch_ndims: int, validate_args=None):
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims

    @property
    def _batch_shape(self) -> torch.Size:
        shape = self.base_dist.batch_shape
        return shape[: len(shape) - self.reinterpreted_batch_ndims]

    @property
    def _event_shape(self) -> torch.Size:
        shape = self.base_dist.batch_shape
        return shape[len(shape) - self.reinterpreted_batch_ndims :] + self.base_dist.event_shape

    def expand(self, batch_shape, _instance=None) -> "Independent":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        inner = self.base_dist.batch_shape
        inner = inner[len(inner) - self.reinterpreted_batch_ndims :]
        return Independent(self.base_dist.expand(torch.Size(batch_shape) + inner), self.reinterpreted_batch_ndims)


class DiagDistribution(LeanDistribution, td.Independent):
    """Base of the vector distributions with independent components, parameters `[..., A]`, event shape `[A]`."""

    reinterpreted_batch_ndims = 1
    has_enumerate_support = False

    def _make_base(self) -> td.Distribution:
        """Return the distribution of the components, batch shape `[..., A]`."""
        raise NotImplementedError(f"{type(self).__name__}._make_base")

    def _any_param(self) -> Tensor:
        """Return a parameter with the full shape `[..., A]`."""
        raise NotImplementedError(f"{type(self).__name__}._any_param")

    @property
    def base_dist(self) -> td.Distribution:
        """The distribution of the components; made when asked for."""
        return self._make_base()

    @property
    def _batch_shape(self) -> torch.Size:
        return self._any_param().shape[:-1]

    @property
    def _event_shape(self) -> torch.Size:
        return self._any_param().shape[-1:]
