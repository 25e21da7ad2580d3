"""`ReplayBuffer`: stores experience and samples sequences of it."""

from __future__ import annotations

from typing import Optional, Tuple

import torch

import alf.nest as nest
from alf.config_util import configurable
from alf.data_structures import BatchInfo, StepType
from alf.device_ctx import get_default_device
from alf.experience_replayers import _contents
from alf.experience_replayers._episodes import Episodes
from alf.experience_replayers._memory import bytes_beside_steps, check_memory
from alf.experience_replayers._returns import EpisodicReturns
from alf.experience_replayers._sampling import PrioritizedStarts, Starts
from alf.nest.utils import convert_device
from alf.utils.data_buffer import RingBuffer, whole_number
from alf.utils.row_storage import RowStorage, layout_of


@configurable
class ReplayBuffer(RingBuffer):
    """The latest ``max_length`` steps of each environment, and sequences sampled from them.

    A step is a nest, usually an :class:`~alf.data_structures.Experience`. Its small leaves lie side by side in one row
    of bytes, so that a sampled step costs one access to memory; a leaf of more than 1 KiB, such as an image, has a ring
    of its own.

    The position of a step is how many its environment stored before it: an int64 that never wraps. A sequence may go on
    over the end of an episode, never over the latest step. What is counted is in main memory wherever the data are:
    ``BatchInfo.env_ids`` and ``BatchInfo.positions`` are, too, so that nothing waits for a GPU.

    Random numbers come from torch's default generator for the CPU.

    Args:
        data_spec: nest of TensorSpecs of one step.
        num_environments: number of environments.
        max_length: steps of each environment that are kept.
        num_earliest_frames_ignored: how many of the earliest steps of each environment are no starts of sequences,
            because something that looks at earlier steps, such as FrameStacker, needs them.
        prioritized_sampling: sample in proportion to priority instead of uniformly.
        initial_priority: priority of new steps that come without one, until a larger one was given to any step; from
            then on that one.
        recent_data_steps: see ``recent_data_ratio``.
        recent_data_ratio: this part of each batch is drawn, uniformly, from the ``recent_data_steps`` latest starts of
            each environment; the rest from all starts.
        with_replacement: whether, in uniform sampling, a start may come twice in a batch. Without it none does as
            long as there are enough starts; if there are not, all come equally often, as far as possible. Sampling by
            priority is with replacement always: what has half of all priority is to be half of the batch.
        device: where the data are kept, ``"cpu"`` or ``"cuda"``. Batches come on the default device.
        allow_multiprocess: keep the data in shared memory: a buffer given to another process is the same one. One
            process may write while others read. A reader never gets steps that were half written, or overwritten while
            it read them.
        keep_episodic_info: whether questions about episodes are answered; None: yes, if a step has a ``step_type``.
            What that costs is paid only when questions are asked.
        record_episodic_return: sample the returns of the rest of the episode, ``BatchInfo.discounted_return``.
        default_return: return of steps whose episode has not ended.
        gamma: discount of those returns.
        reward_clip: (minimum, maximum) of the rewards in those returns, or None.
        enable_checkpoint: whether ``state_dict()`` has the contents.
        name: what messages call it.
        state_field: dotted path of the part of a step that is the recurrent state. Of a sampled sequence only that of
            the first step is returned.
        state_interval: store the part at ``state_field`` only for positions that are multiples of it, which then are
            the only starts of sequences.
    Raises:
        ValueError: if an argument is out of range.
        MemoryError: if there is not enough memory; how much is needed is logged.
    """

    def __init__(self,
                 data_spec: nest.Nest,
                 num_environments: int,
                 max_length: int = 1024,
                 num_earliest_frames_ignored: int = 0,
                 prioritized_sampling: bool = False,
                 initial_priority: float = 1.0,
                 recent_data_steps: int = 1,
                 recent_data_ratio: float = 0.0,
                 with_replacement: bool = False,
                 device: str = "cpu",
                 allow_multiprocess: bool = False,
                 keep_episodic_info: Optional[bool] = None,
                 record_episodic_return: bool = False,
                 default_return: float = -1000.0,
                 gamma: float = 0.99,
                 reward_clip: Optional[Tuple[float, float]] = None,
                 enable_checkpoint: bool = False,
                 name: str = "ReplayBuffer",
                 state_field: Optional[str] = None,
                 state_interval: int = 1):
        num_environments, max_length, num_earliest_frames_ignored, recent_data_steps, state_interval = (
            whole_number(f"{name}.{argument}", value)
            for argument, value in (("num_environments", num_environments), ("max_length", max_length),
                                    ("num_earliest_frames_ignored", num_earliest_frames_ignored),
                                    ("recent_data_steps", recent_data_steps), ("state_interval", state_interval)))
        _check_arguments(name, num_earliest_frames_ignored, max_length, recent_data_steps, recent_data_ratio, gamma,
                         reward_clip, state_field, state_interval, allow_multiprocess and prioritized_sampling,
                         allow_multiprocess and record_episodic_return)
        self._state_field, self._state_interval = state_field, state_interval
        layout = layout_of(data_spec, state_field, state_interval)
        self._paths = {leaf.path for leaf in layout.leaves}
        has_episodes = self._path_of("step_type") is not None and (keep_episodic_info is not False
                                                                   or record_episodic_return)
        beside_bytes = bytes_beside_steps(prioritized_sampling, has_episodes, record_episodic_return)
        self._bytes_per_step = layout.bytes_per_step + beside_bytes
        check_memory(name, layout.bytes_per_step, beside_bytes, num_environments, max_length, device)
        super().__init__(data_spec, num_environments, max_length, device, allow_multiprocess, name)
        self._num_ignored = num_earliest_frames_ignored
        self._starts = Starts(num_earliest_frames_ignored, state_interval, with_replacement, recent_data_steps,
                              recent_data_ratio)
        self._priorities = None
        if prioritized_sampling:
            self._priorities = PrioritizedStarts(self._storage.counts, max_length, initial_priority, state_interval,
                                                 num_earliest_frames_ignored, name)
        self._initial_priority = initial_priority
        self._episodes = self._make_episodes(keep_episodic_info, record_episodic_return)
        self._returns = None
        if record_episodic_return:
            paths = (self._path_of("step_type"), self._path_of("reward"), self._path_of("discount"))
            if self._storage.view(paths[1]).ndim != 2:
                raise ValueError(f"{name}: record_episodic_return=True needs a reward of shape [], got "
                                 f"{list(self._storage.view(paths[1]).shape[2:])}.")
            self._returns = EpisodicReturns(self._storage, self._episodes, paths, gamma, reward_clip, default_return)
        self._enable_checkpoint = enable_checkpoint

    def _make_storage(self, data_spec: nest.Nest, device: str) -> RowStorage:
        return RowStorage(data_spec, self._num_environments, self._max_length, device, self._allow_multiprocess,
                          self._state_field, self._state_interval)

    def _path_of(self, field: str) -> Optional[str]:
        """Return the path of a part of the time step, or None if there is no such leaf."""
        return next((path for path in (f"time_step.{field}", field) if path in self._paths), None)

    def _make_episodes(self, keep: Optional[bool], needed: bool) -> Optional[Episodes]:
        path = self._path_of("step_type")
        if path is None and (keep or needed):
            raise ValueError(f"{self._name}: keep_episodic_info and record_episodic_return need a leaf "
                             f"'time_step.step_type' or 'step_type' in data_spec, got {sorted(self._paths)}.")
        if path is None or (keep is False and not needed):
            return None
        return Episodes(self._storage, path, self._path_of("discount"))

    # ---- storing -----------------------------------------------------------------------------------------------------

    @property
    def total_size(self) -> int:
        """Number of steps that are stored, of all environments."""
        return int(self._storage.counts[1].sum())

    @property
    def state_interval(self) -> int:
        """Only positions that are multiples of it are starts of sequences."""
        return self._state_interval

    @property
    def bytes_per_step(self) -> float:
        """Bytes of memory for one step of one environment: the step, and what is kept beside it."""
        return self._bytes_per_step

    @property
    def initial_priority(self) -> float:
        """Priority of new steps that come without one: the largest so far, or the argument of that name."""
        return self._initial_priority if self._priorities is None else self._priorities.largest

    def add_batch(self, batch: nest.Nest, env_ids: Optional[torch.Tensor] = None, blocking: bool = False,
                  priorities: Optional[torch.Tensor] = None) -> None:
        """Store one step of some environments; where the ring is full it replaces the earliest one.

        Args:
            batch: nest ``[B, ...]``.
            env_ids: int64 ``[B]``, none twice; None: all environments.
            blocking: wait until other threads have removed steps (:meth:`dequeue`), so that none is replaced; or for
                :meth:`stop`, after which nothing is stored.
            priorities: ``[B]``; None: :attr:`initial_priority`.
        Raises:
            ValueError: if the data are not as ``data_spec`` says, or a priority is negative, NaN or infinite.
        """
        if env_ids is not None:
            env_ids = self.check_convert_env_ids(env_ids)
        if not blocking:
            self._append(batch, False, env_ids, priorities)
            return
        while self._wait(lambda: self.has_space(env_ids)):
            with self._lock:
                if self.has_space(env_ids):  # else another one was quicker
                    self._append(batch, False, env_ids, priorities)
                    return

    def add_steps(self, batch: nest.Nest, priorities: Optional[torch.Tensor] = None) -> None:
        """Store some steps of all environments.

        Args:
            batch: nest ``[T, num_environments, ...]``.
            priorities: ``[T, num_environments]``; None: :attr:`initial_priority`.
        Raises:
            ValueError: as in :meth:`add_batch`.
        """
        self._append(batch, True, None, priorities)

    def _append(self, batch, has_time, env_ids, priorities) -> None:
        if self._priorities is None:
            self._storage.append(batch, has_time, env_ids)
            return
        envs = self._all_env_ids if env_ids is None else env_ids
        if priorities is not None:
            outer = nest.extract_any_leaf_from_nest(batch).shape[:1] if has_time else ()
            priorities = self._priorities.check(priorities, (*outer, len(envs)))
        num_steps = self._storage.append(batch, has_time, env_ids)
        self._priorities.add(num_steps, envs, priorities)

    def update_priority(self, env_ids: torch.Tensor, positions: torch.Tensor, priorities: torch.Tensor) -> None:
        """Give stored steps new priorities; of several for one step the last one holds.

        Args:
            env_ids: int64 ``[B]``.
            positions: int64 ``[B]``. Steps that were overwritten since they were sampled are left out.
            priorities: ``[B]``.
        Raises:
            RuntimeError: if the buffer does not sample by priority.
            ValueError: for a priority that is negative, NaN or infinite, or a position that is not stored yet.
        """
        if self._priorities is None:
            raise RuntimeError(f"{self._name}.update_priority: this buffer samples uniformly. Set "
                               f"prioritized_sampling=True (TrainerConfig.priority_replay).")
        self._priorities.update(env_ids, positions, priorities)

    # ---- sampling ----------------------------------------------------------------------------------------------------

    def get_batch(self, batch_size: int, batch_length: int,
                  time_major: bool = False) -> Tuple[nest.Nest, BatchInfo]:
        """Return sampled sequences.

        Args:
            batch_size: number of sequences B.
            batch_length: number of steps T of each.
            time_major: return the nest as ``[T, B, ...]``.
        Returns:
            - nest ``[B, T, ...]`` on the default device; the part at ``state_field`` is ``[B, 1, ...]``
            - BatchInfo. ``importance_weights`` ``[B]``, if sampling is by priority, are probability times number of
              starts, which is priority over mean priority: :math:`N P(i)` of Eq. (1) and section 3.4 of
              https://arxiv.org/abs/1511.05952, whose power ``-beta`` is the weight of the loss.
              ``discounted_return`` is ``[B, T]`` if it is recorded.
        Raises:
            ValueError: if there is no start of a sequence of that length.
        """
        if type(batch_size) is not int or type(batch_length) is not int:
            batch_size = whole_number(f"{self._name}.get_batch: batch_size", batch_size)
            batch_length = whole_number(f"{self._name}.get_batch: batch_length", batch_length)
        if batch_size < 1 or batch_length < 1:
            raise ValueError(f"{self._name}.get_batch: expected batch_size and batch_length of at least 1, got "
                             f"{batch_size} and {batch_length}.")
        device = torch.empty(0).device  # the default one, found faster than torch.get_default_device() does
        env_ids, positions, weights = self._draw(batch_size, batch_length)
        batch = self._storage.read_sequences(env_ids, positions, batch_length, device, time_major)
        if self._allow_multiprocess:
            self._replace_overwritten(batch, env_ids, positions, batch_length, device, time_major)
        returns = ()
        if self._returns is not None:
            returns = self._discounted_returns(env_ids, positions, batch_length).to(device)
        return batch, BatchInfo(env_ids, positions, () if weights is None else weights.to(device, torch.float32), self,
                                returns)

    def num_starts(self, batch_length: int) -> int:
        """Return how many steps a sequence of ``batch_length`` steps can begin with."""
        return int(self._starts.count(self._storage.counts, batch_length))

    def _draw(self, batch_size: int, length: int):
        counts = self._storage.counts
        if self._allow_multiprocess:  # sizes before positions: then the earliest step is never too early
            sizes = counts[1].clone()
            counts = torch.stack([counts[0].clone(), sizes, sizes])
        total = self._starts.count(counts, length)
        if total == 0:
            raise ValueError(self._why_no_start(length))
        if self._priorities is not None:
            return self._priorities.draw(self._starts, total, batch_size, length)
        return *self._starts.draw(counts, total, batch_size, length), None

    def _why_no_start(self, length: int) -> str:
        sizes = self._storage.counts[1]
        told = f"{self._name}.get_batch: expected an environment with at least batch_length={length} steps"
        if self._num_ignored:
            told += f" after the num_earliest_frames_ignored={self._num_ignored} earliest ones"
        if self._state_interval > 1:
            told += f", the first at a multiple of state_interval={self._state_interval}"
        return (f"{told}; got {int(sizes.min())} to {int(sizes.max())} steps in {self._num_environments} environments, "
                f"of which each can keep max_length={self._max_length}. Collect more before training "
                f"(TrainerConfig.initial_collect_steps), keep more (replay_buffer_length), or sample shorter sequences "
                f"(mini_batch_length).")

    def _replace_overwritten(self, batch, env_ids, positions, length: int, device, time_major: bool):
        """Draw again what another process has, or may have, overwritten while it was read."""
        lost = self._overwritten(env_ids, positions)
        while len(lost):
            new_env_ids, new_positions, _ = self._draw(len(lost), length)
            again = self._storage.read_sequences(new_env_ids, new_positions, length, device, time_major)
            is_intact = torch.ones(len(lost), dtype=torch.bool, device="cpu")
            is_intact[self._overwritten(new_env_ids, new_positions)] = False
            intact, places = is_intact.nonzero().squeeze(1), lost[is_intact]
            env_ids[places], positions[places] = new_env_ids[intact], new_positions[intact]
            batch_dim = 1 if time_major else 0
            for leaf, new in zip(nest.flatten(batch), nest.flatten(again)):
                leaf.index_copy_(batch_dim, places.to(device), new.index_select(batch_dim, intact.to(device)))
            lost = lost[~is_intact]

    def _overwritten(self, env_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the indices of steps that another process has overwritten, or may be overwriting."""
        intact_from = self._storage.counts[2] - self._max_length
        return (positions < intact_from[env_ids]).nonzero().squeeze(1)

    def _discounted_returns(self, env_ids: torch.Tensor, positions: torch.Tensor, length: int) -> torch.Tensor:
        self._returns.update()
        steps = positions.unsqueeze(1) + torch.arange(length, device="cpu")
        return self._returns.get(env_ids.unsqueeze(1).expand_as(steps).numpy(), steps.numpy())

    def gather_all(self, ignore_earliest_frames: bool = False,
                   convert_to_default_device: bool = True) -> Tuple[nest.Nest, BatchInfo]:
        """Return everything that is stored.

        Args:
            ignore_earliest_frames: leave out the ``num_earliest_frames_ignored`` earliest steps.
            convert_to_default_device: return it on the default device, not where it is stored.
        Returns:
            - nest ``[num_environments, T, ...]``, the part at ``state_field`` too
            - BatchInfo with the positions of the first steps
        Raises:
            ValueError: if environments hold different numbers of steps or none, or with ``state_interval`` above 1,
                because then states are missing.
        """
        sizes = self._storage.counts[1]
        num_left_out = self._num_ignored if ignore_earliest_frames else 0
        length = int(sizes[0]) - num_left_out
        if bool((sizes != sizes[0]).any()) or length < 1:
            raise ValueError(f"{self._name}.gather_all: expected the same number of steps, more than "
                             f"{num_left_out}, in all environments, got {sizes.tolist()}. Store all environments "
                             f"together.")
        if self._state_interval > 1:
            raise ValueError(f"{self._name}.gather_all: expected state_interval=1, got {self._state_interval}: the "
                             f"states of most steps are not stored.")
        device = torch.device(get_default_device() if convert_to_default_device else self.device)
        positions = self.get_earliest_position() + num_left_out
        steps = positions.unsqueeze(1) + torch.arange(length, device="cpu")
        batch = self._storage.read(self._all_env_ids.unsqueeze(1).expand_as(steps), steps)
        batch = convert_device(batch, device)
        returns = ()
        if self._returns is not None:
            returns = self._discounted_returns(self._all_env_ids, positions, length).to(device)
        return batch, BatchInfo(self._all_env_ids.clone(), positions, (), self, returns)

    def dequeue(self, env_ids: Optional[torch.Tensor] = None) -> nest.Nest:
        """Remove the earliest step of some environments and return it, ``[B, 1, ...]``.

        Args:
            env_ids: int64 ``[B]``, none twice; None: all environments.
        Raises:
            ValueError: if one of them holds none, or with ``state_interval`` above 1.
        """
        if self._state_interval > 1:
            raise ValueError(f"{self._name}.dequeue: expected state_interval=1, got {self._state_interval}: the states "
                             f"of most steps are not stored.")
        return super().dequeue(env_ids)

    def get_field(self, field_name: str, env_ids: torch.Tensor, positions: torch.Tensor) -> nest.Nest:
        """Return a part of stored steps, ``[*shape, ...]``, on the device of the buffer.

        Args:
            field_name: dotted path, such as ``"time_step.observation"``.
            env_ids: int64 ``[*shape]``.
            positions: int64 ``[*shape]``.
        Raises:
            LookupError: if there is no such part.
            ValueError: if a step is not stored, or with ``state_interval`` above 1 its state is not.
        """
        if positions.is_cpu:  # looking would make a GPU wait
            self._check_stored(field_name, env_ids, positions)
        return self._storage.read(env_ids, positions, field_name)

    def _check_stored(self, field_name: str, env_ids: torch.Tensor, positions: torch.Tensor) -> None:
        next_positions, sizes, _ = self._storage.counts
        age = next_positions[env_ids] - positions
        if bool(((age < 1) | (age > sizes[env_ids])).any()):
            index = int(((age < 1) | (age > sizes[env_ids])).reshape(-1).nonzero()[0])
            env, position = int(env_ids.reshape(-1)[index]), int(positions.reshape(-1)[index])
            raise ValueError(f"{self._name}.get_field('{field_name}'): expected positions that are stored, which in "
                             f"environment {env} are {int(next_positions[env] - sizes[env])} to "
                             f"{int(next_positions[env]) - 1}, got {position}.")
        if self._state_interval > 1 and f"{field_name}.".startswith(f"{self._state_field}."):
            if bool((positions % self._state_interval != 0).any()):
                raise ValueError(f"{self._name}.get_field('{field_name}'): expected multiples of "
                                 f"state_interval={self._state_interval}, got {positions.tolist()}.")

    # ---- episodes ----------------------------------------------------------------------------------------------------

    def _ask_episodes(self, question: str, pos: torch.Tensor, env_ids: torch.Tensor) -> torch.Tensor:
        if self._episodes is None:
            raise RuntimeError(f"{self._name} keeps no information about episodes: keep_episodic_info is False, or "
                               f"data_spec has no step_type. Set ReplayBuffer.keep_episodic_info=True.")
        answer = getattr(self._episodes, question)(env_ids.cpu().numpy(), pos.cpu().numpy())
        return torch.from_numpy(answer).to(pos.device)

    def get_episode_begin_position(self, pos: torch.Tensor, env_ids: torch.Tensor) -> torch.Tensor:
        """Return where the episodes of stored steps begin, or the earliest position stored if they began before.

        Args:
            pos: int64 ``[*shape]``.
            env_ids: int64 ``[*shape]``.
        Raises:
            ValueError: if a step is not stored.
            RuntimeError: if ``keep_episodic_info`` is False.
        """
        return self._ask_episodes("begin", pos, env_ids)

    def steps_to_episode_end(self, pos: torch.Tensor, env_ids: torch.Tensor) -> torch.Tensor:
        """Return how many steps come after stored ones in their episodes; if those go on, how many are stored.

        Arguments and errors as in :meth:`get_episode_begin_position`.
        """
        return self._ask_episodes("end", pos, env_ids) - pos

    def get_disc_0_begin_position(self, pos: torch.Tensor, env_ids: torch.Tensor) -> torch.Tensor:
        """Return the first stored positions in the episodes of stored steps where the discount is 0; -1: nowhere.

        A discount that is 0 is taken to be 0 from there to the end of the episode.

        Arguments and errors as in :meth:`get_episode_begin_position`.
        """
        return self._ask_episodes("zero_discount", pos, env_ids)

    def end_episodes(self, env_ids: torch.Tensor) -> None:
        """Let the latest steps of some environments be LAST, with the discounts that they have.

        For episodes that do not go on though no LAST step says so: nothing is learned from them to what is stored next,
        and they are bootstrapped from like episodes that ended by a time limit.

        Args:
            env_ids: int64 ``[B]``. Those that hold no step are passed over.
        """
        positions, sizes, _ = self._storage.counts
        env_ids = env_ids.cpu()
        env_ids = env_ids[sizes[env_ids] > 0]
        latest = positions[env_ids] - 1
        path = self._path_of("step_type")
        ended = torch.full(latest.shape, int(StepType.LAST), dtype=self._storage.view(path).dtype, device="cpu")
        self._storage.restore(path, ended, env_ids, latest)
        self._forget_episodes()

    def _forget_episodes(self) -> None:
        """Look at the steps anew when somebody asks about episodes."""
        if self._episodes is not None:
            self._episodes.forget()
        if self._returns is not None:
            self._returns.forget()

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._enable_checkpoint:
            for key, value in _contents.save(self._storage, self._priorities).items():
                destination[prefix + key] = value

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                              error_msgs):
        saved = {key[len(prefix):]: value for key, value in state_dict.items() if key.startswith(prefix)}
        if not self._enable_checkpoint or not saved:
            return
        try:
            _contents.load(self._name, self._storage, self._priorities, saved)
        except ValueError as error:
            error_msgs.append(str(error))
            return
        self._forget_episodes()


def _check_arguments(name, num_ignored, max_length, recent_steps, recent_ratio, gamma, reward_clip, state_field,
                     state_interval, shares_priorities, shares_returns) -> None:
    if max_length < 1:
        raise ValueError(f"{name}.max_length: expected at least 1, got {max_length}.")
    told = {
        "num_earliest_frames_ignored": (0 <= num_ignored < max_length, f"0 to max_length - 1 = {max_length - 1}",
                                        num_ignored),
        "recent_data_steps": (recent_steps >= 1, "at least 1", recent_steps),
        "recent_data_ratio": (0 <= recent_ratio <= 1, "0 to 1", recent_ratio),
        "gamma": (0 <= gamma <= 1, "0 to 1", gamma),
        "reward_clip": (reward_clip is None or (len(reward_clip) == 2 and reward_clip[0] <= reward_clip[1]),
                        "None or (minimum, maximum)", reward_clip),
        "state_interval": (1 <= state_interval <= max_length, f"1 to max_length={max_length}", state_interval),
    }
    for argument, (is_right, expected, got) in told.items():
        if not is_right:
            raise ValueError(f"{name}.{argument}: expected {expected}, got {got}.")
    if state_field is None and state_interval != 1:
        raise ValueError(f"{name}.state_interval: expected 1 without a state_field, got {state_interval}. Recurrent "
                         "states are stored with TrainerConfig.use_rollout_state=True and recurrent networks.")
    if shares_priorities or shares_returns:
        argument = "prioritized_sampling" if shares_priorities else "record_episodic_return"
        raise ValueError(f"{name}.allow_multiprocess: expected False with {argument}=True, got True: priorities and "
                         f"returns are kept in one process. Use one of the two.")
