"""Training from stored experience: what happens to it before ``train_step`` and how ``train_step`` is called."""

from typing import Tuple

from alf.algorithms._training.sequences import step_through_time, swap_time_and_batch
from alf.data_structures import BatchInfo, Experience, add_batch_info
from alf.nest import Nest, flatten, map_structure, prune_nest_like
from alf.utils import dist_utils


def prepare_experience(algorithm, stored: Experience, stored_info_spec: Nest, batch_info: BatchInfo,
                       replay_buffer) -> Tuple[Experience, Nest]:
    """Return experience after data transformers and ``preprocess_experience``, and the spec of its ``rollout_info``.

    Args:
        algorithm: the root algorithm.
        stored: raw time steps, distributions as parameters ``[B, T, ...]``; a state may be that of the first step only.
        stored_info_spec: spec from which the distributions in ``stored.rollout_info`` are rebuilt.
        batch_info: where the experience comes from.
        replay_buffer: the buffer it comes from, for data transformers that look around.
    Returns:
        - time-major experience, distributions as parameters; it may have fewer rows than ``stored``
        - spec from which the distributions in its ``rollout_info`` are rebuilt
    """
    experience = add_batch_info(stored, batch_info, replay_buffer)
    experience = algorithm.transform_experience(experience)
    info_params, info_spec = experience.rollout_info, stored_info_spec
    given = dist_utils.params_to_distributions(info_params, info_spec)
    time_step, rollout_info = algorithm.preprocess_experience(experience.time_step, given, experience.batch_info)
    if rollout_info is not given:
        info_params = dist_utils.distributions_to_params(rollout_info)
        info_spec = dist_utils.extract_spec(rollout_info, from_dim=2)
    action, state = experience.action, experience.state
    num_rows = time_step.step_type.shape[1]
    if num_rows < experience.step_type.shape[1]:
        action, state = map_structure(lambda leaf: leaf[:, :num_rows], (action, state))
    prepared = Experience(time_step=time_step, action=action, rollout_info=info_params, state=state)
    return swap_time_and_batch(prepared), info_spec


def collect_train_info(algorithm, batch: Experience, info_spec: Nest, at_once: bool) -> Nest:
    """Return the infos ``[L, B, ...]`` of ``train_step`` for sequences.

    Args:
        algorithm: the root algorithm.
        batch: sequences ``[L, B, ...]``; its ``state``, if there is one, is that before the first step ``[1, B, ...]``.
        info_spec: spec from which the distributions in ``batch.rollout_info`` are rebuilt.
        at_once: call ``train_sequence`` once, rather than ``train_step`` for one step after the other.
    """
    if at_once or algorithm.trains_sequences:
        rollout_info = dist_utils.params_to_distributions(batch.rollout_info, info_spec)
        if at_once:
            return algorithm.train_sequence(batch.time_step, rollout_info)
        return algorithm.train_sequence(batch.time_step, rollout_info, _initial_state(algorithm, batch))


    def train_step(inputs, state, rollout_info):
        return algorithm.train_step(inputs, state, dist_utils.params_to_distributions(rollout_info, info_spec))

    zero_state = algorithm.get_initial_train_state(batch.step_type.shape[1])
    return step_through_time(train_step, batch.time_step, batch.rollout_info, _initial_state(algorithm, batch),
                             zero_state)


def _initial_state(algorithm, batch: Experience) -> Nest:
    if flatten(batch.state):
        # What only acting needs, as the state of exploration noise, is stored too.
        try:
            state = prune_nest_like(batch.state, algorithm.train_state_spec, value_to_match=())
        except RuntimeError as error:
            raise ValueError(
                f"TrainerConfig.use_rollout_state=True: expected a train_state_spec of {algorithm.name} that is a part "
                f"of what rollout_step keeps, got {algorithm.train_state_spec}, and {algorithm.rollout_state_spec} "
                f"there: {error} Give both steps the same state, or set use_rollout_state=False.") from error
        return map_structure(lambda leaf: leaf[0], state)
    return algorithm.get_initial_train_state(batch.step_type.shape[1])
