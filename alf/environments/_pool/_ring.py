"""TimeStepRing: the shared blocks as TimeSteps of torch tensors, all made in advance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._pool._segment import Specs, Views
from alf.environments._pool._worker import ALL_PARTS
from alf.nest.utils import convert_device


class TimeStepRing:
    """The time steps that are kept, whole and cut into parts of the batch.

    Args:
        specs: specs of one environment.
        views: the shared blocks ``[R, B, ...]``.
        num_parts: number of equal parts of the batch.
        device: where time steps are wanted: on the CPU they alias the shared blocks, else they are copies.
    """

    def __init__(self, specs: Specs, views: Views, num_parts: int, device: str):
        num_ring_rows, batch_size = views.step_type.shape

        def pack(spec: Any, blocks: list[np.ndarray]) -> Any:
            return nest.pack_sequence_as(spec, [torch.from_numpy(block) for block in blocks])

        self.time_steps = TimeStep(
            step_type=torch.from_numpy(views.step_type),
            reward=torch.from_numpy(views.reward),
            discount=torch.from_numpy(views.discount),
            observation=pack(specs.observation, views.observation),
            prev_action=pack(specs.action, views.prev_action),
            env_id=torch.arange(batch_size, dtype=torch.int32, device="cpu").expand(num_ring_rows, -1),
            untransformed=(),
            env_info=pack(specs.env_info, views.env_info),
        )
        self._device = device
        #: Whether time steps are copies on another device.
        self.copies = device != "cpu"
        part_size = batch_size // num_parts
        parts = {part: slice(part * part_size, (part + 1) * part_size) for part in range(num_parts)}
        parts[ALL_PARTS] = slice(0, batch_size)
        # Made once: a step only picks one of them.
        self._cut = {
            part: [self._select(ring_row, rows) for ring_row in range(num_ring_rows)]
            for part, rows in parts.items()
        }

    def _select(self, ring_row: int, rows: slice) -> TimeStep:
        return nest.map_structure(lambda leaf: leaf[ring_row, rows], self.time_steps)

    def get(self, part: int, ring_row: int) -> TimeStep:
        """Return one time step of a part of the batch, or of all with ``ALL_PARTS``."""
        time_step = self._cut[part][ring_row]
        if not self.copies:
            return time_step
        return convert_device(time_step, self._device)
