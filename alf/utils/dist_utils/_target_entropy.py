"""Entropies that follow from an action spec alone: targets and bounds for entropy regularisation."""

import numpy as np

from alf.config_util import configurable
from alf.tensor_specs import BoundedTensorSpec


def _ranges(spec: BoundedTensorSpec, caller: str) -> np.ndarray:
    """Return `maximum - minimum` of every component, as float64 `spec.shape`; number of values if discrete."""
    if not spec.is_bounded():
        raise ValueError(f"{caller}: expected a BoundedTensorSpec, got {spec}, which has no bounds.")
    width = spec.maximum.astype(np.float64) - spec.minimum.astype(np.float64)
    width = np.broadcast_to(width, spec.shape)
    if spec.is_discrete:
        return width + 1
    if not (np.all(np.isfinite(width)) and np.all(width > 0)):
        raise ValueError(f"{caller}: expected finite bounds with minimum < maximum, got {spec}.")
    return width


@configurable
def calc_default_target_entropy(spec: BoundedTensorSpec, min_prob: float = 0.1) -> float:
    """Return the entropy, in nats, of a policy that has become nearly deterministic; summed over components.

    Continuous: uniform on the fraction `min_prob` of the range. Discrete with N values: the likeliest value
        has
    probability `1 - min_prob` and the others share the rest; the small term of the likeliest one is left
    out, which gives `min_prob * log((N - 1) / min_prob)`.

    Args:
        spec: the action spec.
        min_prob: how far from deterministic, in (0, 1).
    """
    if not 0 < min_prob < 1:
        raise ValueError(f"calc_default_target_entropy.min_prob: expected 0 < min_prob < 1, got {min_prob}.")
    ranges = _ranges(spec, "calc_default_target_entropy")
    if spec.is_continuous:
        return float(np.sum(np.log(ranges * min_prob)))
    several = ranges[ranges > 1]
    return float(np.sum(min_prob * np.log((several - 1) / min_prob)))


@configurable
def calc_default_target_entropy_quantized(
    spec: BoundedTensorSpec, num_bins: int, ent_per_action_dim: float = -1.0
) -> float:
    """Return the discrete entropy, in nats, of a continuous target when each component is cut into bins.

    A density of entropy h seen through bins of width w has discrete entropy about `h - log w`.

    Args:
        spec: the continuous action spec.
        num_bins: bins per component.
        ent_per_action_dim: the continuous target entropy of one component.
    """
    ranges = _ranges(spec, "calc_default_target_entropy_quantized")
    if not spec.is_continuous:
        raise ValueError(f"calc_default_target_entropy_quantized: expected a continuous spec, got {spec}.")
    return float(np.sum(ent_per_action_dim + np.log(num_bins / ranges)))


def calc_default_max_entropy(spec: BoundedTensorSpec, fraction: float = 0.8) -> float:
    """Return an entropy, in nats, somewhat below the largest possible; summed over components.

    Continuous: uniform on `fraction` of the range. Discrete: `fraction` of the uniform entropy.

    Args:
        spec: the action spec.
        fraction: how near to the largest, in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"calc_default_max_entropy.fraction: expected 0 < fraction <= 1, got {fraction}.")
    ranges = _ranges(spec, "calc_default_max_entropy")
    if spec.is_continuous:
        return float(np.sum(np.log(ranges * fraction)))
    return float(fraction * np.sum(np.log(ranges)))


def calc_uniform_log_prob(spec: BoundedTensorSpec) -> float:
    """Return the log probability (density) of any action under the uniform distribution over the spec."""
    return -float(np.sum(np.log(_ranges(spec, "calc_uniform_log_prob"))))
