"""Running averages of nests of tensors: over a window, exponentially forgetting, or slowing down with time.

Each ``update()`` first averages its input over the batch dimensions, so it counts as one observation whatever
the batch. Averages live in buffers (checkpoints have them) and are never part of a graph.
"""

from typing import Callable, List, Union

import torch
from torch import nn

import alf.nest as nest
from alf.config_util import configurable
from alf.tensor_specs import TensorSpec
from alf.utils.schedulers import as_scheduler

Number = Union[int, float]


def average_outer_dims(tensor: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """Return the mean over all dimensions in front of those of ``spec``.

    Args:
        tensor: ``[..., *spec.shape]``.
        spec: what remains.

    Raises:
        ValueError: the last dimensions of ``tensor`` are not those of ``spec``.
    """
    num_outer = tensor.ndim - len(spec.shape)
    if num_outer < 0 or tuple(tensor.shape[num_outer:]) != tuple(spec.shape):
        raise ValueError(
            f"Expected a tensor of shape [..., {', '.join(map(str, spec.shape))}], got {tuple(tensor.shape)}."
        )
    if num_outer == 0:
        return tensor
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float32)
    return tensor.mean(dim=tuple(range(num_outer)))


class _Averager(nn.Module):
    """Flattening and buffers that the averagers share."""

    def __init__(self, tensor_spec, name: str):
        super().__init__()
        self._name = name
        self._tensor_spec = tensor_spec
        self._flat_specs: List[TensorSpec] = nest.flatten(tensor_spec)

    def _register(self, name: str, outer: tuple = ()) -> List[str]:
        """Make a buffer of zeros for each leaf and return their names."""
        names = []
        for i, spec in enumerate(self._flat_specs):
            dtype = spec.dtype if spec.dtype.is_floating_point else torch.float32
            self.register_buffer(f"{name}{i}", torch.zeros(outer + tuple(spec.shape), dtype=dtype))
            names.append(f"{name}{i}")
        return names

    def _batch_means(self, tensor) -> List[torch.Tensor]:
        """Return the mean of each leaf over its batch dimensions, without gradient."""
        leaves = nest.flatten(tensor)
        if len(leaves) != len(self._flat_specs):
            raise ValueError(
                f"{self._name}: expected a nest of {len(self._flat_specs)} tensors like "
                f"{self._tensor_spec}, got {len(leaves)} tensors."
            )
        return [average_outer_dims(leaf.detach(), spec) for leaf, spec in zip(leaves, self._flat_specs)]

    def update(self, tensor) -> None:
        """Take a nest of tensors ``[..., *spec.shape]`` into the average."""
        raise NotImplementedError

    def get(self):
        """Return the present average, a nest with the shapes of the spec (zeros before the first update)."""
        raise NotImplementedError

    def average(self, tensor):
        """Take ``tensor`` into the average and return the new average."""
        self.update(tensor)
        return self.get()

    def forward(self, tensor):
        """Same as ``average()``."""
        return self.average(tensor)


