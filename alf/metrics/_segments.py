"""Cutting an unroll into episodes, so that metrics take in `[T, B]` time steps with few array operations."""

from __future__ import annotations

import functools
from typing import Any, Iterable

import numpy as np
import torch

from alf.data_structures import StepType, TimeStep
from alf.nest.utils import convert_device

_FIRST, _LAST = int(StepType.FIRST), int(StepType.LAST)


def to_numpy(tensor: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return a CPU array of a tensor, without copying where the tensor is in main memory."""
    if not isinstance(tensor, torch.Tensor):
        return np.asarray(tensor)
    return tensor.detach().cpu().numpy() if tensor.requires_grad or tensor.is_cuda else tensor.numpy()


class EpisodeSegments:
    """The episodes, or parts of episodes, in an unroll of B environments over T steps.

    Steps are numbered env-major (`env * T + t`); a segment is a run of steps of one environment that belong
    to one episode.

    Args:
        step_type: [T, B].
        carried_lengths: int64 [B], how many steps (FIRST not counted) the episode under way had before this
            unroll.
    """

    def __init__(self, step_type: np.ndarray, carried_lengths: np.ndarray):
        num_steps, num_envs = step_type.shape
        self.num_envs = num_envs
        step_type = np.ascontiguousarray(step_type.T)
        first, last = step_type == _FIRST, step_type == _LAST
        begins = first.copy()
        begins[:, 0] = True
        begins[:, 1:] |= last[:, :-1]
        self._is_first = first.reshape(-1)
        self._lengths_before = carried_lengths
        self._flat: dict[int, tuple[np.ndarray, Any]] = {}
        self.starts = np.flatnonzero(begins)  # [S]
        ends = np.append(self.starts[1:], num_steps * num_envs) - 1
        envs, start_times = np.divmod(self.starts, num_steps)
        starts_first = self._is_first[self.starts]
        # the segments that go on with what was carried into this unroll
        self._continuing = np.flatnonzero((start_times == 0) & ~starts_first)
        self._continuing_envs = envs[self._continuing]
        self._offsets = 1 - starts_first
        self._offsets[self._continuing] += carried_lengths[self._continuing_envs]
        self.lengths = (
            ends - self.starts + self._offsets
        )  # [S] steps of the episode up to the end of the segment
        # finished episodes in the order in which they end, as single steps would have told them
        finished = np.flatnonzero(last.reshape(-1)[ends])
        if finished.size > 1:
            finished = finished[np.lexsort((envs[finished], ends[finished] % num_steps))]
        self.finished = finished
        # the segment that is under way when the unroll ends, one per environment
        self._open = np.append(np.flatnonzero(np.diff(envs)), len(envs) - 1)
        self._open_is_finished = last[:, -1]

    @functools.cached_property
    def positions(self) -> np.ndarray:
        """int64 [B * T]: the how-manieth step of its episode each step is; 0 at FIRST."""
        sizes = np.diff(self.starts, append=len(self._is_first))
        return np.arange(len(self._is_first)) + np.repeat(self._offsets - self.starts, sizes)

    @functools.cached_property
    def carried_lengths(self) -> np.ndarray:
        """int64 [B]: what `carried_lengths` is for the next unroll."""
        return self.carry(self.lengths)

    def flat(self, values: torch.Tensor | np.ndarray) -> np.ndarray:
        """Return `values` [T, B, ...] as env-major float64 [B * T, K], zeroed at FIRST; not to be changed."""
        cached = self._flat.get(id(values))
        if cached is None:
            flat = np.array(to_numpy(values).swapaxes(0, 1), dtype=np.float64, order="C")
            flat = flat.reshape(len(self._is_first), -1)
            flat[self._is_first] = 0.0
            cached = self._flat[id(values)] = (flat, values)  # with `values`, so that the id stays taken
        return cached[0]

    def sum(self, flat: np.ndarray, carried: np.ndarray) -> np.ndarray:
        """Return float64 [S, K]: sums over the episode up to the end of each segment.

        Args:
            flat: env-major [B * T, K], zero at FIRST.
            carried: [B, K], sums of the episodes under way before this unroll.
        """
        sums = np.add.reduceat(flat, self.starts, axis=0)
        sums[self._continuing] += carried[self._continuing_envs]
        return sums

    def carry(self, per_segment: np.ndarray) -> np.ndarray:
        """Return [B, ...]: what of [S, ...] belongs to episodes under way at the end, 0 if there is none."""
        carried = per_segment[self._open]
        carried[self._open_is_finished] = 0
        return carried

    def fits(self, carried_lengths: np.ndarray) -> bool:
        """Return whether these segments were made with `carried_lengths`."""
        return carried_lengths is self._lengths_before or np.array_equal(
            carried_lengths, self._lengths_before
        )


def update_metrics(metrics: Iterable[Any], time_steps: TimeStep) -> None:
    """Let all metrics take in an unroll at once: much cheaper than calling each of them for each step.

    Args:
        metrics: `StepMetric`s.
        time_steps: consecutive time steps, leaves [T, B, ...], on any device.
    Raises:
        ValueError: if `step_type` is not [T, B].
    """
    on_cpu = time_steps
    if isinstance(time_steps.step_type, torch.Tensor) and time_steps.step_type.is_cuda:
        on_cpu = convert_device(slim(time_steps), "cpu")
    step_type = to_numpy(on_cpu.step_type)
    if step_type.ndim != 2 or step_type.size == 0:
        raise ValueError(
            f"update_metrics: expected time-major time steps with step_type of shape [T, B], got shape "
            f"{step_type.shape}. Use metric.call(time_step) for a single step."
        )
    segments = None
    for metric in metrics:
        if hasattr(metric, "update_from_segments"):
            segments = metric.update_from_segments(on_cpu, step_type, segments)
        else:
            metric.call_unroll(time_steps)


def slim(time_step: TimeStep) -> TimeStep:
    """Return `time_step` without observations and actions, which the metrics do not look at."""
    return time_step._replace(observation=(), prev_action=(), untransformed=())
