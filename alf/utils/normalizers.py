"""Normalization of nests of tensors by running means and variances.

Mean and variance of a batch are combined with the running ones by the update of a weighted mean and of the
variance about it (T. Finch, "Incremental calculation of weighted mean and variance", 2009), which loses no
digits when the mean is large against the deviation; the difference of mean square and squared mean would. All
leaves of a nest share one flat vector of statistics, so the cost of an update is that of a few small
operations, whatever the number of leaves.
"""

from typing import List

import torch
from torch import nn

import alf.nest as nest
import alf.summary as summary
from alf.config_util import configurable
from alf.tensor_specs import TensorSpec
from alf.utils.schedulers import as_scheduler


@configurable
class Normalizer(nn.Module):
    """Base of normalizers. A subclass says in ``_combine()`` how a batch changes the running statistics.

    Before the first update the statistics are mean 0 and variance 1: data pass unchanged.
    """

    def __init__(
        self,
        tensor_spec,
        auto_update: bool = True,
        zero_mean: bool = True,
        unit_std: bool = False,
        variance_epsilon: float = 1e-10,
        debug_summaries: bool = False,
        max_dims_to_summarize: int = 10,
        name: str = "Normalizer",
    ):
        """
        Args:
            tensor_spec: nest of specs of what is normalized, without batch dimensions.
            auto_update: update the statistics at each ``forward()``.
            zero_mean: subtract the mean and divide by the standard deviation.
            unit_std: only matters if ``zero_mean`` is False: divide by the standard deviation (True) or by
                the root mean square (False), which keeps constant data finite.
            variance_epsilon: added to the variance.
            debug_summaries: write mean and variance to the summaries.
            max_dims_to_summarize: of how many numbers at most.
            name: of this normalizer.
        """
        super().__init__()
        self._name = name
        self._tensor_spec = tensor_spec
        self._flat_specs: List[TensorSpec] = nest.flatten(tensor_spec)
        self._sizes = [spec.numel for spec in self._flat_specs]
        self._auto_update = auto_update
        self._zero_mean = zero_mean
        self._unit_std = unit_std
        self._variance_epsilon = variance_epsilon
        self._debug_summaries = debug_summaries
        self._max_dims_to_summarize = max_dims_to_summarize
        total = sum(self._sizes)
        self.register_buffer("_mean", torch.zeros(total))
        self.register_buffer("_variance", torch.ones(total))

    def _combine(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Take a batch into the running statistics.

        Args:
            mean: ``[D]``, mean of the batch; D numbers of all leaves side by side.
            variance: ``[D]``, variance of the batch about its mean (divided by the number of its members).
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how statistics are updated; use EMNormalizer, "
            "WindowNormalizer or AdaptiveNormalizer."
        )

    def _mix(self, mean: torch.Tensor, variance: torch.Tensor, rate: torch.Tensor) -> None:
        """Move the statistics to those of ``(1 - rate)`` parts of before and ``rate`` parts of the batch."""
        change = mean - self._mean
        # Var = (1 - r) * (var_old + r * change^2) + r * var_batch
        self._variance.addcmul_(change, change * rate).mul_(1 - rate).add_(variance * rate)
        self._mean.add_(change.mul_(rate))

    def _leaves(self, tensor) -> List[torch.Tensor]:
        leaves = nest.flatten(tensor)
        if len(leaves) != len(self._flat_specs):
            raise ValueError(
                f"{self._name}: expected a nest of {len(self._flat_specs)} tensors like "
                f"{self._tensor_spec}, got {len(leaves)} tensors."
            )
        for leaf, spec in zip(leaves, self._flat_specs):
            shape = tuple(spec.shape)
            if leaf.ndim < len(shape) or tuple(leaf.shape[leaf.ndim - len(shape) :]) != shape:
                raise ValueError(
                    f"{self._name}: expected a tensor of shape [..., {', '.join(map(str, shape))}], got "
                    f"{tuple(leaf.shape)}."
                )
        return leaves

    @torch.no_grad()
    def update(self, tensor) -> None:
        """Take a batch into the statistics.

        Args:
            tensor: nest of tensors ``[..., *spec.shape]``; all leading dimensions are batch dimensions.
        """
        means, variances = [], []
        for leaf, size in zip(self._leaves(tensor), self._sizes):
            rows = leaf.detach().reshape(-1, size)
            if rows.dtype != torch.float32:
                rows = rows.to(torch.float32)
            if rows.shape[0] == 0:
                raise ValueError(
                    f"{self._name}: cannot update from an empty batch of shape {tuple(leaf.shape)}."
                )
            variance, mean = torch.var_mean(rows, dim=0, correction=0)
            means.append(mean)
            variances.append(variance)
        if len(means) == 1:
            self._combine(means[0], variances[0])
        elif means:
            self._combine(torch.cat(means), torch.cat(variances))
        if self._debug_summaries and summary.should_record_summaries():
            self._summarize()

    def _summarize(self) -> None:
        for i in range(min(self._mean.numel(), self._max_dims_to_summarize)):
            summary.scalar(f"{self._name}/mean_{i}", self._mean[i])
            summary.scalar(f"{self._name}/variance_{i}", self._variance[i])

    def normalize(self, tensor, clip_value: float = -1.0):
        """Return the normalized nest; statistics stay as they are.

        Args:
            tensor: nest of tensors ``[..., *spec.shape]``.
            clip_value: if positive, results are clipped to plus or minus this.
        """
        leaves = self._leaves(tensor)
        variance = self._variance
        if not self._zero_mean and not self._unit_std:
            # Root mean square. Before the first update the mean is 0, so data pass unchanged here too.
            variance = torch.addcmul(variance, self._mean, self._mean)
        scale = (variance + self._variance_epsilon).rsqrt_()
        normalized, start = [], 0
        for leaf, spec, size in zip(leaves, self._flat_specs, self._sizes):
            part = slice(start, start + size)
            start += size
            leaf = leaf - self._mean[part].view(spec.shape) if self._zero_mean else leaf
            leaf = leaf * scale[part].view(spec.shape)
            normalized.append(leaf.clamp(-clip_value, clip_value) if clip_value > 0 else leaf)
        return nest.pack_sequence_as(self._tensor_spec, normalized)

    def forward(self, input):
        """Return the normalized nest, after an update with it if ``auto_update``.

        Args:
            input: nest of tensors ``[..., *spec.shape]``.
        """
        if self._auto_update:
            self.update(input)
        return self.normalize(input)


