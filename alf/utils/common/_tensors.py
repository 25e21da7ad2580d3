"""States, and other small things done to nests of tensors."""

from typing import List, Optional, Tuple

import torch
from torch import nn

from alf.config_util import configurable
from alf.nest import (
    Nest,
    flatten,
    flatten_with_structure,
    map_structure,
    py_map_structure_with_path,
    transform_nest,
)
from alf.utils.spec_utils import zeros_from_spec


def detach(nests: Nest) -> Nest:
    """Return the nest with its tensors detached from their graph."""
    return map_structure(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, nests)


def expand_dims_as(x: torch.Tensor, y: torch.Tensor, end: bool = True) -> torch.Tensor:
    """Return ``x`` with dimensions of one added until it has as many as ``y``.

    Args:
        x: a tensor whose shape begins (``end``) or ends (not ``end``) like that of ``y``.
        y: the tensor to be like.
        end: add at the end, otherwise in front.
    """
    missing = y.ndim - x.ndim
    if missing <= 0:
        return x
    ones = (1, ) * missing
    return x.reshape(*x.shape, *ones) if end else x.reshape(*ones, *x.shape)


def reset_state_if_necessary(state: Nest, initial_state: Nest, reset_mask: torch.Tensor) -> Nest:
    """Return ``state`` with the rows under ``reset_mask`` taken from ``initial_state``.

    Args:
        state: nest of tensors ``[B, ...]``.
        initial_state: nest of tensors ``[B, ...]``.
        reset_mask: bool ``[B]``.
    """
    leaves, structure = flatten_with_structure(state)
    if not leaves:
        return state
    initial = flatten(initial_state)
    return structure.unflatten(
        [torch.where(expand_dims_as(reset_mask, leaf), start, leaf) for leaf, start in zip(leaves, initial)])


def get_initial_policy_state(batch_size: int, policy_state_spec: Nest) -> Nest:
    """Return zeros ``[batch_size, ...]`` for a nest of specs."""
    return zeros_from_spec(policy_state_spec, batch_size)


def check_numerics(nested: Nest) -> None:
    """Raise unless all floating point tensors of ``nested`` are finite.

    Raises:
        ValueError: naming the first tensor that is not and how many of its values are not.
    """

    def check(path, leaf):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and not torch.isfinite(leaf).all():
            bad = int((~torch.isfinite(leaf)).sum())
            raise ValueError(f"check_numerics: {bad} of {leaf.numel()} values of {path or 'the tensor'} (shape "
                             f"{tuple(leaf.shape)}) are NaN or infinite.")

    py_map_structure_with_path(check, nested)


def get_all_parameters(obj: nn.Module) -> List[Tuple[str, nn.Parameter]]:
    """Return ``(name, parameter)`` of all parameters in ``obj``."""
    return list(obj.named_parameters())


@configurable
def cast_transformer(observation: Nest, dtype: torch.dtype = torch.float32) -> Nest:
    """Return the observation with all tensors converted to ``dtype``."""
    return map_structure(lambda tensor: tensor.to(dtype), observation)


@configurable
def image_scale_transformer(observation: Nest, fields: Optional[List[str]] = None, min: float = -1.0,
                            max: float = 1.0) -> Nest:
    """Return the observation with uint8 images ``[0, 255]`` scaled to ``[min, max]``.

    Args:
        observation: nest of tensors.
        fields: dotted paths of the images; None: the observation is one image.
        min: what 0 becomes.
        max: what 255 becomes.
    """
    def scale(image):
        if image.dtype != torch.uint8:
            raise ValueError(f"image_scale_transformer: expected uint8 images, got {image.dtype}.")
        return image.to(torch.float32) * ((max - min) / 255.0) + min

    for field in ("", ) if fields is None else fields:
        observation = transform_nest(observation, field, scale)
    return observation
