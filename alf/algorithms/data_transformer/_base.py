"""What a data transformer is, several in a row, and how a conf makes them."""

from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple, Union

from torch import nn

import alf.nest as nest
from alf.algorithms.data_transformer._update_mode import UpdateMode
from alf.config_util import configurable
from alf.data_structures import Experience, TimeStep
from alf.tensor_specs import TensorSpec


class DataTransformer(nn.Module):
    """Base of transformers. Subclasses define ``transform_timestep()`` and ``transform_experience()``."""

    # Whether transform_experience() looks into the replay buffer. What it finds there is raw, so such a
    # transformer must stand before all that change the data.
    reads_replay_buffer = False
    # Whether the transformer leaves the data that later ones see as they are.
    keeps_data = False
    # Whether what comes to transform_experience() must be as it is stored.
    needs_stored_data = False
    # Whether no other transformer may come after it.
    comes_last = False
    # Whether it works on sequences sampled from a replay buffer, and on nothing else.
    needs_samples = False

    def __init__(self, transformed_observation_spec, state_spec):
        """
        Args:
            transformed_observation_spec: nest of specs of the observation after the transformation.
            state_spec: nest of specs of the state that goes from one unroll step to the next.
        """
        super().__init__()
        self._transformed_observation_spec = transformed_observation_spec
        self._state_spec = state_spec

    @property
    def stack_size(self) -> int:
        """How many frames one transformed observation is made of."""
        return 1

    @property
    def changed_fields(self) -> Tuple[str, ...]:
        """Paths of the fields of Experience that this transformer changes in a sampled batch but not in the replay
        buffer, so that a later transformer which reads them from the buffer would miss the change."""
        return ()

    @property
    def read_fields(self) -> Tuple[str, ...]:
        """Paths of the fields of Experience that this reads from the replay buffer and combines with the batch."""
        return ()

    @property
    def transformed_observation_spec(self):
        """Nest of specs of the observation after the transformation."""
        return self._transformed_observation_spec

    @property
    def state_spec(self):
        """Nest of specs of the state that goes from one unroll step to the next."""
        return self._state_spec

    def follow_rollout(self) -> None:
        """Update running statistics in the rollout: the algorithm trains on that alone."""
        for mode in self._update_modes():
            mode.follow_rollout()

    @property
    def follows_rollout(self) -> bool:
        """Whether running statistics are updated in the rollout."""
        return any(mode.is_rollout for mode in self._update_modes())

    def freeze_statistics(self) -> None:
        """Leave running statistics as they are, or as they are loaded, in this process."""
        for mode in self._update_modes():
            mode.freeze()

    def _update_modes(self) -> List[UpdateMode]:
        return [module._is_update_time for module in self.modules() if hasattr(module, "_is_update_time")]

    def check_training(self, algorithm, config) -> None:
        """Raise if an algorithm cannot be trained on what this transformer makes. The trainer calls it once, at start.

        A subclass that overrides it calls this one, too.

        Args:
            algorithm: the root algorithm.
            config: the TrainerConfig of the run.

        Raises:
            ValueError: saying what to set.
        """
        if not self.needs_samples:
            return
        name = type(self).__name__
        if algorithm.on_policy:
            raise ValueError(
                f"{name} needs sampled sequences, but {algorithm.name} is on-policy and learns from its unroll. Take "
                f"{name} out of TrainerConfig.data_transformer_ctor, or use an off-policy algorithm."
            )
        if config.whole_replay_buffer_training:
            raise ValueError(
                f"{name} needs sampled sequences, got TrainerConfig.whole_replay_buffer_training=True. Set "
                "alf.config('TrainerConfig', whole_replay_buffer_training=False, clear_replay_buffer=False, "
                "mini_batch_length=..., mini_batch_size=...)."
            )

    def transform_timestep(self, timestep: TimeStep, state) -> Tuple[TimeStep, Any]:
        """Return the transformed time step and the new state.

        Args:
            timestep: leaves ``[B, ...]``.
            state: nest like ``state_spec``, leaves ``[B, ...]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define transform_timestep().")

    def transform_experience(self, experience: Experience) -> Experience:
        """Return the transformed experience.

        Args:
            experience: leaves ``[B, T, ...]``, with ``batch_info`` and ``replay_buffer``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define transform_experience().")


