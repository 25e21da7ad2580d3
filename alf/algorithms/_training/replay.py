"""Experience kept for training: the last unroll, or what a replay buffer holds."""

import math
from typing import Any, Dict, List, Optional, Tuple

import torch

from alf.algorithms._training.sequences import swap_time_and_batch
from alf.algorithms.config import TrainerConfig
from alf.data_structures import BatchInfo, Experience, StepType, TimeStep
from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.nest import Nest, flatten, get_field, map_structure, pack_sequence_as
from alf.utils import dist_utils
from alf.utils.checkpoint_utils import CheckpointError
from alf.utils.schedulers import as_scheduler

_FIRST, _LAST = int(StepType.FIRST), int(StepType.LAST)


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
        self._loaded: List[torch.Tensor] = []  # of a checkpoint: the earlier time steps, as leaves
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
        elif self._loaded:
            step_type = experience.step_type
            self._earlier = pack_sequence_as(experience.time_step, [leaf.to(step_type.device) for leaf in self._loaded])
        self._loaded = []
        self._experience = experience
        self._rollout_info_spec = rollout_info_spec

    def _latest_before(self, time_step: TimeStep) -> TimeStep:
        """Return the newest time steps before the last one of an unroll, as many as data transformers look back."""
        def cut(leaf, earlier=None):
            rows = leaf[:-1] if earlier is None else torch.cat([earlier, leaf[:-1]])
            return rows[-self._num_earlier:].clone()

        return map_structure(cut, time_step) if self._earlier is None else map_structure(cut, time_step, self._earlier)

    @property
    def rollout_info_spec(self) -> Nest:
        """Spec from which the distributions of ``rollout_info`` are rebuilt."""
        return self._rollout_info_spec

    def gather_all(self) -> Tuple[Experience, BatchInfo]:
        """Return the unroll ``[B, T + 1, ...]``, and where its rows came from.

        Raises:
            RuntimeError: if there is none yet.
        """
        if self._experience is None:
            raise RuntimeError("There is no experience to train on yet: unroll first.")
        step_type = self._experience.step_type
        env_ids = torch.arange(step_type.shape[1], device=step_type.device)
        positions = torch.full_like(env_ids, self._num_kept)
        batch_info = BatchInfo(env_ids=env_ids, positions=positions, replay_buffer=self)
        return swap_time_and_batch(self._experience), batch_info

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        """Return the time steps that data transformers look at in the next unroll."""
        if self._experience is None or not self._num_earlier:
            return {"earlier": self._loaded}
        return {"earlier": flatten(self._latest_before(self._experience.time_step))}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self._loaded = state.get("earlier", []) if self._num_earlier else []

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


