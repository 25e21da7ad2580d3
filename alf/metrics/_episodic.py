"""The parts metrics are made of: a buffer of the latest values, a counter, and sums over episodes."""

from __future__ import annotations

import collections
import math
from typing import Any, Callable

import numpy as np
import torch
from absl import logging
from torch import nn

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.metrics import metric
from alf.metrics._segments import EpisodeSegments, slim, to_numpy, update_metrics


class MetricBuffer(nn.Module):
    """The latest `max_len` values.

    Args:
        max_len: number of values kept.
        dtype: of what is returned.
    """

    def __init__(self, max_len: int, dtype: torch.dtype):
        super().__init__()
        if max_len < 1:
            raise ValueError(f"MetricBuffer.max_len: expected a number >= 1, got {max_len}.")
        self._values: collections.deque[np.ndarray] = collections.deque(maxlen=max_len)
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._values)

    def append(self, value: Any) -> None:
        """Add a number or array, dropping the oldest one if there are too many."""
        self._values.append(np.array(to_numpy(value), dtype=np.float64))

    def extend(self, values: np.ndarray) -> None:
        """Add the values [N, ...], the latest one last."""
        self._values.extend(values)

    def mean(self) -> torch.Tensor:
        """Return the mean of the values; 0 if there are none."""
        return self._tensor(np.mean(self._values, axis=0) if self._values else 0.0)

    def std(self) -> torch.Tensor:
        """Return the sample standard deviation of the values; 0 if there are fewer than two."""
        if len(self._values) < 2:
            return torch.zeros_like(self.mean())
        return self._tensor(np.std(self._values, axis=0, ddof=1))

    def latest(self) -> torch.Tensor:
        """Return the value added last; 0 if there is none."""
        return self._tensor(self._values[-1] if self._values else 0.0)

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()

    def _tensor(self, value: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(value), device="cpu").to(self._dtype)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the values for a checkpoint."""
        return {"values": torch.from_numpy(np.array(self._values, dtype=np.float64))}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the values of a checkpoint; of a longer buffer the latest ones."""
        self._values.clear()
        self._values.extend(state["values"].numpy().copy())


