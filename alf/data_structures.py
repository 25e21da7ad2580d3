"""The records that environments, algorithms and losses exchange: TimeStep, Experience, AlgStep, LossInfo."""

import collections
import sys
from typing import Any

import numpy as np
import torch

from alf.nest import extract_any_leaf_from_nest, get_field, map_structure, register_namedtuple, set_field
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


def namedtuple(typename: str, field_names, default_value: Any = None, default_values: tuple = ()) -> type:
    """Return a namedtuple class whose fields have defaults and which nests visit in alphabetical order.

    Args:
        typename: name of the class.
        field_names: names of the fields.
        default_value: default of every field without one in ``default_values``; ``()`` means "absent" in a nest.
        default_values: defaults of the last ``len(default_values)`` fields.
    Raises:
        ValueError: if there are more defaults than fields.
    """
    plain = collections.namedtuple(typename, field_names)
    if len(default_values) > len(plain._fields):
        raise ValueError(f"namedtuple {typename}: expected at most {len(plain._fields)} defaults, got "
                         f"{len(default_values)}.")
    fill = len(plain._fields) - len(default_values)
    plain.__new__.__defaults__ = (default_value, ) * fill + tuple(default_values)

    # `collections.namedtuple` takes the module from its caller, which here is this file: pickling needs the true one.
    plain.__module__ = sys._getframe(1).f_globals.get("__name__", "__main__")
    plain.__init_subclass__ = classmethod(register_namedtuple)
    register_namedtuple(plain)
    return plain


def elastic_namedtuple(name: str, args) -> type:
    """Return a namedtuple class whose missing attributes read as ``()``; its constructor stays strict."""
    base = namedtuple(name, args, default_value=())
    return type(name, (base, ), {"__getattr__": _absent, "__module__": base.__module__, "__slots__": ()})


def _absent(self, name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    return ()


class StepType:
    """Where in its episode a time step stands, as int32."""

    FIRST = np.asarray(0, dtype=np.int32)
    MID = np.asarray(1, dtype=np.int32)
    LAST = np.asarray(2, dtype=np.int32)

    def __new__(cls, value: int):
        """Return the constant that equals ``value``.

        Raises:
            ValueError: if there is none.
        """
        for constant in (cls.FIRST, cls.MID, cls.LAST):
            if value == constant:
                return constant
        raise ValueError(f"StepType: expected 0 (FIRST), 1 (MID) or 2 (LAST), got {value!r}.")


# Comparing a tensor with a Python int is much quicker than with a NumPy scalar.
_FIRST, _MID, _LAST = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)


class TimeStep(
        namedtuple(
            "TimeStep",
            [
                "step_type",  # int32 [B]: StepType
                "reward",  # float32 [B] or [B, R]: reward of prev_action; 0 at FIRST
                "discount",  # float32 [B]: 0 where the episode terminated, 1 elsewhere, time limits included
                "observation",  # nest [B, ...]
                "prev_action",  # nest [B, ...]: action that led here; 0 at FIRST
                "env_id",  # int32 [B]: index of the environment
                "untransformed",  # this time step before data transformers, or ()
                "env_info",  # nest [B, ...]: numbers that the environment reports
            ],
            default_value=())):
    """What an environment returns from ``reset`` and ``step``; leaves are ``[B, ...]``, or ``[T, B, ...]`` in losses.

    Environments that are not batched use the same record without ``B``.
    """

    __slots__ = ()

    def is_first(self):
        """Return where an episode begins, bool with the shape of ``step_type``."""
        return self.step_type == _FIRST

    def is_mid(self):
        """Return where an episode goes on, bool with the shape of ``step_type``."""
        return self.step_type == _MID

    def is_last(self):
        """Return where an episode has ended, bool with the shape of ``step_type``."""
        return self.step_type == _LAST

    def cuda(self) -> "TimeStep":
        """Return this time step on the GPU."""
        return map_structure(lambda tensor: tensor.cuda(), self)

    def cpu(self) -> "TimeStep":
        """Return this time step in main memory."""
        return map_structure(lambda tensor: tensor.cpu(), self)


