"""Training from stored buffers: loaded once into a replay buffer of their own, sampled in each update."""

import functools
from typing import Any, Dict, Tuple

import torch

from alf.algorithms._training.from_replay import prepare_experience
from alf.algorithms._training.sequences import step_through_time
from alf.algorithms.config import TrainerConfig
from alf.data_structures import BatchInfo, Experience, LossInfo, time_step_spec
from alf.experience_replayers.offline_dataset import load_offline_experience
from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.nest import Nest, map_structure
from alf.tensor_specs import TensorSpec
from alf.utils import common, dist_utils


class OfflineReplay:
    """The stored buffers of a run, and which updates also train online.

    Args:
        config: the settings of the run.
        observation_spec: nest of specs of the observation before data transformers.
        action_spec: nest of specs of the action.
        reward_spec: spec of the reward.
        num_earlier: how many time steps before a sampled one data transformers look at.
    Raises:
        OfflineBufferError: if a stored buffer cannot be read, or does not fit the specs.
    """

    def __init__(self, config: TrainerConfig, observation_spec: Nest, action_spec: Nest, reward_spec: TensorSpec,
                 num_earlier: int = 0):
        self._config = config
        self._num_updates = 0
        spec = Experience(time_step=time_step_spec(observation_spec, action_spec, reward_spec), action=action_spec)
        locations = common.as_list(config.offline_buffer_dir)
        experience = load_offline_experience(locations, spec, config.offline_buffer_length)
        num_steps = experience.step_type.shape[0]
        if num_steps < config.mini_batch_length + num_earlier:
            raise ValueError(f"TrainerConfig.mini_batch_length: expected at most the {num_steps - num_earlier} steps "
                             f"that can be sampled from {locations}, got {config.mini_batch_length}.")
        self._buffer = ReplayBuffer(
            data_spec=dist_utils.extract_spec(experience, from_dim=1),
            num_environments=1,
            max_length=num_steps,
            num_earliest_frames_ignored=num_earlier,
            # Neither is what configs say of the online buffer meant for this one, nor are the files copied again.
            prioritized_sampling=False,
            recent_data_ratio=0.0,
            allow_multiprocess=False,
            keep_episodic_info=True,  # data transformers may ask
            record_episodic_return=False,
            state_interval=1,
            enable_checkpoint=False,
            name="offline_replay_buffer")
        self._buffer.add_steps(map_structure(lambda leaf: leaf.unsqueeze(1), experience))
        common.info("offline training: %d steps from %s", num_steps, locations)

    @property
    def buffer(self) -> ReplayBuffer:
        """The stored steps, as those of one environment."""
        return self._buffer

    @property
    def pre_train(self) -> bool:
        """Whether the next update is one of the first ``rl_train_after_update_steps``, which train offline only."""
        return self._num_updates < self._config.rl_train_after_update_steps

    @property
    def trains_online(self) -> bool:
        """Whether the next update also trains on online experience, as far as the settings say."""
        return not self.pre_train and self._num_updates % self._config.rl_train_every_update_steps == 0

    def count_update(self) -> None:
        """Tell that an update was made."""
        self._num_updates += 1

    def sample(self) -> Tuple[Experience, BatchInfo]:
        """Return ``mini_batch_size`` sequences of ``mini_batch_length`` steps ``[B, T, ...]``."""
        return self._buffer.get_batch(self._config.mini_batch_size, self._config.mini_batch_length)

    def state_dict(self) -> Dict[str, Any]:
        """Return the number of updates that were made."""
        return {"num_offline_updates": self._num_updates}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self._num_updates = state.get("num_offline_updates", 0)  # none in a run that had no stored buffers before


def sample_offline(algorithm, offline: OfflineReplay) -> Tuple[Experience, Nest]:
    """Return sequences of stored buffers ``[T, B, ...]`` ready for training, and the spec of their ``rollout_info``.

    Args:
        algorithm: the root algorithm, whose data transformers and ``preprocess_experience`` are applied.
        offline: the stored buffers.
    """
    stored, batch_info = offline.sample()
    stored = stored._replace(rollout_info=algorithm.offline_rollout_info(stored.action))
    info_spec = dist_utils.extract_spec(stored.rollout_info, from_dim=2)
    return prepare_experience(algorithm, stored, info_spec, batch_info, offline.buffer)


def collect_offline_info(algorithm, batch: Experience, info_spec: Nest, at_once: bool, pre_train: bool) -> Nest:
    """Return what ``calc_loss_offline`` needs of sequences.

    Args:
        algorithm: the root algorithm.
        batch: sequences ``[T, B, ...]`` from stored buffers.
        info_spec: spec from which the distributions in ``batch.rollout_info`` are rebuilt.
        at_once: call ``train_sequence_offline`` once, rather than ``train_step_offline`` for one step after the other.
        pre_train: whether this update trains offline only, before online training begins.
    """
    if at_once or algorithm.trains_sequences:
        rollout_info = dist_utils.params_to_distributions(batch.rollout_info, info_spec)
        return algorithm.train_sequence_offline(batch.time_step, rollout_info, pre_train)
    zero_state = algorithm.get_initial_train_state(batch.step_type.shape[1])
    train_step = functools.partial(algorithm.train_step_offline, pre_train=pre_train)
    return step_through_time(train_step, batch.time_step, batch.rollout_info, zero_state, zero_state)


def add_offline_loss(loss_info: LossInfo, offline_loss: torch.Tensor) -> LossInfo:
    """Return the losses of an online batch plus those of an offline batch.

    Args:
        loss_info: losses of the online steps ``[T, B]``.
        offline_loss: what is to be minimised of the offline steps, a scalar.
    """
    scalar_loss = loss_info.scalar_loss
    total = offline_loss if isinstance(scalar_loss, tuple) else scalar_loss + offline_loss
    return loss_info._replace(scalar_loss=total)