@configurable
class WindowAverager(_Averager):
    """The mean of the last ``window_size`` updates."""

    def __init__(self, tensor_spec: TensorSpec, window_size: int, name: str = "WindowAverager"):
        """
        Args:
            tensor_spec: nest of specs of what is averaged, without batch dimensions.
            window_size: number of updates.
            name: of this averager.
        """
        super().__init__(tensor_spec, name)
        if window_size < 1:
            raise ValueError(f"{name}: window_size must be at least 1, got {window_size}.")
        self._window_size = window_size
        self._names = self._register("_window", (window_size,))
        self.register_buffer("_num_updates", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def update(self, tensor) -> None:
        position = self._num_updates % self._window_size
        for name, mean in zip(self._names, self._batch_means(tensor)):
            window = getattr(self, name)
            window.index_copy_(0, position, mean.to(window.dtype).unsqueeze(0))
        self._num_updates.add_(1)

    @torch.no_grad()
    def get(self):
        # Rows that were never written are zero.
        count = self._num_updates[0].clamp(1, self._window_size)
        return nest.pack_sequence_as(
            self._tensor_spec, [getattr(self, name).sum(dim=0) / count for name in self._names]
        )


@configurable
class ScalarWindowAverager(WindowAverager):
    """The mean of a number over the last ``window_size`` updates."""

    def __init__(
        self, window_size: int, dtype: torch.dtype = torch.float32, name: str = "ScalarWindowAverager"
    ):
        """
        Args:
            window_size: number of updates.
            dtype: of the number.
            name: of this averager.
        """
        super().__init__(TensorSpec((), dtype), window_size, name)


@configurable
class EMAverager(_Averager):
    """An exponential moving average, without the bias towards 0 of the first updates.

    ``a += rate * (x - a)``, ``mass += rate * (1 - mass)``, and the average is ``a / mass``, as in Section 3
    of https://arxiv.org/abs/1412.6980.
    """

    def __init__(
        self,
        tensor_spec: TensorSpec,
        update_rate: Union[Number, Callable[[], Number]],
        name: str = "EMAverager",
    ):
        """
        Args:
            tensor_spec: nest of specs of what is averaged, without batch dimensions.
            update_rate: weight of a new observation in (0, 1]: a number, or a callable such as a scheduler.
            name: of this averager.
        """
        super().__init__(tensor_spec, name)
        self._update_rate = as_scheduler(update_rate)
        self._names = self._register("_average")
        self.register_buffer("_mass", torch.zeros(()))

    @torch.no_grad()
    def update(self, tensor) -> None:
        self._update_with_rate(tensor, self._update_rate())

    def _update_with_rate(self, tensor, rate: Union[Number, torch.Tensor]) -> None:
        for name, mean in zip(self._names, self._batch_means(tensor)):
            average = getattr(self, name)
            average.add_((mean - average) * rate)
        self._mass.add_((1 - self._mass) * rate)

    @torch.no_grad()
    def get(self):
        mass = self._mass.clamp(min=1e-30)
        return nest.pack_sequence_as(self._tensor_spec, [getattr(self, name) / mass for name in self._names])


@configurable
class ScalarEMAverager(EMAverager):
    """An exponential moving average of a number."""

    def __init__(
        self,
        update_rate: Union[Number, Callable[[], Number]],
        dtype: torch.dtype = torch.float32,
        name: str = "ScalarEMAverager",
    ):
        """
        Args:
            update_rate: see :class:`EMAverager`.
            dtype: of the number.
            name: of this averager.
        """
        super().__init__(TensorSpec((), dtype), update_rate, name)


@configurable
class AdaptiveAverager(EMAverager):
    """An average whose rate is ``speed / (speed + n)`` at the n-th update (counted from 0).

    The first update is taken whole; later ones together reach back over about the last ``1 / speed`` of all
    updates.
    """

    def __init__(self, tensor_spec: TensorSpec, speed: float = 10.0, name: str = "AdaptiveAverager"):
        """
        Args:
            tensor_spec: nest of specs of what is averaged, without batch dimensions.
            speed: the larger, the faster the old is forgotten; positive.
            name: of this averager.
        """
        super().__init__(tensor_spec, 1.0, name)
        if speed <= 0:
            raise ValueError(f"{name}: speed must be positive, got {speed}.")
        self._speed = float(speed)
        self.register_buffer("_num_updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, tensor) -> None:
        self._update_with_rate(tensor, self._speed / (self._num_updates + self._speed))
        self._num_updates.add_(1)


@configurable
class ScalarAdaptiveAverager(AdaptiveAverager):
    """An adaptive average of a number."""

    def __init__(
        self, speed: float = 10, dtype: torch.dtype = torch.float32, name: str = "ScalarAdaptiveAverager"
    ):
        """
        Args:
            speed: see :class:`AdaptiveAverager`.
            dtype: of the number.
            name: of this averager.
        """
        super().__init__(TensorSpec((), dtype), speed, name)
