"""The shift of a normal policy towards actions that may be better than they are known to be."""

import math
from typing import List

from torch import Tensor


def optimistic_shift(gradients: List[Tensor], scales: List[Tensor], delta: float) -> List[Tensor]:
    """Return the shifts of the means of normal distributions, Eq. (6) of https://arxiv.org/abs/1910.12807.

    Among the shifts whose distribution has at most a divergence ``delta`` from the one before, they increase the value
    most, if it is linear: ``sqrt(2 * delta) * scale^2 * gradient / |scale * gradient|``. Where all gradients are 0
    there is no shift.

    Args:
        gradients: of the value with respect to the means ``[B, A]``, for each part of the action.
        scales: standard deviations, like ``gradients``.
        delta: divergence, in nats.
    """
    pairs = list(zip(gradients, scales, strict=True))
    squared_norm = sum((gradient * scale).square().flatten(1).sum(-1) for gradient, scale in pairs)
    factor = math.sqrt(2 * delta) * squared_norm.clamp(min=1e-30).rsqrt()
    return [
        scale.square() * gradient * factor.view(-1, *(1, ) * (gradient.ndim - 1))
        for gradient, scale in pairs
    ]
