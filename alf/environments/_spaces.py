"""Gymnasium spaces: their TensorSpecs, and compiled readers of observations and writers of actions."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import gymnasium
import numpy as np

from alf.tensor_specs import BoundedTensorSpec

spaces = gymnasium.spaces


class UnsupportedSpaceError(TypeError):
    """A space has no fixed shape and dtype and so cannot become a TensorSpec."""


class Leaf(NamedTuple):
    """One leaf of an observation space."""

    keys: tuple  # keys and positions that lead to it
    path: str  # the same for people: "observation.image"
    space: Any  # the leaf space
    dtype: np.dtype  # dtype of the spec
    start: Any  # what the space counts from; specs count from 0


def _unsupported(space: Any, path: str, why: str) -> UnsupportedSpaceError:
    return UnsupportedSpaceError(
        f"{path}: the space {space} cannot become a TensorSpec: {why}. Supported are Box, Discrete, "
        f"MultiDiscrete, "
        "MultiBinary, Dict and Tuple. Wrap the environment (gymnasium.wrappers.TransformObservation or "
        "FlattenObservation) so that this part is one of these, or is dropped."
    )


def _children(space: Any, path: str) -> list[tuple[Any, str, Any]]:
    """Return ``(key, path, child space)`` of a Dict or Tuple in the order in which nest visits them."""
    if isinstance(space, spaces.Dict):
        if not all(isinstance(key, str) for key in space.spaces):
            raise _unsupported(space, path, f"expected string keys, got {list(space.spaces)}")
        children = [(key, f"{path}.{key}", space.spaces[key]) for key in sorted(space.spaces)]
    else:
        children = [(i, f"{path}.{i}", child) for i, child in enumerate(space.spaces)]
    if not children:
        raise _unsupported(space, path, "it is empty")
    return children


def _spec_dtype(space: Any, path: str, float_dtype: Any) -> np.dtype:
    dtype = np.dtype(space.dtype)
    if dtype.kind == "f":
        return np.dtype(float_dtype)
    widened = {"uint16": np.int32, "uint32": np.int64}  # torch computes with no unsigned type but uint8
    if dtype.name in widened:
        return np.dtype(widened[dtype.name])
    if dtype.kind in "iub" and dtype.name != "uint64":
        return dtype
    raise _unsupported(space, path, f"there is no tensor dtype for {dtype}")


def _bound(bound: np.ndarray, dtype: np.dtype, simplify: bool) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 bound beyond float32 becomes infinity, as it should
        bound = np.asarray(bound).astype(dtype)
    if simplify and bound.size and (bound == bound.flat[0]).all():
        return bound.flat[0]
    return bound


def _leaf_spec(space: Any, path: str, simplify: bool, float_dtype: Any) -> BoundedTensorSpec:
    if isinstance(space, spaces.Box):
        dtype = _spec_dtype(space, path, float_dtype)
        return BoundedTensorSpec(
            space.shape, dtype, _bound(space.low, dtype, simplify), _bound(space.high, dtype, simplify)
        )
    if isinstance(space, spaces.Discrete):
        return BoundedTensorSpec((), np.int64, 0, int(space.n) - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return BoundedTensorSpec(space.shape, np.int64, 0, _bound(space.nvec - 1, np.dtype(np.int64), simplify))
    if isinstance(space, spaces.MultiBinary):
        return BoundedTensorSpec(space.shape, np.int8, 0, 1)
    raise _unsupported(space, path, f"a {type(space).__name__} has no fixed shape and dtype")


def tensor_spec_from_gym_space(
    space: Any, simplify_box_bounds: bool = True, float_dtype: Any = np.float32, path: str = "space"
) -> Any:
    """Return the nest of BoundedTensorSpec that describes ``space``.

    Every integer space counts from 0 in its spec, whatever its ``start``: networks embed and one-hot these
    values. :func:`observation_leaves` and :func:`action_writer` add and subtract the start.

    Args:
        space: a Gymnasium Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of supported spaces.
        simplify_box_bounds: write bounds that are equal everywhere as one number.
        float_dtype: dtype of the spec of floating point Boxes, whatever their own.
        path: how errors call ``space``.
    Raises:
        UnsupportedSpaceError: for a space without fixed shape and dtype; it names the path.
    """
    if isinstance(space, spaces.Dict):
        return {
            key: tensor_spec_from_gym_space(child, simplify_box_bounds, float_dtype, child_path)
            for key, child_path, child in _children(space, path)
        }
    if isinstance(space, spaces.Tuple):
        return tuple(
            tensor_spec_from_gym_space(child, simplify_box_bounds, float_dtype, child_path)
            for _, child_path, child in _children(space, path)
        )
    return _leaf_spec(space, path, simplify_box_bounds, float_dtype)


def observation_leaves(
    space: Any, float_dtype: Any = np.float32, keys: tuple = (), path: str = "observation"
) -> list[Leaf]:
    """Return the leaves of an observation space in the order of ``alf.nest.flatten``."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return [
            leaf
            for key, child_path, child in _children(space, path)
            for leaf in observation_leaves(child, float_dtype, keys + (key,), child_path)
        ]
    spec = _leaf_spec(space, path, True, float_dtype)
    start = getattr(space, "start", 0)
    if np.ndim(start) == 0 or not np.any(start):
        start = int(np.max(start))
    return [Leaf(keys, path, space, np.dtype(spec.dtype_str), start)]


