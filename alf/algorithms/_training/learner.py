"""Learner: what the root of a tree of algorithms does in training, from sequences to changed parameters."""

import contextlib
import functools
from typing import ContextManager, List, Optional, Tuple

import torch
from torch import nn

from alf import summary
from alf.algorithms._training.finite_guard import FiniteGuard
from alf.algorithms._training.from_replay import collect_train_info, prepare_experience
from alf.algorithms._training.loss_scaler import LossScaler
from alf.algorithms._training.mixed_precision import MixedPrecision
from alf.algorithms._training.offline import OfflineReplay, add_offline_loss, collect_offline_info, sample_offline
from alf.algorithms._training.parameters import Assignment, assign_parameters
from alf.algorithms._training.replay import LastUnroll, Replay
from alf.algorithms._training.sequences import cut_sequences, mini_batches
from alf.algorithms._training.update import step_optimizers, told_mean, total_loss, update_parameters
from alf.algorithms.config import TrainerConfig
from alf.data_structures import BatchInfo, Experience, LossInfo, StepType
from alf.nest import Nest, flatten, map_structure
from alf.utils import common, profiling, summary_utils
from alf.utils.distributed import GradientAverager
from alf.utils.per_process_context import PerProcessContext
from alf.utils.summary_utils import record_time

_LAST = int(StepType.LAST)