class Replay:
    """A replay buffer as training uses it: made at the first unroll, whose experience says what is stored.

    Args:
        config: the settings of the run.
        num_earlier: how many time steps before a sampled one data transformers look at.
        name: of the algorithm, for messages.
    """

    def __init__(self, config: TrainerConfig, num_earlier: int = 0, name: str = "the algorithm"):
        self._config = config
        self._num_earlier = num_earlier
        self._name = name
        self._buffer: Optional[ReplayBuffer] = None
        self._loaded: Optional[Dict[str, Any]] = None  # contents to be taken over when the buffer is made
        self._rollout_info_spec: Nest = ()
        self._alpha = as_scheduler(config.priority_replay_alpha)
        self._beta = as_scheduler(config.priority_replay_beta)
        self._credit = 0.0  # steps that may still be learned, by replay_ratio
        self._steps_per_update = 0  # of the last update

    @property
    def buffer(self) -> Optional[ReplayBuffer]:
        """The replay buffer; None before the first unroll."""
        return self._buffer

    @property
    def rollout_info_spec(self) -> Nest:
        """Spec from which the distributions of ``rollout_info`` are rebuilt."""
        return self._rollout_info_spec

    @property
    def total_size(self) -> int:
        """Number of steps that are stored, of all environments."""
        return 0 if self._buffer is None else int(self._buffer.total_size)

    def add(self, experience: Experience, rollout_info_spec: Nest, priorities: Optional[torch.Tensor] = None) -> None:
        """Store an unroll.

        Args:
            experience: raw time steps, distributions as parameters ``[T, B, ...]``.
            rollout_info_spec: spec from which the distributions of its ``rollout_info`` are rebuilt.
            priorities: ``[T, B]``, as the algorithm gives them; None: as the buffer gives to new steps.
        """
        self._rollout_info_spec = rollout_info_spec
        if self._buffer is None:
            self._buffer = self._make_buffer(experience)
        if priorities is not None:
            priorities = self._as_stored(priorities, "rollout_priority")
        self._buffer.add_steps(experience, priorities=priorities)
        # An unroll that comes before training may begin, from this buffer or from stored ones, does not count.
        if self._config.replay_ratio is not None and (self._config.offline_buffer_dir is not None or self.can_sample()):
            self._credit += self._config.replay_ratio * experience.step_type.numel()

    def _make_buffer(self, experience: Experience) -> ReplayBuffer:
        config = self._config
        num_envs = experience.step_type.shape[1]
        if num_envs * config.replay_buffer_length < config.initial_collect_steps:
            raise ValueError(
                f"TrainerConfig.initial_collect_steps: expected at most the {num_envs * config.replay_buffer_length} "
                f"steps that {num_envs} environments with replay_buffer_length={config.replay_buffer_length} can "
                f"store, got {config.initial_collect_steps}: training would never begin.")
        buffer = ReplayBuffer(
            data_spec=dist_utils.extract_spec(experience, from_dim=2),
            num_environments=num_envs,
            max_length=config.replay_buffer_length,
            num_earliest_frames_ignored=self._num_earlier,
            prioritized_sampling=config.priority_replay,
            state_field="state" if flatten(experience.state) else None,
            name="replay_buffer")
        self._check_length(buffer)
        if self._loaded:
            try:
                buffer.load_state_dict(self._loaded)
            except RuntimeError as error:
                raise CheckpointError(
                    f"The replay buffer in the checkpoint does not fit, or is damaged: {error}\nTo go on with an empty "
                    'one set alf.config("ReplayBuffer", enable_checkpoint=False).') from error
            _end_lost_episodes(buffer, experience.step_type[0])
        self._loaded = None
        return buffer

    def _check_length(self, buffer: ReplayBuffer) -> None:
        """Raise unless a full buffer always has what an update needs.

        Of its ``max_length`` steps those after the ``num_earlier`` earliest and before the last ``length - 1`` can be
        starts, if their position is a multiple of ``state_interval``. So many steps in a row always hold one.
        """
        config, interval = self._config, buffer.state_interval
        if config.whole_replay_buffer_training:  # and one step that is bootstrapped from
            length, told = (config.mini_batch_length or 1) + 1, f"mini_batch_length={config.mini_batch_length} and 1"
        else:
            length = config.sampled_length
            told = f"mini_batch_length={length}"
        needed = length + self._num_earlier + interval - 1
        if buffer.max_length >= needed:
            return
        if self._num_earlier:
            told += f", {self._num_earlier} earlier ones for FrameStacker"
        if interval > 1:
            told += f", {interval - 1} for ReplayBuffer.state_interval={interval}"
        raise ValueError(f"TrainerConfig.replay_buffer_length: expected at least {needed} steps of each environment "
                         f"({told}), got {buffer.max_length}: training would never begin, or stop again and again.")

    def has_initial_steps(self) -> bool:
        """Return whether ``initial_collect_steps`` steps are stored."""
        return self._buffer is not None and self.total_size >= self._config.initial_collect_steps

    def can_gather_all(self) -> bool:
        """Return whether training on all may begin: enough is stored for ``initial_collect_steps`` and more than the
        earliest frames."""
        return self.has_initial_steps() and int(self._buffer.current_size.max()) > self._num_earlier

    def can_sample(self) -> bool:
        """Return whether training may begin: enough is stored for ``initial_collect_steps`` and for a sequence."""
        return self.has_initial_steps() and self._buffer.num_starts(self._config.sampled_length) > 0

    def gather_all(self) -> Tuple[Experience, BatchInfo]:
        """Return all stored experience ``[B, T, ...]`` but the earliest frames, which only data transformers read.

        With ``mini_batch_length`` ``T`` is a multiple of it plus 1, for the last step is bootstrapped from: the oldest
        steps are left out. ``T`` may be 1.
        """
        experience, batch_info = self._buffer.gather_all(ignore_earliest_frames=True)
        surplus = (experience.step_type.shape[1] - 1) % (self._config.mini_batch_length or 1)
        if surplus:
            experience = map_structure(lambda leaf: leaf[:, surplus:], experience)
            batch_info = batch_info._replace(positions=batch_info.positions + surplus)
        return experience, batch_info

    def sample(self, time_major: bool = False) -> Tuple[Experience, BatchInfo]:
        """Return sequences ``[mini_batch_size, mini_batch_length, ...]`` and where they come from.

        Importance weights are ``(p / mean p) ** -beta``: Eq. (1) and section 3.4 of https://arxiv.org/abs/1511.05952;
        with ``normalize_importance_weights_by_max`` divided by the largest of the batch.

        Args:
            time_major: return the sequences as ``[mini_batch_length, mini_batch_size, ...]``.
        """
        batch_size = self._config.mini_batch_size or self._buffer.num_environments
        experience, batch_info = self._buffer.get_batch(batch_size, self._config.sampled_length, time_major)
        if self._config.priority_replay:
            weights = batch_info.importance_weights.pow(-self._beta())
            if self._config.normalize_importance_weights_by_max:
                weights = weights / weights.max()
            batch_info = batch_info._replace(importance_weights=weights)
        return experience, batch_info

    def update_priority(self, batch_info: BatchInfo, priority: torch.Tensor) -> None:
        """Give sampled sequences the priorities ``[B]`` that the loss found."""
        self._buffer.update_priority(batch_info.env_ids, batch_info.positions,
                                     self._as_stored(priority, "calc_loss"))

    def _as_stored(self, priority: torch.Tensor, source: str) -> torch.Tensor:
        """Return ``(p + eps) ** alpha``, in main memory.

        Args:
            priority: any shape.
            source: the method that gave them.
        Raises:
            ValueError: if one is negative, NaN or infinite, which the power may hide.
        """
        priority = priority.detach().cpu()
        low, high = torch.aminmax(priority)
        if not (low.item() >= 0 and high.item() < math.inf):
            wrong = priority[~((priority >= 0) & (priority < math.inf))]
            raise ValueError(f"{self._name}.{source}: expected priorities that are finite and >= 0; {len(wrong)} of "
                             f"{priority.numel()} are not, the first is {wrong[0].item()}.")
        return (priority + self._config.priority_replay_eps).pow(self._alpha())

    # ---- how many updates ----------------------------------------------------------------------------------------

    def may_update(self, num_done: int) -> bool:
        """Return whether another update is due in this iteration.

        Args:
            num_done: updates that were made in it.
        """
        if self._config.replay_ratio is None:
            return num_done < self._config.num_updates_per_train_iter
        return self._credit > 0

    def is_last_update(self, num_done: int) -> bool:
        """Return whether the update that is about to be made is the last one of this iteration.

        Args:
            num_done: updates that were made in it.
        """
        if self._config.replay_ratio is None:
            return num_done + 1 >= self._config.num_updates_per_train_iter
        return self._credit <= self._steps_per_update

    def count_update(self, num_steps: int) -> None:
        """Tell that an update has learned from ``num_steps`` steps."""
        self._steps_per_update = num_steps
        if self._config.replay_ratio is not None:
            self._credit -= num_steps

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Any]:
        """Return the contents of the buffer, if ``ReplayBuffer.enable_checkpoint`` says so, and what is counted."""
        contents = self._loaded or {} if self._buffer is None else self._buffer.state_dict()
        return {
            "credit": self._credit,
            "steps_per_update": self._steps_per_update,
            "_replay_buffer": dict(contents)
        }

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the contents when the buffer is made."""
        self._credit = state["credit"]
        self._steps_per_update = state["steps_per_update"]
        contents = state.get("_replay_buffer", {})
        if self._buffer is None:
            self._loaded = contents
        elif contents:
            self._buffer.load_state_dict(contents)


def _end_lost_episodes(buffer: ReplayBuffer, step_type: torch.Tensor) -> None:
    """End the stored episodes that do not go on, because environments could not be brought to where they were.

    Args:
        buffer: with the contents of a checkpoint.
        step_type: ``[B]``, of the first steps since then.
    """
    stored = buffer.current_size > 0
    env_ids = (stored & (step_type.cpu() == _FIRST)).nonzero().squeeze(1)
    latest = buffer.get_field("time_step.step_type", env_ids, buffer.get_current_position()[env_ids] - 1)
    buffer.end_episodes(env_ids[latest.cpu() != _LAST])
