"""Checks of action specs at the door of a network, with errors that name the spec and what was expected."""

import numpy as np

from alf.tensor_specs import BoundedTensorSpec, TensorSpec


def check_single_action_spec(spec: TensorSpec, owner: str) -> None:
    """Raise a ValueError unless `spec` is one spec and not a nest."""
    if not isinstance(spec, TensorSpec):
        raise ValueError(
            f"{owner}.action_spec: expected one TensorSpec, got {spec!r}. A nest of actions is handled by "
            f"ActorDistributionNetwork, which makes a projection network for each."
        )


def check_discrete_action_spec(spec: BoundedTensorSpec, owner: str) -> int:
    """Return the number of actions of a discrete spec with values `0 .. n - 1`, the same for all components.

    Raises:
        ValueError: if the spec is something else.
    """
    check_single_action_spec(spec, owner)
    if not spec.is_discrete or not spec.is_bounded():
        raise ValueError(
            f"{owner}.action_spec: expected a discrete BoundedTensorSpec (integer dtype), got {spec}. For "
            f"continuous actions use a continuous projection network, such as NormalProjectionNetwork."
        )
    if np.any(spec.minimum != 0):
        raise ValueError(f"{owner}.action_spec: expected actions that begin with 0, got {spec}.")
    numbers = np.unique(np.asarray(spec.maximum, dtype=np.int64)) + 1
    if len(numbers) != 1:
        raise ValueError(
            f"{owner}.action_spec: expected the same number of actions for all components, got {numbers.tolist()} in "
            f"{spec}. Make each component an action of its own, in a nest of specs of shape ()."
        )
    return int(numbers[0])


def check_continuous_action_spec(spec: TensorSpec, owner: str) -> None:
    """Raise a ValueError unless `spec` is continuous and one-dimensional."""
    check_single_action_spec(spec, owner)
    if not spec.is_continuous:
        raise ValueError(
            f"{owner}.action_spec: expected a continuous spec (floating point dtype), got {spec}. For discrete actions "
            f"use a discrete projection network, such as CategoricalProjectionNetwork."
        )
    if spec.ndim != 1:
        raise ValueError(f"{owner}.action_spec: expected a one-dimensional spec, got {spec} of shape {spec.shape}.")


def check_bounded_action_spec(spec: TensorSpec, owner: str, reason: str) -> None:
    """Raise a ValueError unless `spec` has finite bounds; `reason` says what needs them and how to do without."""
    if not spec.is_bounded() or not (np.all(np.isfinite(spec.minimum)) and np.all(np.isfinite(spec.maximum))):
        raise ValueError(f"{owner}.action_spec: expected a BoundedTensorSpec with finite bounds, got {spec}. {reason}")