@configurable
class WindowNormalizer(Normalizer):
    """Normalization by the statistics of the last ``window_size`` batches, each counting the same."""

    def __init__(
        self,
        tensor_spec,
        window_size: int = 1000,
        auto_update: bool = True,
        zero_mean: bool = True,
        unit_std: bool = False,
        variance_epsilon: float = 1e-10,
        debug_summaries: bool = False,
        name: str = "WindowNormalizer",
    ):
        """
        Args:
            tensor_spec: see :class:`Normalizer`.
            window_size: number of batches.
            auto_update: see :class:`Normalizer`.
            zero_mean: see :class:`Normalizer`.
            unit_std: see :class:`Normalizer`.
            variance_epsilon: see :class:`Normalizer`.
            debug_summaries: see :class:`Normalizer`.
            name: see :class:`Normalizer`.
        """
        super().__init__(
            tensor_spec, auto_update, zero_mean, unit_std, variance_epsilon, debug_summaries, name=name
        )
        if window_size < 1:
            raise ValueError(f"{name}: window_size must be at least 1, got {window_size}.")
        self._window_size = window_size
        size = self._mean.numel()
        self.register_buffer("_batch_means", torch.zeros(window_size, size))
        self.register_buffer("_batch_variances", torch.zeros(window_size, size))
        self.register_buffer("_num_updates", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("_rows", torch.arange(window_size).unsqueeze(1), persistent=False)

    def _combine(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        position = self._num_updates % self._window_size
        self._batch_means.index_copy_(0, position, mean.unsqueeze(0))
        self._batch_variances.index_copy_(0, position, variance.unsqueeze(0))
        self._num_updates.add_(1)
        # Rows that were never written are zero.
        count = self._num_updates.clamp(max=self._window_size)
        torch.div(self._batch_means.sum(dim=0), count, out=self._mean)
        deviations = (self._batch_means - self._mean) * (self._rows < count)
        torch.div(
            self._batch_variances.sum(dim=0) + deviations.square_().sum(dim=0), count, out=self._variance
        )


@configurable
class ScalarWindowNormalizer(WindowNormalizer):
    """:class:`WindowNormalizer` of a number."""

    def __init__(
        self,
        window_size: int = 1000,
        auto_update: bool = True,
        zero_mean: bool = True,
        unit_std: bool = False,
        variance_epsilon: float = 1e-10,
        debug_summaries: bool = False,
        name: str = "ScalarWindowNormalizer",
    ):
        """
        Args:
            window_size: number of batches.
            auto_update: see :class:`Normalizer`.
            zero_mean: see :class:`Normalizer`.
            unit_std: see :class:`Normalizer`.
            variance_epsilon: see :class:`Normalizer`.
            debug_summaries: see :class:`Normalizer`.
            name: see :class:`Normalizer`.
        """
        super().__init__(
            TensorSpec(()),
            window_size,
            auto_update,
            zero_mean,
            unit_std,
            variance_epsilon,
            debug_summaries,
            name,
        )


@configurable
class EMNormalizer(Normalizer):
    """Normalization by exponentially forgetting statistics, without bias towards the initial ones."""

    def __init__(
        self,
        tensor_spec,
        update_rate: float = 1e-3,
        auto_update: bool = True,
        zero_mean: bool = True,
        unit_std: bool = False,
        variance_epsilon: float = 1e-10,
        debug_summaries: bool = False,
        name: str = "EMNormalizer",
    ):
        """
        Args:
            tensor_spec: see :class:`Normalizer`.
            update_rate: weight of a new batch in (0, 1], a number or a scheduler.
            auto_update: see :class:`Normalizer`.
            zero_mean: see :class:`Normalizer`.
            unit_std: see :class:`Normalizer`.
            variance_epsilon: see :class:`Normalizer`.
            debug_summaries: see :class:`Normalizer`.
            name: see :class:`Normalizer`.
        """
        super().__init__(
            tensor_spec, auto_update, zero_mean, unit_std, variance_epsilon, debug_summaries, name=name
        )
        self._update_rate = as_scheduler(update_rate)
        self.register_buffer("_mass", torch.zeros(()))

    def _combine(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        # The weights of all batches so far add up to the mass; the new one's share of it is the rate of a
        # mean that is divided by the mass.
        rate = self._update_rate()
        self._mass.add_((1 - self._mass) * rate)
        self._mix(mean, variance, rate / self._mass.clamp(min=1e-30))  # a scheduled rate may begin with 0


@configurable
class ScalarEMNormalizer(EMNormalizer):
    """:class:`EMNormalizer` of a number."""

    def __init__(
        self,
        update_rate: float = 1e-3,
        auto_update: bool = True,
        variance_epsilon: float = 1e-10,
        zero_mean: bool = True,
        unit_std: bool = False,
        debug_summaries: bool = False,
        name: str = "ScalarEMNormalizer",
    ):
        """
        Args:
            update_rate: see :class:`EMNormalizer`.
            auto_update: see :class:`Normalizer`.
            variance_epsilon: see :class:`Normalizer`.
            zero_mean: see :class:`Normalizer`.
            unit_std: see :class:`Normalizer`.
            debug_summaries: see :class:`Normalizer`.
            name: see :class:`Normalizer`.
        """
        super().__init__(
            TensorSpec(()),
            update_rate,
            auto_update,
            zero_mean,
            unit_std,
            variance_epsilon,
            debug_summaries,
            name,
        )


@configurable
class AdaptiveNormalizer(Normalizer):
    """Normalization by statistics whose rate is ``speed / (speed + n)`` at the n-th update (counted from 0).

    They reach back over about the last ``1 / speed`` of all updates, see
    :class:`~alf.utils.averager.AdaptiveAverager`.
    """

    def __init__(
        self,
        tensor_spec,
        speed: float = 8.0,
        auto_update: bool = True,
        zero_mean: bool = True,
        unit_std: bool = False,
        variance_epsilon: float = 1e-10,
        debug_summaries: bool = False,
        name: str = "AdaptiveNormalizer",
    ):
        """
        Args:
            tensor_spec: see :class:`Normalizer`.
            speed: the larger, the faster the old is forgotten; positive.
            auto_update: see :class:`Normalizer`.
            zero_mean: see :class:`Normalizer`.
            unit_std: see :class:`Normalizer`.
            variance_epsilon: see :class:`Normalizer`.
            debug_summaries: see :class:`Normalizer`.
            name: see :class:`Normalizer`.
        """
        super().__init__(
            tensor_spec, auto_update, zero_mean, unit_std, variance_epsilon, debug_summaries, name=name
        )
        if speed <= 0:
            raise ValueError(f"{name}: speed must be positive, got {speed}.")
        self._speed = float(speed)
        self.register_buffer("_num_updates", torch.zeros((), dtype=torch.int64))

    def _combine(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        self._mix(mean, variance, self._speed / (self._num_updates + self._speed))
        self._num_updates.add_(1)


@configurable
class ScalarAdaptiveNormalizer(AdaptiveNormalizer):
    """:class:`AdaptiveNormalizer` of a number."""

    def __init__(
        self,
        speed: float = 8.0,
        auto_update: bool = True,
        zero_mean: bool = True,
        unit_std: bool = False,
        variance_epsilon: float = 1e-10,
        debug_summaries: bool = False,
        name: str = "ScalarAdaptiveNormalizer",
    ):
        """
        Args:
            speed: see :class:`AdaptiveNormalizer`.
            auto_update: see :class:`Normalizer`.
            zero_mean: see :class:`Normalizer`.
            unit_std: see :class:`Normalizer`.
            variance_epsilon: see :class:`Normalizer`.
            debug_summaries: see :class:`Normalizer`.
            name: see :class:`Normalizer`.
        """
        super().__init__(
            TensorSpec(()), speed, auto_update, zero_mean, unit_std, variance_epsilon, debug_summaries, name
        )