class Experience(
        namedtuple(
            "Experience",
            [
                "time_step",  # TimeStep
                "action",  # nest: action taken at time_step
                "rollout_info",  # nest: AlgStep.info of rollout_step
                "state",  # nest: state before rollout_step
                "batch_info",  # BatchInfo of a sampled batch
                "replay_buffer",  # the buffer it was sampled from
                "rollout_info_field",  # dotted path of rollout_info in the buffer
            ],
            default_value=())):
    """One step of one algorithm in an environment, as stored for training."""

    __slots__ = ()

    def is_first(self):
        """Return where an episode begins."""
        return self.time_step.is_first()

    def is_mid(self):
        """Return where an episode goes on."""
        return self.time_step.is_mid()

    def is_last(self):
        """Return where an episode has ended."""
        return self.time_step.is_last()

    @property
    def step_type(self):
        """``time_step.step_type``."""
        return self.time_step.step_type

    @property
    def reward(self):
        """``time_step.reward``."""
        return self.time_step.reward

    @property
    def discount(self):
        """``time_step.discount``."""
        return self.time_step.discount

    @property
    def observation(self):
        """``time_step.observation``."""
        return self.time_step.observation

    @property
    def prev_action(self):
        """``time_step.prev_action``."""
        return self.time_step.prev_action

    @property
    def env_id(self):
        """``time_step.env_id``."""
        return self.time_step.env_id

    def get_time_step_field(self, field: str):
        """Return the part of ``time_step`` at the dotted path ``field``."""
        return get_field(self.time_step, field)

    def update_time_step_field(self, field: str, new_value) -> "Experience":
        """Return this experience with the part of ``time_step`` at ``field`` replaced."""
        return self._replace(time_step=set_field(self.time_step, field, new_value))


AlgStep = namedtuple(
    "AlgStep",
    [
        "output",  # nest [B, ...]: action, reward or whatever the algorithm makes
        "state",  # nest [B, ...]: recurrent state for the next step
        "info",  # nest [B, ...]: what losses and training need of this step
    ],
    default_value=())

LossInfo = namedtuple(
    "LossInfo",
    [
        "loss",  # [T, B]: to be minimised
        "scalar_loss",  # []: a loss without batch dimensions, added to the mean of `loss`
        "extra",  # nest: parts of the loss, for summaries only
        "priority",  # [B]: new priorities of the sampled sequences
        "gns",  # []: gradient noise scale
        "batch_label",  # [T, B]: categories for summaries of the loss
    ],
    default_value=())

BatchInfo = namedtuple(
    "BatchInfo",
    [
        "env_ids",  # int64 [B]: environment of each sequence
        "positions",  # int64 [B]: position of its first step in the buffer
        "importance_weights",  # float32 [B]: weights of the losses of sequences sampled by priority
        "replay_buffer",  # the buffer it was sampled from
        "discounted_return",  # float32 [B, T]: return of the episode from each step on
    ],
    default_value=())

BasicRolloutInfo = namedtuple("BasicRolloutInfo", ["rl", "rewards", "repr"], default_value=())
# What is known of a step that no algorithm here has made: all else that an algorithm may ask of its info is absent.
BasicRLInfo = elastic_namedtuple("BasicRLInfo", ["action"])


def add_batch_info(experience: Experience, batch_info, buffer=()) -> Experience:
    """Return ``experience`` with what transformers need to look into the buffer it came from."""
    return experience._replace(batch_info=batch_info, replay_buffer=buffer, rollout_info_field="rollout_info")


def clear_batch_info(experience: Experience) -> Experience:
    """Return ``experience`` without the fields that :func:`add_batch_info` set."""
    return experience._replace(batch_info=(), replay_buffer=(), rollout_info_field=())


