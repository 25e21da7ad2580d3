"""Bounds of continuous actions, and noise within them."""

from typing import Any

import torch
from torch import nn

from alf.nest import flatten, flatten_with_structure
from alf.utils.common import expand_dims_as
from alf.utils.spec_utils import spec_means_and_magnitudes


class ActionBox(nn.Module):
    """The bounds of a nest of continuous actions, as tensors. Noise is told in units of half their distance.

    Args:
        action_spec: nest of bounded continuous specs.
        name: of the algorithm, for messages.
    Raises:
        ValueError: if the spec is something else.
    """

    def __init__(self, action_spec: Any, name: str):
        super().__init__()
        specs, self._structure = flatten_with_structure(action_spec)
        if not specs or not all(spec.is_continuous and spec.is_bounded() for spec in specs):
            raise ValueError(f"{name}.action_spec: expected continuous actions with bounds, got {action_spec}. "
                             "The policy follows the gradient of the value with respect to the action: for discrete "
                             "actions use DqnAlgorithm, SacAlgorithm or PPOAlgorithm.")
        self._num_actions = len(specs)
        for i, spec in enumerate(specs):
            low, high = (torch.tensor(bound, dtype=spec.dtype).expand(spec.shape).contiguous()
                         for bound in (spec.minimum, spec.maximum))
            self.register_buffer(f"_low{i}", low, persistent=False)
            self.register_buffer(f"_high{i}", high, persistent=False)
            self.register_buffer(f"_magnitude{i}", spec_means_and_magnitudes(spec)[1], persistent=False)

    def _bounds(self) -> list:
        """Return ``(low, high, half their distance)`` of each action."""
        buffers = self._buffers
        return [(buffers[f"_low{i}"], buffers[f"_high{i}"], buffers[f"_magnitude{i}"])
                for i in range(self._num_actions)]

    def perturb(self, action: Any, noise: Any) -> Any:
        """Return actions with noise, clipped to their bounds.

        Args:
            action: nest ``[B, ...]``.
            noise: nest like ``action``, in units of half the distance of the bounds.
        """
        parts = zip(self._bounds(), flatten(action), flatten(noise), strict=True)
        return self._structure.unflatten(
            [torch.addcmul(a, magnitude, x).clamp_(low, high) for (low, high, magnitude), a, x in parts])

    def sample(self, batch_size: int) -> Any:
        """Return actions drawn uniformly from the bounds, nest ``[batch_size, ...]``."""
        return self._structure.unflatten(
            [torch.lerp(low, high, torch.rand(batch_size, *low.shape, dtype=low.dtype, device=low.device))
             for low, high, _ in self._bounds()])

    def replace_some(self, action: Any, probability: float) -> Any:
        """Return actions of which each row is, with ``probability``, drawn uniformly from the bounds instead.

        Args:
            action: nest ``[B, ...]``.
            probability: in [0, 1].
        """
        if probability <= 0:
            return action
        leaves = flatten(action)
        chosen = torch.rand(leaves[0].shape[0], device=leaves[0].device) < probability
        others = flatten(self.sample(leaves[0].shape[0]))
        return self._structure.unflatten(
            [torch.where(expand_dims_as(chosen, a), other, a) for a, other in zip(leaves, others, strict=True)])