class SimpleDataTransformer(DataTransformer):
    """Base of transformers without state that treat time steps and experience alike. A subclass defines
    ``_transform()``."""

    def __init__(self, transformed_observation_spec):
        """
        Args:
            transformed_observation_spec: nest of specs of the observation after the transformation.
        """
        super().__init__(transformed_observation_spec, state_spec=())

    def _transform(self, timestep: TimeStep) -> TimeStep:
        """Return the transformed time step, whatever its batch dimensions."""
        raise NotImplementedError(f"{type(self).__name__} must define _transform().")

    def transform_timestep(self, timestep: TimeStep, state) -> Tuple[TimeStep, Any]:
        return self._transform(timestep), state

    def transform_experience(self, experience: Experience) -> Experience:
        return experience._replace(time_step=self._transform(experience.time_step))


class IdentityDataTransformer(SimpleDataTransformer):
    """Changes nothing."""

    keeps_data = True

    def __init__(self, observation_spec=None):
        """
        Args:
            observation_spec: nest of specs of the observation.
        """
        super().__init__(observation_spec)

    def _transform(self, timestep: TimeStep) -> TimeStep:
        return timestep


@configurable
class UntransformedTimeStep(SimpleDataTransformer):
    """Keeps the time step as it is now in ``time_step.untransformed``, for algorithms that need raw data
    too."""

    keeps_data = True

    def __init__(self, observation_spec=None, fields_to_keep: Optional[Iterable[str]] = None):
        """
        Args:
            observation_spec: nest of specs of the observation.
            fields_to_keep: names of the fields of TimeStep to keep; None: all.
        """
        super().__init__(observation_spec)
        possible = [field for field in TimeStep._fields if field != "untransformed"]
        fields = possible if fields_to_keep is None else list(fields_to_keep)
        unknown = set(fields) - set(possible)
        if unknown:
            raise ValueError(
                f"UntransformedTimeStep.fields_to_keep: {sorted(unknown)} are no fields of a time step; "
                f"expected some of {possible}."
            )
        self._dropped = {field: () for field in TimeStep._fields if field not in fields}

    def _transform(self, timestep: TimeStep) -> TimeStep:
        return timestep._replace(untransformed=timestep._replace(**self._dropped))


class SequentialDataTransformer(DataTransformer):
    """Several transformers, one after the other."""

    def __init__(self, data_transformer_ctors: Sequence[Callable], observation_spec):
        """
        Args:
            data_transformer_ctors: each is called with ``observation_spec=`` what the one before gives. Those
                that read the replay buffer come first.
            observation_spec: nest of specs of the raw observation.

        Raises:
            ValueError: a transformer that needs raw data comes after one that changes them.
        """
        members: List[DataTransformer] = []
        for ctor in data_transformer_ctors:
            member = ctor(observation_spec=observation_spec)
            observation_spec = member.transformed_observation_spec
            members.append(member)
        _check_order(members)
        super().__init__(observation_spec, [member.state_spec for member in members])
        self._members = nn.ModuleList(members)

    @property
    def stack_size(self) -> int:
        """How many frames one transformed observation is made of."""
        return max(member.stack_size for member in self._members)

    def members(self) -> List[DataTransformer]:
        """Return the transformers in the order in which they act."""
        return list(self._members)

    def check_training(self, algorithm, config) -> None:
        for member in self._members:
            member.check_training(algorithm, config)

    def transform_timestep(self, timestep: TimeStep, state) -> Tuple[TimeStep, Any]:
        new_state = []
        for member, member_state in zip(self._members, state or [()] * len(self._members)):
            timestep, member_state = member.transform_timestep(timestep, member_state)
            new_state.append(member_state)
        return timestep, new_state

    def transform_experience(self, experience: Experience) -> Experience:
        for member in self._members:
            experience = member.transform_experience(experience)
        return experience


