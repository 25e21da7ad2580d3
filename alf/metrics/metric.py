"""`StepMetric`: something measured from the time steps of a batch of environments."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np
import torch
from torch import nn

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.metrics._segments import to_numpy
from alf.summary import summary_ops


class StepMetric(nn.Module):
    """Base of metrics. Subclasses write `call`, `result`, `reset`, and `call_unroll` where a loop is slow.

    A metric lives on the CPU, keeps its numbers itself and hands them to checkpoints through `state_dict()`.

    Args:
        name: last part of the summary tag.
        dtype: of the result.
        prefix: first part of the summary tag.
    """

    def __init__(self, name: str, dtype: torch.dtype, prefix: str = "Metrics"):
        super().__init__()
        self.name = name
        self._dtype = dtype
        self._prefix = prefix

    @property
    def prefix(self) -> str:
        """First part of the summary tag."""
        return self._prefix

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the result."""
        return self._dtype

    def call(self, *args, **kwargs) -> Any:
        """Take in one time step, leaves [B, ...]; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must define call().")

    def call_unroll(self, time_steps: TimeStep) -> None:
        """Take in several consecutive time steps at once, leaves [T, B, ...]: the same as T calls."""
        for t in range(time_steps.step_type.shape[0]):
            self.call(nest.map_structure(lambda leaf: leaf[t], time_steps))  # noqa: B023 (used within the iteration)

    def forward(self, *args, **kwargs) -> Any:
        """The same as `call`."""
        return self.call(*args, **kwargs)

    def reset(self) -> None:
        """Forget everything; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must define reset().")

    def result(self) -> Any:
        """Return the present value, a tensor or a nest of tensors; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must define result().")

    def std(self) -> Any:
        """Return the standard deviation of what `result` is the mean of; zero where `result` is no mean."""
        return nest.map_structure(torch.zeros_like, self.result())

    def has_result(self) -> bool:
        """Return whether there is something to summarize, such as a finished episode."""
        return True

    def gen_summaries(
        self,
        train_step: int | None = None,
        step_metrics: Sequence[StepMetric] = (),
        other_steps: Mapping[str, int] = {},
    ) -> None:
        """Record the result as `<prefix>/<name>`, and once more against every other kind of step.

        The parts of a nest or vector are recorded under sub-paths: `Metrics/AverageReturn/0`.

        Args:
            train_step: the step of `<prefix>/<name>`; the global counter if None.
            step_metrics: metrics that count; for each other than this one `<prefix>_vs_<its name>/<name>` is
                recorded.
            other_steps: {name: step}; the same for further counts.
        """
        if not self.has_result() or not summary_ops.should_record_summaries():
            return
        if train_step is not None and int(train_step) == summary_ops.get_global_counter():
            train_step = None  # so that it is known as a value at the global counter
        steps = {f"{self._prefix}": train_step}
        for step_metric in step_metrics:
            if step_metric.name != self.name:
                steps[f"{self._prefix}_vs_{step_metric.name}"] = int(step_metric.result())
        for name, step in other_steps.items():
            steps[f"{self._prefix}_vs_{name}"] = int(step)

        def record(path: str, value: torch.Tensor) -> None:
            name = f"{self.name}/{path.replace('.', '/')}" if path else self.name
            for index, number in np.ndenumerate(to_numpy(value)):
                tag = "/".join([name, *map(str, index)])
                for prefix, step in steps.items():
                    summary_ops.scalar(f"{prefix}/{tag}", number, step=step)

        nest.py_map_structure_with_path(record, self.result())