def _time_step(step_type, reward, discount, observation, prev_action, env_id, env_info, outer) -> TimeStep:
    """Return a time step of tensors or arrays, as ``observation`` is, with batch dimensions ``outer``."""
    if env_id is None:
        env_id = np.arange(outer[0]) if outer else 0
    values = (np.full(outer, step_type, np.int32), np.asarray(reward, np.float32),
              np.broadcast_to(np.asarray(discount, np.float32), outer).copy(), np.asarray(env_id, np.int32))
    if isinstance(extract_any_leaf_from_nest(observation), torch.Tensor):
        values = tuple(torch.as_tensor(value) for value in values)
    step_type, reward, discount, env_id = values
    return TimeStep(step_type, reward, discount, observation, prev_action, env_id, (), env_info)


def restart(observation,
            action_spec,
            reward_spec: TensorSpec = TensorSpec(()),
            env_id=None,
            env_info={},  # noqa: B006 (never written; the published default)
            batched: bool = False) -> TimeStep:
    """Return the first time step of an episode: reward 0, discount 1, ``prev_action`` 0.

    Args:
        observation: nest of arrays or tensors, ``[B, ...]`` if ``batched``.
        action_spec: nest of specs of the action.
        reward_spec: spec of the reward.
        env_id: index of the environment, ``[B]`` if ``batched``; 0, 1, ... by default.
        env_info: nest of arrays or tensors.
        batched: whether the observation has a batch dimension.
    """
    leaf = extract_any_leaf_from_nest(observation)
    outer = tuple(leaf.shape[:1]) if batched else ()
    zeros = TensorSpec.zeros if isinstance(leaf, torch.Tensor) else TensorSpec.numpy_zeros
    prev_action = map_structure(lambda spec: zeros(spec, outer), action_spec)
    return _time_step(StepType.FIRST, reward_spec.numpy_zeros(outer), 1.0, observation, prev_action, env_id, env_info,
                      outer)


def transition(observation,
               prev_action,
               reward,
               reward_spec: TensorSpec = TensorSpec(()),
               discount=1.0,
               env_id=None,
               env_info={}) -> TimeStep:  # noqa: B006
    """Return a time step in the middle of an episode.

    Args:
        observation: nest of arrays or tensors.
        prev_action: action that led here.
        reward: reward of ``prev_action``, ``[B, *reward_spec.shape]`` or without ``B``.
        reward_spec: spec of the reward.
        discount: a number or ``[B]``.
        env_id: index of the environment.
        env_info: nest of arrays or tensors.
    """
    outer = np.shape(reward)[:np.ndim(reward) - reward_spec.ndim]
    return _time_step(StepType.MID, reward, discount, observation, prev_action, env_id, env_info, outer)


def termination(observation,
                prev_action,
                reward,
                reward_spec: TensorSpec = TensorSpec(()),
                env_id=None,
                env_info={}) -> TimeStep:  # noqa: B006
    """Return the last time step of an episode that terminated: discount 0. Arguments as in :func:`transition`."""
    outer = np.shape(reward)[:np.ndim(reward) - reward_spec.ndim]
    return _time_step(StepType.LAST, reward, 0.0, observation, prev_action, env_id, env_info, outer)


def time_step_spec(observation_spec, action_spec, reward_spec) -> TimeStep:
    """Return the nest of specs of the time steps of an environment."""
    return TimeStep(
        step_type=TensorSpec((), torch.int32),
        reward=reward_spec,
        discount=BoundedTensorSpec((), torch.float32, minimum=0.0, maximum=1.0),
        observation=observation_spec,
        prev_action=action_spec,
        env_id=TensorSpec((), torch.int32))


def make_experience(time_step: TimeStep, alg_step: AlgStep, state) -> Experience:
    """Return the experience of one ``rollout_step``.

    Args:
        time_step: input of the step.
        alg_step: its result.
        state: the state before the step.
    """
    return Experience(time_step=time_step, action=alg_step.output, rollout_info=alg_step.info, state=state)


__all__ = [
    "AlgStep", "BasicRLInfo", "BasicRolloutInfo", "BatchInfo", "Experience", "LossInfo", "StepType", "TimeStep",
    "add_batch_info", "clear_batch_info", "elastic_namedtuple", "make_experience", "namedtuple", "restart",
    "termination", "time_step_spec", "transition"
]