def _check_order(members: Sequence[DataTransformer]) -> None:
    for i, member in enumerate(members):
        for earlier in members[:i]:
            _check_pair(earlier, member)


def _check_pair(earlier: DataTransformer, later: DataTransformer) -> None:
    """Raise if ``later`` must not come after ``earlier``."""
    first, second = type(earlier).__name__, type(later).__name__
    changes_data = not earlier.keeps_data and not earlier.reads_replay_buffer
    if changes_data and later.reads_replay_buffer:
        raise ValueError(
            f"{second} reads raw data from the replay buffer, but comes after {first}, which changes "
            f"them. Put {second} before {first} in data_transformer_ctor."
        )
    if changes_data and isinstance(later, UntransformedTimeStep):
        raise ValueError(
            f"UntransformedTimeStep keeps the time step as it was before transformations, but comes "
            f"after {first}. Put it first in data_transformer_ctor."
        )
    if earlier.comes_last and not isinstance(later, IdentityDataTransformer):
        raise ValueError(
            f"{first} works on what all other transformers have made, but {second} comes after it. Put {first} after "
            f"{second}, last in data_transformer_ctor."
        )
    if later.needs_stored_data and not earlier.keeps_data:
        raise ValueError(
            f"{second} needs observations and rewards as they are stored, but comes after {first}, which changes "
            f"them. Put {second} before {first} in data_transformer_ctor."
        )
    stale = sorted(set(earlier.changed_fields) & set(later.read_fields))
    if stale:
        raise ValueError(
            f"{second} reads {stale} of other steps from the replay buffer, where they are not changed by {first}. "
            f"Leave them out of {second}.fields."
        )


@configurable
def create_data_transformer(
    data_transformer_ctor: Union[None, Callable, Sequence[Callable]],
    observation_spec,
    device: Optional[str] = None,
) -> DataTransformer:
    """Return the transformer that a conf asks for.

    Args:
        data_transformer_ctor: a constructor, called with ``observation_spec=...``, or a list of them (those
            that read the replay buffer first); None or an empty list changes nothing.
        observation_spec: nest of specs of the raw observation.
        device: where its statistics live; None: where they are made.
    """
    if data_transformer_ctor is None:
        ctors = []
    elif isinstance(data_transformer_ctor, (list, tuple)):
        ctors = list(data_transformer_ctor)
    else:
        ctors = [data_transformer_ctor]
    for ctor in ctors:
        if not callable(ctor):
            raise TypeError(
                "create_data_transformer: expected constructors of data transformers (classes or "
                f"functools.partial of them), got {ctor!r}."
            )
    if not ctors:
        transformer = IdentityDataTransformer(observation_spec)
    elif len(ctors) == 1:
        transformer = ctors[0](observation_spec=observation_spec)
    else:
        transformer = SequentialDataTransformer(ctors, observation_spec)
    return transformer if device is None else transformer.to(device)


def field_specs(name: str, observation_spec, fields: Optional[Iterable[str]]) -> List[Tuple[str, TensorSpec]]:
    """Return path and spec of each tensor to transform.

    Args:
        name: of the transformer, for messages.
        observation_spec: nest of specs.
        fields: dotted paths of tensors; None: the observation is one tensor.
    """
    result = []
    for field in ("",) if fields is None else fields:
        try:
            spec = nest.get_field(observation_spec, field)
        except LookupError as e:
            raise ValueError(
                f"{name}.fields: there is no '{field}' in the observation {observation_spec}."
            ) from e
        if not isinstance(spec, TensorSpec):
            what = (
                "the observation is a nest: name its tensors in `fields`"
                if field == ""
                else f"'{field}' is a nest: name the tensors in it"
            )
            raise ValueError(f"{name}.fields: {what}. Observation: {observation_spec}.")
        result.append((field, spec))
    return result
