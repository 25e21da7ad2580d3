"""How an action is made: by an actor, by the values of discrete actions, or by both."""

import enum
from typing import Any, List, Optional, Tuple

from alf import nest
from alf.tensor_specs import BoundedTensorSpec


class ActionType(enum.Enum):
    """Kind of an action."""

    Discrete = "discrete"  # one discrete action, chosen by its values
    Continuous = "continuous"  # a nest of continuous actions, made by an actor
    Mixed = "mixed"  # continuous actions made by an actor, and a discrete one chosen by its values together with them


class ActionParts:
    """The continuous and the discrete part of an action spec, and the way from parts to actions and back.

    Args:
        action_spec: nest of bounded specs: continuous ones, at most one discrete one of shape ``()``, or both.
        name: of the algorithm, for messages.
    Raises:
        ValueError: if the spec is something else.
    """

    def __init__(self, action_spec: Any, name: str):
        specs = nest.flatten(action_spec)
        handled = "continuous actions, one discrete action of shape (), or both"
        if not specs:
            raise ValueError(f"{name}.action_spec: expected {handled}, got the empty nest {action_spec!r}.")
        discrete = [i for i, spec in enumerate(specs) if spec.is_discrete]
        if len(discrete) > 1 or any(specs[i].ndim for i in discrete):
            raise ValueError(f"{name}.action_spec: expected {handled}, got {action_spec}. Make one number of several "
                             "discrete actions, or use an algorithm with a policy over them, as PPOAlgorithm.")
        self._structure = nest.flatten_with_structure(action_spec)[1]
        self.discrete_place: Optional[int] = discrete[0] if discrete else None
        self.discrete_spec: Optional[BoundedTensorSpec] = specs[discrete[0]] if discrete else None
        continuous = [spec for spec in specs if spec.is_continuous]
        if not discrete:
            self.type = ActionType.Continuous
            self.continuous_spec = action_spec
        else:
            self.type = ActionType.Mixed if continuous else ActionType.Discrete
            # What the actor makes: a single spec, or a list of them.
            self.continuous_spec = continuous[0] if len(continuous) == 1 else continuous
        self.specs: List[BoundedTensorSpec] = specs

    def split(self, action: Any) -> Tuple[Any, Any]:
        """Return the continuous part, nested as ``continuous_spec``, and the discrete leaf; ``()`` where there is none.

        Args:
            action: nest as the action spec, of tensors, distributions or numbers.
        """
        if self.type == ActionType.Continuous:
            return action, ()
        leaves = nest.flatten(action)
        discrete = leaves.pop(self.discrete_place)
        if self.type == ActionType.Discrete:
            return (), discrete
        return (leaves[0] if len(leaves) == 1 else leaves), discrete

    def join(self, continuous: Any, discrete: Any) -> Any:
        """Return a nest as the action spec from its parts; what :meth:`split` undoes."""
        if self.type == ActionType.Continuous:
            return continuous
        leaves = [] if self.type == ActionType.Discrete else nest.flatten(continuous)
        leaves.insert(self.discrete_place, discrete)
        return self._structure.unflatten(leaves)

    def critic_inputs(self, observation: Any, continuous: Any) -> Any:
        """Return what critics are given: they value a continuous action, or all discrete ones, perhaps beside one.

        Args:
            observation: nest ``[B, ...]``.
            continuous: continuous part of the action ``[B, ...]``, ``()`` if there is none.
        """
        return observation if self.type == ActionType.Discrete else (observation, continuous)


def check_continuous(action_spec: Any, name: str,
                     otherwise: str = "SacAlgorithm also handles a discrete action, alone or beside continuous ones."
                     ) -> None:
    """Raise if an action is not a nest of continuous ones.

    Args:
        action_spec: nest of specs of the action.
        name: of the algorithm, for the message.
        otherwise: what to use for other actions.
    Raises:
        ValueError: if there is a discrete one in it.
    """
    if not all(spec.is_continuous for spec in nest.flatten(action_spec)):
        raise ValueError(f"{name}.action_spec: expected continuous actions, got {action_spec}. {otherwise}")