class Counter(metric.StepMetric):
    """A metric that counts environments' steps of some type."""

    def __init__(self, name: str, prefix: str, dtype: torch.dtype):
        super().__init__(name=name, dtype=dtype, prefix=prefix)
        self._count = 0  # a Python int: exact beyond 2 ** 53, and cheap
        self._count_elsewhere = 0

    def call(self, time_step: TimeStep) -> TimeStep:
        """Count the environments of one time step, leaves [B, ...]; return it."""
        self.call_unroll(time_step)
        return time_step

    def call_unroll(self, time_steps: TimeStep) -> None:
        """Count in any number of time steps, leaves [T, B, ...]."""
        self.update_from_segments(time_steps, to_numpy(time_steps.step_type), None)

    def update_from_segments(
        self, time_steps: TimeStep, step_type: np.ndarray, segments: EpisodeSegments | None
    ) -> EpisodeSegments | None:
        """Count in `step_type`; the segments are not needed."""
        self._count += int(np.count_nonzero(self._counted(step_type)))
        return segments

    def _counted(self, step_type: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def result(self) -> torch.Tensor:
        """Return the count, with that of other processes."""
        return torch.tensor(self._count + self._count_elsewhere, dtype=self._dtype, device="cpu")

    @property
    def own_count(self) -> int:
        """The count of this process."""
        return self._count

    def count_elsewhere(self, count: int) -> None:
        """Say what other processes that train along have counted so far; it is no part of the state."""
        self._count_elsewhere = count

    def reset(self) -> None:
        """Count from zero again."""
        self._count = 0

    def get_extra_state(self) -> dict[str, Any]:
        """Return the count for a checkpoint."""
        return {"count": self._count}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the count of a checkpoint."""
        self._count = int(state["count"])


class _Running:
    """The episodes under way. An object of its own, since setting attributes of a torch module is slow."""

    __slots__ = ("lengths", "sums")

    def __init__(self):
        self.lengths = np.zeros(0, np.int64)  # [B]: their numbers of steps
        self.sums: list[np.ndarray] = []  # for each leaf of the result: float64 [B, K]


def _leaves(values: Any) -> list[Any]:
    return [values] if isinstance(values, (torch.Tensor, np.ndarray)) else nest.flatten(values)


class AverageEpisodicAggregationMetric(metric.StepMetric):
    """Mean over the latest episodes of something summed over each episode; the base of the metrics below.

    A subclass says what is summed (`_extract_metric_values`), and may weigh the steps (`_step_weights`) and
    finish the sum (`_finish`).

    Args:
        name: last part of the summary tag.
        prefix: first part of the summary tag.
        dtype: of the result.
        buffer_size: number of episodes averaged over.
        example_time_step: a time step, leaves [B, ...], from which the structure of the result is known
            before the first call.
    """

    def __init__(
        self,
        name: str = "AverageEpisodicAggregationMetric",
        prefix: str = "Metrics",
        dtype: torch.dtype = torch.float32,
        buffer_size: int = 10,
        example_time_step: TimeStep | None = None,
    ):
        super().__init__(name=name, dtype=dtype, prefix=prefix)
        self._buffer_size = buffer_size
        self._structure: Any = None  # a nest like the result, None until known
        self._shapes: list[tuple[int, ...]] = []  # of the value of each leaf of the structure
        self._values: list[MetricBuffer] = []  # one for each leaf
        self._running = _Running()
        self._unclaimed_state: dict[str, Any] | None = None  # a checkpoint that came before the structure
        if example_time_step is not None:
            self._begin(example_time_step)

    def _begin(self, example_time_step: TimeStep) -> None:
        """Learn the structure of the result; for subclasses that set what it depends on after `super()`."""
        self._set_structure(self._extract_metric_values(example_time_step), num_outer_dims=1)
        self._start(len(example_time_step.step_type))

    def _set_structure(self, values: Any, num_outer_dims: int) -> None:
        self._structure = nest.map_structure(lambda leaf: 0, values)
        self._shapes = [tuple(leaf.shape[num_outer_dims:]) for leaf in _leaves(values)]
        self._values = [MetricBuffer(self._buffer_size, self._dtype) for _ in self._shapes]

    def _start(self, num_envs: int) -> None:
        """Begin with `num_envs` environments, without episodes under way unless a checkpoint has some."""
        self._running.lengths = np.zeros(num_envs, np.int64)
        self._running.sums = [np.zeros((num_envs, math.prod(shape))) for shape in self._shapes]
        if self._unclaimed_state is not None:
            state, self._unclaimed_state = self._unclaimed_state, None
            self.set_extra_state(state)

    # ------------------------------------------------------------ for subclasses

    def _extract_metric_values(self, time_step: TimeStep) -> Any:
        """Return what is summed: a nest of tensors with the leading [B] or [T, B] of `time_step`."""
        raise NotImplementedError(f"{type(self).__name__} must define _extract_metric_values().")

    def _step_weights(self, segments: EpisodeSegments) -> np.ndarray | None:
        """Return the weight of each step, [B * T], from `segments.positions`; None for 1."""
        return None

    def _finish(self, sums: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the values [N, K] of N finished episodes from their sums [N, K] and numbers of steps [N]."""
        return sums

    # ------------------------------------------------------------ taking in

    def call(self, time_step: TimeStep) -> TimeStep:
        """Take in one time step, leaves [B, ...]; return it."""
        update_metrics([self], nest.map_structure(lambda leaf: leaf[None], slim(time_step)))
        return time_step

    def call_unroll(self, time_steps: TimeStep) -> None:
        """Take in T consecutive time steps, leaves [T, B, ...]."""
        update_metrics([self], time_steps)

    def update_from_segments(
        self, time_steps: TimeStep, step_type: np.ndarray, segments: EpisodeSegments | None
    ) -> EpisodeSegments:
        """Take in an unroll, using the segments another metric made from the same unroll if there are any.

        Args:
            time_steps: leaves [T, B, ...].
            step_type: its step types as an array.
            segments: what an earlier metric returned, or None.
        Returns:
            The segments used, for the next metric.
        """
        values = self._extract_metric_values(time_steps)
        if self._structure is None:
            self._set_structure(values, num_outer_dims=2)
        running = self._running
        if len(running.lengths) != step_type.shape[1]:
            self._start(step_type.shape[1])
        if segments is None or not segments.fits(running.lengths):
            segments = EpisodeSegments(step_type, running.lengths)
        weights = self._step_weights(segments)
        latest = segments.finished[-self._buffer_size :]
        for i, leaf in enumerate(_leaves(values)):
            flat = segments.flat(leaf)
            if weights is not None:
                flat = flat * weights[:, None]
            sums = segments.sum(flat, running.sums[i])
            if latest.size:
                finished = self._finish(sums[latest], segments.lengths[latest])
                self._values[i].extend(finished.reshape(-1, *self._shapes[i]))
            running.sums[i] = segments.carry(sums)
        running.lengths = segments.carried_lengths
        return segments

    # ------------------------------------------------------------ giving out

    def _per_leaf(self, function: Callable[[MetricBuffer], torch.Tensor]) -> Any:
        if self._structure is None:
            return torch.zeros((), dtype=self._dtype, device="cpu")
        leaves = [
            function(values).expand(shape) for values, shape in zip(self._values, self._shapes, strict=True)
        ]
        return nest.pack_sequence_as(self._structure, leaves)

    def has_result(self) -> bool:
        """Return whether an episode has ended."""
        return any(len(values) for values in self._values)

    def result(self) -> Any:
        """Return the mean over the latest episodes; 0 before the first one has ended."""
        return self._per_leaf(MetricBuffer.mean)

    def std(self) -> Any:
        """Return the sample standard deviation over the latest episodes; 0 for fewer than two."""
        return self._per_leaf(MetricBuffer.std)

    def latest(self) -> Any:
        """Return the value of the episode that ended last; 0 before."""
        return self._per_leaf(MetricBuffer.latest)

    def reset(self) -> None:
        """Forget all episodes, also those under way."""
        self._unclaimed_state = None
        for values in self._values:
            values.clear()
        self._start(len(self._running.lengths))

    def get_extra_state(self) -> dict[str, Any]:
        """Return the values and the episodes under way, for a checkpoint."""
        if self._structure is None and self._unclaimed_state is not None:
            return self._unclaimed_state
        return {
            "lengths": torch.from_numpy(self._running.lengths.copy()),
            "sums": [torch.from_numpy(sums.copy()) for sums in self._running.sums],
            "values": [values.get_extra_state() for values in self._values],
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint.

        With another number of environments the episodes under way are dropped: they are not continued anyway.
        With values of another shape nothing is taken over. Both are told.
        """
        if self._structure is None:
            self._unclaimed_state = state
            return
        sizes = [math.prod(shape) for shape in self._shapes]
        if [sums.shape[1] for sums in state["sums"]] != sizes:
            logging.warning(
                "Metric %s starts anew: the checkpoint has %s numbers per episode, now there are %s.",
                self.name,
                [sums.shape[1] for sums in state["sums"]],
                sizes,
            )
            return
        for values, saved in zip(self._values, state["values"], strict=True):
            values.set_extra_state(saved)
        if len(state["lengths"]) == len(self._running.lengths):
            self._running.lengths = state["lengths"].numpy().copy()
            self._running.sums = [sums.numpy().copy() for sums in state["sums"]]
        else:
            logging.warning(
                "Metric %s: %d environments in the checkpoint, %d now. Episodes under way are dropped.",
                self.name,
                len(state["lengths"]),
                len(self._running.lengths),
            )
            self._start(len(self._running.lengths))