def read_leaf(leaf: Leaf, observation: Any) -> Any:
    """Return the value of ``leaf`` inside ``observation``, checked and counted from 0.

    The check is of type, dtype and shape: constant time, and it stops what NumPy would cast or broadcast.
    Values beyond declared bounds pass: bounds of real environments are often approximate.

    Raises:
        ValueError: without the environment's name; the caller knows it and adds it.
    """
    value = observation
    for key in leaf.keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            found = f"keys {sorted(value)}" if isinstance(value, dict) else type(value).__name__
            raise ValueError(
                f"{leaf.path} is missing: expected {leaf.space}, got {found}. Return every part that "
                "observation_space declares."
            ) from None
    space = leaf.space
    if isinstance(space, spaces.Discrete):
        if isinstance(value, (int, np.integer)):
            return value - leaf.start if leaf.start else value
        if isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iu":
            return value - leaf.start
        raise _mismatch(leaf, value, "an integer")
    if not isinstance(value, np.ndarray):
        if space.shape == () and isinstance(value, (np.generic, float, int)):
            value = np.asarray(value, dtype=None if isinstance(value, np.generic) else space.dtype)
        else:
            raise _mismatch(leaf, value, "a NumPy array")
    if value.shape != space.shape:
        raise _mismatch(leaf, value, f"shape {space.shape}")
    if isinstance(space, spaces.Box):
        if value.dtype != space.dtype:
            raise _mismatch(leaf, value, f"dtype {space.dtype}")
        return value
    if value.dtype.kind not in "iub":
        raise _mismatch(leaf, value, "an integer dtype")
    return value - leaf.start if np.any(leaf.start) else value


def _mismatch(leaf: Leaf, value: Any, expected: str) -> ValueError:
    if isinstance(value, np.ndarray):
        got = f"an array of shape {value.shape} and dtype {value.dtype}"
    else:
        got = f"{type(value).__name__} {value!r:.80}"
    fix = "Convert what step() and reset() return, or correct observation_space"
    if isinstance(value, (list, tuple)):
        fix = "Return np.asarray(observation, dtype=observation_space.dtype)"
    elif isinstance(value, np.ndarray) and value.shape == leaf.space.shape:
        fix = f"Return observation.astype(np.{np.dtype(leaf.space.dtype).name}), or correct observation_space"
    return ValueError(
        f"{leaf.path}: expected {expected} as the observation space says ({leaf.space}), got {got}. {fix}."
    )


def action_writer(space: Any) -> Callable[[Any], Any]:
    """Return the function that turns an action of the spec into one for the environment, as a copy.

    A copy, because callers reuse their action arrays and environments are free to keep the last action.
    """
    if isinstance(space, spaces.Discrete):
        # A NumPy integer, as Discrete.sample() returns: Discrete.contains takes 0.4 us less for it than for an int.
        integer, start = space.dtype.type, int(space.start)
        if start:
            return lambda action: integer(int(action) + start)
        return lambda action: action if action.__class__ is integer else integer(action)
    if isinstance(space, spaces.Dict):
        writers = {key: action_writer(child) for key, child in space.spaces.items()}
        return lambda action: {key: writer(action[key]) for key, writer in writers.items()}
    if isinstance(space, spaces.Tuple):
        writer_list = [action_writer(child) for child in space.spaces]
        return lambda action: tuple(writer(part) for writer, part in zip(writer_list, action, strict=True))
    dtype, array = space.dtype, np.array
    if isinstance(space, spaces.MultiDiscrete) and np.any(space.start):
        return lambda action: array(action, dtype) + space.start
    return lambda action: array(action, dtype)
