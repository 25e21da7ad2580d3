"""Experience kept for training: the last unroll."""

from typing import Optional, Tuple

import torch

from alf.data_structures import BatchInfo, Experience, StepType, TimeStep
from alf.nest import Nest, get_field, map_structure

_FIRST = int(StepType.FIRST)


class LastUnroll:
    """The experience of the last unroll, for algorithms that train on all of it and then forget it.

    Positions count from the first of the earlier time steps that are kept.

    Args:
        num_earlier: how many raw time steps before the unroll are kept for data transformers that look back.
    """

    def __init__(self, num_earlier: int = 0):
        self._num_earlier = num_earlier
        self._experience: Optional[Experience] = None
        self._earlier: Optional[TimeStep] = None
        self._rollout_info_spec: Nest = ()

    def set(self, experience: Experience, rollout_info_spec: Nest) -> None:
        """Keep an unroll in place of the one before.

        Args:
            experience: raw time steps, distributions as parameters ``[T + 1, B, ...]``; its first time step is the last
                one of the unroll before.
            rollout_info_spec: spec from which the distributions of its ``rollout_info`` are rebuilt.
        """
        if self._num_earlier and self._experience is not None:
            self._earlier = self._latest_before(self._experience.time_step)
        self._experience = experience
        self._rollout_info_spec = rollout_info_spec

    def _latest_before(self, time_step: TimeStep) -> TimeStep:
        """Return the time steps kept from what is known and from an unroll, without its last time step."""
        def cut(leaf, earlier=None):
            rows = leaf[:-1] if earlier is None else torch.cat([earlier, leaf[:-1]])
            return rows[-self._num_earlier:].clone()

        return map_structure(cut, time_step) if self._earlier is None else map_structure(cut, time_step, self._earlier)

    @property
    def rollout_info_spec(self) -> Nest:
        """Spec from which the distributions of ``rollout_info`` are rebuilt."""
        return self._rollout_info_spec

    def gather_all(self) -> Tuple[Experience, BatchInfo]:
        """Return the unroll ``[T + 1, B, ...]``, and where its rows came from.

        Raises:
            RuntimeError: if there is none yet.
        """
        if self._experience is None:
            raise RuntimeError("There is no experience to train on yet: unroll first.")
        step_type = self._experience.step_type
        env_ids = torch.arange(step_type.shape[1], device=step_type.device)
        positions = torch.full_like(env_ids, self._num_kept)
        return self._experience, BatchInfo(env_ids=env_ids, positions=positions, replay_buffer=self)

    # ---- what data transformers ask a replay buffer ----------------------------------------------------------------

    @property
    def _num_kept(self) -> int:
        return 0 if self._earlier is None else self._earlier.step_type.shape[0]

    def get_field(self, field_name: str, env_ids: torch.Tensor, positions: torch.Tensor) -> Nest:
        """Return the part of the raw experience at a dotted path, of some rows.

        Args:
            field_name: below ``time_step`` for rows before the unroll.
            env_ids: int64, any shape.
            positions: int64, the same shape.
        """
        now = map_structure(lambda leaf: leaf[(positions - self._num_kept).clamp(min=0), env_ids],
                            get_field(self._experience, field_name))
        if self._earlier is None:
            return now
        before = get_field(Experience(time_step=self._earlier), field_name)
        is_before = positions < self._num_kept

        def choose(leaf, earlier):
            mask = is_before.reshape(*is_before.shape, *(1, ) * (leaf.ndim - is_before.ndim))
            return torch.where(mask, earlier[positions.clamp(max=self._num_kept - 1), env_ids], leaf)

        return map_structure(choose, now, before)

    def get_episode_begin_position(self, positions: torch.Tensor, env_ids: torch.Tensor) -> torch.Tensor:
        """Return where the episodes of some rows begin, or the first position that is kept if they began before.

        Args:
            positions: int64 ``[N]``.
            env_ids: int64 ``[N]``.
        """
        step_type = self._experience.step_type
        if self._earlier is not None:
            step_type = torch.cat([self._earlier.step_type, step_type])
        rows = torch.arange(step_type.shape[0], device=step_type.device).unsqueeze(1)
        begins = torch.where(step_type == _FIRST, rows, 0).cummax(dim=0).values
        return begins[positions, env_ids]