class Learner:
    """Updates the parameters of a tree of algorithms. Every algorithm has one; that of the root is used.

    Args:
        algorithm: the root algorithm.
        config: the settings of the run; None: the algorithm is updated from losses only.
    """

    def __init__(self, algorithm, config: Optional[TrainerConfig]):
        self._algorithm = algorithm
        self._config = config
        self.assignment: Optional[Assignment] = None  # None: parameters have not been given to optimizers yet
        self.finite_guard = FiniteGuard("raise" if config is None else config.non_finite)
        self.mixed_precision: Optional[MixedPrecision] = None  # with TrainerConfig.enable_amp
        self.compiled_update = None  # with TrainerConfig.compile: a CompiledUpdate
        self._averager: Optional[GradientAverager] = None  # in one of several processes that train together
        self._was_updated = True  # False: the last update was left out

    # ---- parameters ----------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Give the parameters of the tree to their optimizers.

        Raises:
            ValueError: if an optimizer already trains parameters of another tree.
        """
        algorithm, config = self._algorithm, self._config
        assignment = assign_parameters(algorithm)
        assignment.attach(algorithm.name)
        self.assignment = assignment
        if assignment.unhandled:
            common.warning("%s: no optimizer trains these parameters: %s", algorithm.name,
                           [algorithm.get_param_name(p) for p in assignment.unhandled])
        parameters = [p for parameters in assignment.parameters for p in parameters]
        if PerProcessContext().is_distributed:
            self._averager = GradientAverager(parameters)
        if config is None:
            return
        if config.enable_amp:
            self.mixed_precision = MixedPrecision(algorithm, parameters)
            self.finite_guard.loss_scaler = self.mixed_precision.loss_scaler
        if config.compile is not None:
            from alf.algorithms._training.compiled_update import CompiledUpdate  # takes a second, few need it
            self.compiled_update = CompiledUpdate(algorithm, self._losses, config.compile, parameters,
                                                  self.mixed_precision)

    def in_mixed_precision(self) -> ContextManager:
        """Return the context of training: that in which networks compute with the precision of the configs."""
        if self._config is None or not self._config.enable_amp:
            return contextlib.nullcontext()
        self._algorithm.attach_optimizers()
        return self.mixed_precision.active()

    @property
    def loss_scaler(self) -> Optional[LossScaler]:
        """What keeps gradients of float16 in its range; None: nothing needs to."""
        return None if self.mixed_precision is None else self.mixed_precision.loss_scaler

    def trained_parameters(self) -> List[Tuple[str, nn.Parameter]]:
        """Return the parameters that an optimizer trains, with their names, in the order in which they were made."""
        trained = {id(p) for parameters in self._algorithm.attach_optimizers().parameters for p in parameters}
        return [(name, p) for name, p in self._algorithm.named_parameters() if id(p) in trained]

    # ---- one update ----------------------------------------------------------------------------------------------

    def step(self,
             loss_info: LossInfo,
             valid_masks: Optional[torch.Tensor] = None,
             weight: float = 1.0,
             batch_info: Optional[BatchInfo] = None) -> Tuple[LossInfo, List[Tuple[str, nn.Parameter]]]:
        """Make one step of all optimizers; arguments, result and errors as of ``Algorithm.update_with_gradient``."""
        algorithm, config, guard = self._algorithm, self._config, self.finite_guard
        assignment = algorithm.attach_optimizers()
        loss = total_loss(loss_info, valid_masks, _importance_weights(batch_info))
        params, summarize = [], None
        recording = summary.should_record_summaries()
        if recording:
            params = [(algorithm.get_param_name(p), p) for parameters in assignment.parameters for p in parameters]
            if config is not None and config.summarize_grads_and_vars:
                summarize = functools.partial(summary_utils.summarize_gradients, params)
        with record_time("time/backward"):
            self._was_updated = update_parameters(loss if weight == 1.0 else loss * weight, assignment.optimizers,
                                                  summarize, guard, self.loss_scaler, self._averager)
        if not self._was_updated and not guard.overflowed:
            guard.refuse(loss_info, self.trained_parameters)
        if recording:
            if guard.skips:
                summary.scalar("skipped_updates", guard.num_skipped)
            summary_utils.summarize_per_category_loss(loss_info)
            loss_info = loss_info._replace(
                loss=loss.detach(), extra=map_structure(lambda part: told_mean(part, valid_masks), loss_info.extra))
        return loss_info, params

    def valid_masks(self, step_type: torch.Tensor, last_row_counts: bool) -> Optional[torch.Tensor]:
        """Return where the loss counts, bool ``[T, B]``; None: everywhere.

        Args:
            step_type: ``[T, B]``.
            last_row_counts: whether the last row is more than what is bootstrapped from.
        """
        config = self._config
        mask_last_steps = self._algorithm.is_rl() and (config is None or config.mask_out_loss_for_last_step)
        if last_row_counts and not mask_last_steps:
            return None
        masks = step_type != _LAST if mask_last_steps else torch.ones_like(step_type, dtype=torch.bool)
        if not last_row_counts:
            masks[-1] = False
        return masks

    def _steps_at_once(self) -> bool:
        """Return whether ``train_step`` is called once for all steps of a sequence.

        Raises:
            ValueError: if the configs ask for it in spite of a recurrent state.
        """
        has_state = bool(flatten(self._algorithm.train_state_spec))
        at_once = self._config.temporally_independent_train_step
        if at_once and has_state:
            raise ValueError(f"TrainerConfig.temporally_independent_train_step: expected False for "
                             f"{self._algorithm.name}, which has a recurrent state, got True.")
        return not has_state if at_once is None else at_once

    def update(self, experience: Experience, info: Nest, last_row_counts: bool,
               batch_info: Optional[BatchInfo] = None, loss_info: Optional[LossInfo] = None) -> LossInfo:
        """Update once and return the losses.

        Args:
            experience: ``[T, B, ...]``.
            info: what ``calc_loss`` is given ``[T, B, ...]``.
            last_row_counts: whether the last row is more than what is bootstrapped from.
            batch_info: of the sampled sequences.
            loss_info: the losses; None: ``calc_loss(info)``.
        """
        algorithm = self._algorithm
        loss_info = algorithm.calc_loss(info) if loss_info is None else loss_info
        masks = self.valid_masks(experience.step_type, last_row_counts)
        priority = loss_info.priority
        # The published name, which an algorithm may override.
        loss_info, params = algorithm.update_with_gradient(loss_info, masks, batch_info=batch_info)
        if self._was_updated:
            algorithm.after_update(experience.time_step, info)
        with profiling.scope("summaries"):
            algorithm.summarize_train(experience, info, loss_info, params)
        return loss_info._replace(priority=priority)

    def _calc_loss(self, batch: Experience, info_spec: Nest) -> Tuple[Nest, LossInfo]:
        """Return what ``calc_loss`` is given of sequences, and their losses."""
        info = collect_train_info(self._algorithm, batch, info_spec, self._steps_at_once())
        return info, self._algorithm.calc_loss(info)

    def _losses(self, batch: Experience, info_spec: Nest, last_row_counts: bool,
                weights: Optional[torch.Tensor]) -> Tuple[torch.Tensor, Nest]:
        """Return the scalar to minimise and the priorities; arguments as of ``CompiledUpdate``."""
        _, loss_info = self._calc_loss(batch, info_spec)
        return total_loss(loss_info, self.valid_masks(batch.step_type, last_row_counts), weights), loss_info.priority

    def learn(self, batch: Experience, info_spec: Nest, last_row_counts: bool, batch_info: Optional[BatchInfo] = None,
              offline_loss: Optional[torch.Tensor] = None) -> LossInfo:
        """Update once from sequences, and return the losses; after a compiled update, nothing but priorities.

        Args:
            batch: sequences ``[L, B, ...]``.
            info_spec: spec from which the distributions in ``batch.rollout_info`` are rebuilt.
            last_row_counts: whether the last row is more than what is bootstrapped from.
            batch_info: of sampled sequences.
            offline_loss: a scalar to be minimised as well.
        """
        if self.compiled_update is not None and not summary.should_record_summaries():
            return self._learn_compiled(batch, info_spec, last_row_counts, batch_info)
        info, loss_info = self._calc_loss(batch, info_spec)
        if offline_loss is not None:
            loss_info = add_offline_loss(loss_info, offline_loss)
        return self.update(batch, info, last_row_counts, batch_info, loss_info)

    def _learn_compiled(self, batch: Experience, info_spec: Nest, last_row_counts: bool,
                        batch_info: Optional[BatchInfo]) -> LossInfo:
        guard, optimizers = self.finite_guard, self.assignment.optimizers
        loss, priority = self.compiled_update(batch, info_spec, last_row_counts, _importance_weights(batch_info))
        if self._averager is not None:
            loss = self._averager.average(loss)
        if self.loss_scaler is not None:
            self.loss_scaler.unscale(optimizers)
        self._was_updated = step_optimizers(loss, optimizers, guard)
        if self._was_updated:
            self._algorithm.after_update(batch.time_step, ())
        elif not guard.overflowed:
            _, loss_info = self._calc_loss(batch, info_spec)
            guard.refuse(loss_info, self.trained_parameters)
        return LossInfo(loss=loss, priority=() if priority is None else priority)

    # ---- training ------------------------------------------------------------------------------------------------

    def train_on_all(self, replay: LastUnroll | Replay, update_global_counter: bool) -> int:
        """Train on all that is stored, ``num_updates_per_train_iter`` times, in shuffled mini batches.

        A replay buffer is not trained on before it has ``initial_collect_steps`` steps, and more than data transformers
        look back.

        Its last row is only there to be bootstrapped from. An algorithm that has done so leaves it out in
        ``preprocess_experience``. For one that has not, each sequence of ``mini_batch_length`` steps is followed by
        the next step, whose own loss does not count. Either way each step is trained on once an epoch.

        Args:
            replay: where it is stored.
            update_global_counter: count each mini batch as a step of the summaries.
        Returns:
            The number of steps trained on, repeated ones counted each time.
        """
        config = self._config
        if isinstance(replay, Replay) and not replay.can_gather_all():
            return 0
        with record_time("time/replay"):
            stored, batch_info = replay.gather_all()
        self._summarize_stored(stored)
        if stored.step_type.shape[1] < 2:
            return 0
        with record_time("time/preprocess_experience"):
            experience, info_spec = prepare_experience(self._algorithm, stored, replay.rollout_info_spec, batch_info,
                                                       batch_info.replay_buffer)
        num_rows, num_envs = experience.step_type.shape
        last_row_counts = num_rows < stored.step_type.shape[1]
        num_steps = num_rows if last_row_counts else num_rows - 1
        sequences = cut_sequences(experience, config.mini_batch_length or num_steps, 0 if last_row_counts else 1)
        # Only the state that a sequence begins with is needed.
        sequences = sequences._replace(state=map_structure(lambda leaf: leaf[:1], sequences.state))
        batch_size = config.mini_batch_size or num_envs
        num_updates = -(-sequences.step_type.shape[1] // batch_size) * config.num_updates_per_train_iter
        recording = summary.should_record_summaries()
        with record_time("time/train"):
            for i, batch in enumerate(mini_batches(sequences, batch_size, config.num_updates_per_train_iter)):
                if update_global_counter:
                    summary.increment_global_counter()
                # One of the updates of an iteration is summarized, the last: they all belong to the same step.
                quiet = recording and not update_global_counter and i + 1 < num_updates
                with summary.record_if(_never) if quiet else contextlib.nullcontext():
                    self.learn(batch, info_spec, last_row_counts)
        return num_steps * num_envs * config.num_updates_per_train_iter

    def train_on_samples(self, replay: Replay, offline: Optional[OfflineReplay], update_global_counter: bool) -> int:
        """Train on sampled sequences, as often as ``num_updates_per_train_iter`` or ``replay_ratio`` says.

        Args:
            replay: the replay buffer.
            offline: stored buffers to train from as well.
            update_global_counter: count each mini batch as a step of the summaries.
        Returns:
            The number of steps trained on, repeated ones counted each time.
        """
        if not replay.can_sample() and offline is None:
            return 0
        num_done = num_steps = 0
        recording = summary.should_record_summaries()
        with record_time("time/train"):
            while replay.may_update(num_done):
                if update_global_counter:
                    summary.increment_global_counter()
                # As above: the last update of an iteration is summarized.
                quiet = recording and not update_global_counter and not replay.is_last_update(num_done)
                with summary.record_if(_never) if quiet else contextlib.nullcontext():
                    if offline is None:
                        num_learned = self._train_on_sample(replay)
                    else:
                        num_learned = self._train_on_stored_buffers(replay, offline)
                replay.count_update(num_learned)
                num_steps += num_learned
                num_done += 1
        return num_steps

    def _train_on_stored_buffers(self, replay: Replay, offline: OfflineReplay) -> int:
        """Update once from stored buffers, and where it is due from sampled sequences as well.

        Returns:
            The steps that were learned: those that another one follows.
        """
        algorithm, pre_train = self._algorithm, offline.pre_train
        with record_time("time/replay"):
            experience, info_spec = sample_offline(algorithm, offline)
        info = collect_offline_info(algorithm, experience, info_spec, self._steps_at_once(), pre_train)
        loss_info = algorithm.calc_loss_offline(info, pre_train)
        trains_online = replay.can_sample() and offline.trains_online
        offline.count_update()
        num_steps = max(1, experience.step_type.shape[0] - 1) * experience.step_type.shape[1]
        if not trains_online:
            self.update(experience, info, last_row_counts=True, loss_info=loss_info)
            return num_steps
        masks = self.valid_masks(experience.step_type, last_row_counts=True)
        with summary.scope("offline"):
            summary_utils.summarize_loss(loss_info)
        return num_steps + self._train_on_sample(replay, total_loss(loss_info, masks))

    def _train_on_sample(self, replay: Replay, offline_loss: Optional[torch.Tensor] = None) -> int:
        """Update once from sampled sequences; return the steps that were learned: those that another one follows.

        Args:
            replay: the replay buffer.
            offline_loss: a scalar to be minimised as well.
        """
        algorithm = self._algorithm
        changes = algorithm.changes_experience
        with record_time("time/replay"):
            experience, batch_info = replay.sample(time_major=not changes)
        self._summarize_stored(experience)
        info_spec = replay.rollout_info_spec
        with record_time("time/preprocess_experience"):  # told also where there is nothing to do
            if changes:
                experience, info_spec = prepare_experience(algorithm, experience, info_spec, batch_info,
                                                           batch_info.replay_buffer)
        loss_info = self.learn(experience, info_spec, True, batch_info, offline_loss)
        if self._config.priority_replay and self._was_updated:
            if not isinstance(loss_info.priority, torch.Tensor):
                raise ValueError(f"TrainerConfig.priority_replay=True: {algorithm.name} gives no priorities. Set its "
                                 "calculate_priority=True, or priority_replay=False.")
            replay.update_priority(batch_info, loss_info.priority)
        return max(1, experience.step_type.shape[0] - 1) * experience.step_type.shape[1]

    def _summarize_stored(self, experience: Experience) -> None:
        """Write the mean reward of what was stored, if summaries are recorded now."""
        if summary.should_record_summaries():
            name = f"replayer/{self._algorithm.name}_replay_buffer.original_reward_mean"
            summary.scalar(name, experience.reward.mean())


def _importance_weights(batch_info: Optional[BatchInfo]) -> Optional[torch.Tensor]:
    """Return the weights ``[B]`` of sequences that were sampled by priority; None for others."""
    weights = () if batch_info is None else batch_info.importance_weights
    return weights if isinstance(weights, torch.Tensor) else None


def _never() -> bool:
    return False
