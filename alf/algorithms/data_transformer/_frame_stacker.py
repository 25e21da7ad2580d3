"""Stacks of successive frames, in unroll and in replay."""

from typing import List, Optional, Tuple

import numpy as np
import torch

import alf.nest as nest
from alf.algorithms.data_transformer._base import DataTransformer, field_specs
from alf.config_util import configurable
from alf.data_structures import Experience, TimeStep, namedtuple
from alf.nest.utils import convert_device
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

FrameStackState = namedtuple(
    "FrameStackState",
    [
        "steps",  # int64 [B]: frames of this episode seen so far, at most stack_size - 1
        "prev_frames",  # list of [B, stack_size - 1, ...], one for each field: oldest first
    ],
)


@configurable
class FrameStacker(DataTransformer):
    """Stacks each frame with those before it in the episode; the first frame stands in for those before
    it."""

    reads_replay_buffer = True

    def __init__(
        self, observation_spec, stack_size: int = 4, stack_axis: int = 0, fields: Optional[List[str]] = None
    ):
        """
        Args:
            observation_spec: nest of specs of the observation.
            stack_size: number of frames in a stack, oldest first.
            stack_axis: dimension (without batch) along which frames are put together.
            fields: dotted paths of the tensors to stack; None: the observation is one tensor.
        """
        if stack_size < 1:
            raise ValueError(f"FrameStacker.stack_size: expected at least 1, got {stack_size}.")
        self_fields = field_specs("FrameStacker", observation_spec, fields)
        prev_frames = []
        for field, spec in self_fields:
            if not -len(spec.shape) <= stack_axis < len(spec.shape):
                raise ValueError(
                    f"FrameStacker.stack_axis: {stack_axis} is no dimension of '{field}' with shape "
                    f"{tuple(spec.shape)}."
                )
            observation_spec = nest.set_field(
                observation_spec, field, _stacked_spec(spec, stack_size, stack_axis)
            )
            prev_frames.append(TensorSpec((stack_size - 1,) + tuple(spec.shape), spec.dtype))
        super().__init__(
            observation_spec, FrameStackState(steps=TensorSpec((), torch.int64), prev_frames=prev_frames)
        )
        self._stack_size = stack_size
        # counted from the end, so that the number of batch dimensions does not matter
        self._fields = [
            (field, stack_axis if stack_axis < 0 else stack_axis - len(spec.shape), len(spec.shape))
            for field, spec in self_fields
        ]

    @property
    def stack_size(self) -> int:
        """How many frames one transformed observation is made of."""
        return self._stack_size

    @property
    def read_fields(self) -> Tuple[str, ...]:
        """Paths in Experience of the stacked tensors."""
        return tuple("time_step.observation" + (f".{field}" if field else "") for field, _, _ in self._fields)

    def _merge(self, frames: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
        """Return frames ``[..., stack_size, *shape]`` put together along ``axis`` of ``shape``."""
        frames = frames.movedim(-ndim - 1, axis - 1)
        return frames.flatten(axis - 1, axis)

    def transform_timestep(
        self, time_step: TimeStep, state: FrameStackState
    ) -> Tuple[TimeStep, FrameStackState]:
        if self._stack_size == 1:
            return time_step, state
        # A state of zeros has no frames either.
        is_start = time_step.is_first() | (state.steps == 0)
        observation, all_frames = time_step.observation, []
        # On CPU looking for starts is cheap and mostly finds none; on a GPU it would wait for the device.
        starts = is_start.nonzero().squeeze(1) if is_start.is_cpu else None
        for (field, axis, ndim), prev_frames in zip(self._fields, state.prev_frames):
            frame = nest.get_field(observation, field)
            if starts is None:
                mask = is_start.view((-1,) + (1,) * (prev_frames.ndim - 1))
                prev_frames = torch.where(mask, frame.unsqueeze(1), prev_frames)
            frames = torch.cat([prev_frames, frame.unsqueeze(1)], dim=1)
            if starts is not None and len(starts):
                frames[starts] = frame[starts].unsqueeze(1).expand(-1, self._stack_size, *frame.shape[1:])
            all_frames.append(frames[:, 1:])
            observation = nest.set_field(observation, field, self._merge(frames, axis, ndim))
        steps = torch.where(is_start, 1, (state.steps + 1).clamp(max=self._stack_size - 1))
        return time_step._replace(observation=observation), FrameStackState(
            steps=steps, prev_frames=all_frames
        )

    def transform_experience(self, experience: Experience) -> Experience:
        if self._stack_size == 1:
            return experience
        info = experience.batch_info
        if info == () or experience.replay_buffer == ():
            raise ValueError(
                "FrameStacker.transform_experience: the experience has no batch_info or no replay_buffer, so "
                "earlier frames cannot be found; see data_structures.add_batch_info."
            )
        buffer = experience.replay_buffer
        env_ids, positions = info.env_ids, info.positions
        B, T = experience.step_type.shape
        num_before = self._stack_size - 1

        # Where the episode of each step begins, as an index into "num_before earlier frames, then the T
        # sampled ones".
        step_positions = positions.unsqueeze(1) + torch.arange(T, device=positions.device)
        begins = buffer.get_episode_begin_position(
            step_positions.reshape(-1), env_ids.unsqueeze(1).expand(-1, T).reshape(-1)
        ).view(B, T)
        begin_index = (begins - positions.unsqueeze(1) + num_before).clamp(min=0)
        index = torch.arange(T, device=begins.device).unsqueeze(1) + torch.arange(
            self._stack_size, device=begins.device
        )
        index = torch.maximum(index.unsqueeze(0), begin_index.unsqueeze(-1))  # [B, T, stack_size]

        before = positions.unsqueeze(1) + torch.arange(-num_before, 0, device=positions.device)
        before = torch.maximum(before, begins[:, :1])
        observation = experience.observation
        for (field, axis, ndim), path in zip(self._fields, self.read_fields):
            frames = nest.get_field(observation, field)
            earlier = buffer.get_field(path, env_ids.unsqueeze(1).expand(-1, num_before), before)
            frames = torch.cat([convert_device(earlier, frames.device), frames], dim=1)
            # Whole frames are copied, which indexing by two tensors would do pixel by pixel.
            firsts = torch.arange(0, B * frames.shape[1], frames.shape[1], device=frames.device).view(B, 1, 1)
            rows = (firsts + index.to(frames.device)).flatten()
            stacks = frames.flatten(0, 1).index_select(0, rows).view(*index.shape, *frames.shape[2:])
            observation = nest.set_field(observation, field, self._merge(stacks, axis, ndim))
        return experience.update_time_step_field("observation", observation)


def _stacked_spec(spec: TensorSpec, stack_size: int, stack_axis: int) -> TensorSpec:
    shape = list(spec.shape)
    shape[stack_axis] *= stack_size
    if not isinstance(spec, BoundedTensorSpec):
        return spec.replace(shape=tuple(shape))
    minimum, maximum = (
        np.concatenate([np.broadcast_to(bound, tuple(spec.shape))] * stack_size, axis=stack_axis)
        if bound.shape
        else bound
        for bound in (spec.minimum, spec.maximum)
    )
    return spec.replace(shape=tuple(shape), minimum=minimum, maximum=maximum)
