"""Tensors and specs together: scaling to bounds, zeros, comparison."""

import functools
from typing import Any, Tuple

import torch
from torch import Tensor

import alf.nest as nest
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


def spec_means_and_magnitudes(spec: BoundedTensorSpec) -> Tuple[Tensor, Tensor]:
    """Return the centre of the bounds and half their distance, both `spec.shape`.

    Raises:
        ValueError: if the spec has no finite bounds.
    """
    if not spec.is_bounded():
        raise ValueError(
            f"spec_means_and_magnitudes: expected a BoundedTensorSpec, got {spec}, which has no bounds to scale to."
        )
    dtype = spec.dtype if spec.is_continuous else torch.float32
    low = torch.tensor(spec.minimum, dtype=dtype)
    high = torch.tensor(spec.maximum, dtype=dtype)
    if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise ValueError(
            f"spec_means_and_magnitudes: expected finite bounds, got {spec}. Give the action space finite bounds, or "
            f"use a distribution that does not scale to them."
        )
    # Halved first, so that the bounds of a whole float range do not overflow.
    means, magnitudes = low / 2 + high / 2, high / 2 - low / 2
    return means.expand(spec.shape).contiguous(), magnitudes.expand(spec.shape).contiguous()


def scale_to_spec(tensor: Tensor, spec: BoundedTensorSpec) -> Tensor:
    """Return `tensor` mapped from [-1, 1] to the bounds of `spec`.

    Args:
        tensor: values in [-1, 1], shape `[B, ...]` with as many elements a row as `spec`.
        spec: where to scale to.

    Returns:
        Shape `[B, *spec.shape]`.
    """
    means, magnitudes = spec_means_and_magnitudes(spec)
    return means + magnitudes * tensor.reshape(-1, *spec.shape)


def clip_to_spec(value: Tensor, spec: BoundedTensorSpec) -> Tensor:
    """Return `value` clipped to the bounds of `spec`.

    Args:
        value: shape `[..., *spec.shape]`.
        spec: a bounded spec.
    """
    low = torch.tensor(spec.minimum, dtype=value.dtype, device=value.device)
    high = torch.tensor(spec.maximum, dtype=value.dtype, device=value.device)
    return torch.clamp(value, low, high)


def zeros_from_spec(nested_spec: Any, batch_size: int) -> Any:
    """Return a nest of zeros `[batch_size, ...]` for a nest of specs.

    Args:
        nested_spec: a nest of `TensorSpec`; a `DistributionSpec` in it gives the distribution whose
            parameters are 0.
        batch_size: the first dimension of every tensor.
    """
    outer_dims = (batch_size,)

    def _zeros(spec):
        if isinstance(spec, TensorSpec):
            return spec.zeros(outer_dims)
        return spec.build_distribution(zeros_from_spec(spec.input_params_spec, batch_size))

    return nest.map_structure(_zeros, nested_spec)


def is_same_spec(spec1: Any, spec2: Any) -> bool:
    """Return whether two nests of specs have the same structure and equal specs."""
    try:
        nest.assert_same_structure(spec1, spec2)
    except RuntimeError:
        return False
    return all(a == b for a, b in zip(nest.flatten(spec1), nest.flatten(spec2), strict=True))


def consistent_with_spec(nested: Any, spec: Any, from_dim: int = 0) -> bool:
    """Return whether a nest of tensors has the structure, shapes and dtypes of a nest of specs.

    Args:
        nested: a nest of tensors.
        spec: a nest of specs; bounds are not looked at.
        from_dim: number of leading dimensions of the tensors that are not part of the specs.
    """
    tensor_spec = nest.map_structure(functools.partial(TensorSpec.from_tensor, from_dim=from_dim), nested)
    return is_same_spec(tensor_spec, nest.map_structure(TensorSpec.from_spec, spec))
