"""`MetricsGroup`: the metrics of a run together, fed by unrolls or cheaply by single steps."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

import torch
from torch import nn

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.metrics._segments import update_metrics
from alf.metrics.metric import StepMetric


class MetricsGroup(nn.Module):
    """Several metrics that see the same time steps.

    Single steps are copied into a small store and taken in together when it is full or when a result is asked
    for, because that costs a fraction of taking in each of them. So results are to be had through `metrics`.

    Args:
        metrics: the metrics. Those that know no other way than `call` get every step at once.
        num_stored_steps: single steps stored before they are taken in.
    """

    def __init__(self, metrics: Iterable[StepMetric], num_stored_steps: int = 32):
        super().__init__()
        self._metrics = nn.ModuleList(metrics)
        self._batched = [metric for metric in self._metrics if hasattr(metric, "update_from_segments")]
        self._others = [metric for metric in self._metrics if not hasattr(metric, "update_from_segments")]
        self._store = _Store(num_stored_steps)
        self.register_state_dict_pre_hook(lambda module, prefix, keep_vars: module.flush())

    @property
    def metrics(self) -> list[StepMetric]:
        """The metrics, with all steps taken in."""
        self.flush()
        return list(self._metrics)

    def call(self, time_step: TimeStep) -> None:
        """Take in one time step, leaves [B, ...]; the tensors may be written to afterwards."""
        for metric in self._others:
            metric.call(time_step)
        if self._store.add(time_step):
            self.flush()

    def forward(self, time_step: TimeStep) -> None:
        """The same as `call`."""
        self.call(time_step)

    def call_unroll(self, time_steps: TimeStep) -> None:
        """Take in T consecutive time steps, leaves [T, B, ...]."""
        self.flush()
        update_metrics(self._metrics, time_steps)

    def flush(self) -> None:
        """Take in the steps that are stored."""
        time_steps = self._store.take()
        if time_steps is not None:
            update_metrics(self._batched, time_steps)

    def reset(self) -> None:
        """Forget everything."""
        self._store.take()
        for metric in self._metrics:
            metric.reset()

    def gen_summaries(
        self,
        train_step: int | None = None,
        step_metrics: Sequence[StepMetric] = (),
        other_steps: Mapping[str, int] = {},
    ) -> None:
        """Record all results; the arguments are those of `StepMetric.gen_summaries`."""
        for metric in self.metrics:
            metric.gen_summaries(train_step=train_step, step_metrics=step_metrics, other_steps=other_steps)


class _Store:
    """Up to `capacity` time steps, without observations and actions."""

    def __init__(self, capacity: int):
        self._capacity = capacity
        self._structure: Any = None  # like (step_type, reward, env_info)
        self._rows: list[torch.Tensor] = []  # for each leaf: [capacity, B, ...]
        self._size = 0

    def add(self, time_step: TimeStep) -> bool:
        """Copy a time step into the store; return whether the store is full."""
        part = (time_step.step_type, time_step.reward, time_step.env_info)
        leaves = nest.flatten(part)
        if self._size == 0 and not self._fits(leaves):
            self._rows = [
                torch.empty((self._capacity, *leaf.shape), dtype=leaf.dtype, device=leaf.device)
                for leaf in leaves
            ]
            self._structure = part
        for rows, leaf in zip(self._rows, leaves, strict=True):
            rows[self._size].copy_(leaf)
        self._size += 1
        return self._size == self._capacity

    def _fits(self, leaves: list[torch.Tensor]) -> bool:
        return len(leaves) == len(self._rows) and all(
            rows.shape[1:] == leaf.shape and rows.device == leaf.device
            for rows, leaf in zip(self._rows, leaves, strict=True)
        )

    def take(self) -> TimeStep | None:
        """Return the stored time steps, leaves [T, B, ...], and empty the store; None if it is empty."""
        if self._size == 0:
            return None
        rows = [rows[: self._size] for rows in self._rows]
        self._size = 0
        step_type, reward, env_info = nest.pack_sequence_as(self._structure, rows)
        return TimeStep(step_type=step_type, reward=reward, env_info=env_info)
