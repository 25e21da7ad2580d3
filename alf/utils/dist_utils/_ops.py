"""What algorithms do with nests of action distributions: entropy, log probability, sampling, mode."""

from typing import Any, Callable, List, Tuple, Union

import torch
import torch.distributions as td
from torch import Tensor

import alf.nest as nest
from alf.config_util import configurable
from alf.utils.dist_utils._lean import Independent

_Sampled = Union[Any, Tuple[Any, Tensor]]


def _sum(values: List[Tensor]) -> Tensor:
    """Return the sum of the tensors, which all have the batch shape."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _flatten(distributions: Any, caller: str) -> List[td.Distribution]:
    flat = nest.flatten(distributions)
    for dist in flat:
        if not isinstance(dist, td.Distribution):
            raise ValueError(f"{caller}: expected a nest of distributions, got a leaf of type {type(dist).__name__}.")
    if not flat:
        raise ValueError(f"{caller}: expected at least one distribution, got the empty nest {distributions!r}.")
    return flat


def compute_entropy(distributions: Any) -> Tensor:
    """Return the entropy `[B]` of a nest of independent distributions: the sum of theirs.

    Raises:
        NotImplementedError: if one has no closed form; see `entropy_with_fallback`.
    """
    if isinstance(distributions, td.Distribution):
        return distributions.entropy()
    return _sum([dist.entropy() for dist in _flatten(distributions, "compute_entropy")])


def compute_log_probability(distributions: Any, actions: Any) -> Tensor:
    """Return the log probability `[B]` of `actions` under a nest of independent distributions: the sum of
    theirs.

    Args:
        distributions: a nest of distributions, batch shape `[B]`.
        actions: a nest of tensors `[B, ...]` with the same structure.
    """
    if isinstance(distributions, td.Distribution):
        return distributions.log_prob(actions)
    nest.assert_same_structure(distributions, actions)
    flat = _flatten(distributions, "compute_log_probability")
    return _sum([dist.log_prob(action) for dist, action in zip(flat, nest.flatten(actions))])


def _sample_nest(
    distributions: Any,
    sample: Callable[[td.Distribution], Tensor],
    return_log_prob: bool,
    sample_with_log_prob: Callable[[td.Distribution], Tuple[Tensor, Tensor]],
    caller: str,
) -> _Sampled:
    single = isinstance(distributions, td.Distribution)
    if single:
        return sample_with_log_prob(distributions) if return_log_prob else sample(distributions)
    flat = _flatten(distributions, caller)
    if not return_log_prob:
        return nest.pack_sequence_as(distributions, [sample(dist) for dist in flat])
    actions, log_probs = zip(*(sample_with_log_prob(dist) for dist in flat))
    return nest.pack_sequence_as(distributions, list(actions)), _sum(log_probs)


def _rsample(dist: td.Distribution) -> Tensor:
    if not dist.has_rsample:
        raise ValueError(
            f"rsample_action_distribution: {type(dist).__name__} has no differentiable samples; use "
            f"sample_action_distribution, or a one-hot distribution with straight-through gradients."
        )
    return dist.rsample()


def _rsample_with_log_prob(dist: td.Distribution) -> Tuple[Tensor, Tensor]:
    if hasattr(dist, "rsample_with_log_prob"):
        return dist.rsample_with_log_prob()
    action = _rsample(dist)
    return action, dist.log_prob(action)


def _sample(dist: td.Distribution) -> Tensor:
    return dist.sample()


def _sample_with_log_prob(dist: td.Distribution) -> Tuple[Tensor, Tensor]:
    # Only without gradients are the two ways equal: the log probability of a fixed action has another
    # derivative.
    if not torch.is_grad_enabled() and hasattr(dist, "rsample_with_log_prob"):
        return dist.rsample_with_log_prob()
    action = dist.sample()
    return action, dist.log_prob(action)


def rsample_action_distribution(nested_distributions: Any, return_log_prob: bool = False) -> _Sampled:
    """Return actions sampled from a nest of distributions, differentiable in their parameters.

    Args:
        nested_distributions: a nest of distributions with `rsample`.
        return_log_prob: whether to return `(actions, log_prob)` with the summed log probability `[B]`.

    Raises:
        ValueError: if one has no differentiable samples.
    """
    return _sample_nest(
        nested_distributions, _rsample, return_log_prob, _rsample_with_log_prob, "rsample_action_distribution"
    )


def sample_action_distribution(nested_distributions: Any, return_log_prob: bool = False) -> _Sampled:
    """Return actions sampled from a nest of distributions, without gradient.

    Args:
        nested_distributions: a nest of distributions.
        return_log_prob: whether to return `(actions, log_prob)` with the summed log probability `[B]`,
            which is differentiable in the parameters.
    """
    return _sample_nest(
        nested_distributions, _sample, return_log_prob, _sample_with_log_prob, "sample_action_distribution"
    )


def epsilon_greedy_sample(nested_distributions: Any, eps: float = 0.1) -> Any:
    """Return sampled actions with probability `eps` and the most probable ones otherwise.

    One coin a batch row decides for the whole nest.

    Args:
        nested_distributions: a nest of distributions, batch shape `[B, ...]`.
        eps: probability to sample, in `[0, 1]`.
    """
    if eps >= 1:
        return sample_action_distribution(nested_distributions)
    flat = _flatten(nested_distributions, "epsilon_greedy_sample")
    actions = [get_mode(dist) for dist in flat]
    if eps > 0:
        keep_mode = torch.rand(actions[0].shape[:1], device=actions[0].device) >= eps
        for i, (dist, mode) in enumerate(zip(flat, actions)):
            actions[i] = torch.where(keep_mode.view(-1, *[1] * (mode.ndim - 1)), mode, dist.sample())
    return nest.pack_sequence_as(nested_distributions, actions)


def get_mode(dist: td.Distribution) -> Tensor:
    """Return the most probable value of `dist`, batch and event dimensions.

    For a transformed distribution the image of the base's mode (not exactly the mode where the transform is
    not affine); for a mixture the mode of the heaviest component.
    """
    if isinstance(dist, td.MixtureSameFamily):
        modes = get_mode(dist.component_distribution)
        event_ndims = len(dist.event_shape)
        index = dist.mixture_distribution.logits.argmax(-1)
        index = index.view(*index.shape, 1, *[1] * event_ndims).expand(*index.shape, 1, *dist.event_shape)
        return modes.gather(modes.ndim - 1 - event_ndims, index).squeeze(modes.ndim - 1 - event_ndims)
    if type(dist) in (Independent, td.Independent):
        return get_mode(dist.base_dist)
    if type(dist) is td.TransformedDistribution:
        value = get_mode(dist.base_dist)
        for transform in dist.transforms:
            value = transform(value)
        return value
    return dist.mode


def get_rmode(dist: td.Distribution) -> Tensor:
    """Return `get_mode(dist)`, differentiable in the parameters.

    Raises:
        ValueError: if the mode has no gradient, as for a categorical distribution over indices.
    """
    if hasattr(dist, "rmode"):
        return dist.rmode
    if isinstance(get_base_dist(dist), (td.Categorical, td.OneHotCategorical, td.Bernoulli)):
        raise ValueError(
            f"get_rmode: the mode of {type(dist).__name__} has no gradient; use "
            f"OneHotCategoricalStraightThrough or OneHotCategoricalGumbelSoftmax."
        )
    return get_mode(dist)


def get_base_dist(dist: td.Distribution) -> td.Distribution:
    """Return the innermost distribution: transforms and `Independent` taken away."""
    while isinstance(dist, (td.Independent, td.TransformedDistribution)):
        dist = dist.base_dist
    return dist


@configurable
def estimated_entropy(
    dist: td.Distribution, num_samples: int = 1, check_numerics: bool = False
) -> Tuple[Tensor, Tensor]:
    """Return a sampled estimate of the entropy and a tensor whose gradient estimates the entropy's gradient.

    With differentiable samples both are the mean of `-log p(x)`. Otherwise, since the expectation of the
    score is 0, `grad H = E[-log p(x) grad log p(x)]`, which is the gradient of `E[-(log p(x))^2 / 2]` with
    the samples held fixed.

    Args:
        dist: the distribution, batch shape `[B]`.
        num_samples: samples per estimate.
        check_numerics: raise if a log probability is not finite.

    Returns:
        `(entropy, entropy_for_gradient)`, both `[B]`; use the value of the first and the gradient of the
        second.
    """
    sample_shape = torch.Size() if num_samples == 1 else (num_samples,)
    sample = dist.rsample(sample_shape) if dist.has_rsample else dist.sample(sample_shape)
    log_prob = dist.log_prob(sample)
    if check_numerics and not torch.isfinite(log_prob).all():
        raise ValueError(f"estimated_entropy: log probabilities of {dist} are not finite: {log_prob}.")
    entropy = -log_prob
    for_gradient = entropy if dist.has_rsample else -0.5 * log_prob**2
    if num_samples > 1:
        for_gradient = for_gradient.mean(0) if for_gradient is not entropy else None
        entropy = entropy.mean(0)
        for_gradient = entropy if for_gradient is None else for_gradient
    return entropy, for_gradient


def entropy_with_fallback(distributions: Any, return_sum: bool = True) -> Tuple[Any, Any]:
    """Return entropies and tensors for their gradients: in closed form where there is one, else estimated.

    Args:
        distributions: a nest of distributions, batch shape `[B]`.
        return_sum: True: return the sums over the nest; False: nests of each one's.

    Returns:
        `(entropy, entropy_for_gradient)`, `[B]` each, as `estimated_entropy`.
    """
    pairs = [_entropy_pair(dist) for dist in _flatten(distributions, "entropy_with_fallback")]
    entropies, for_gradient = zip(*pairs)
    if return_sum:
        return _sum(entropies), _sum(for_gradient)
    return (
        nest.pack_sequence_as(distributions, list(entropies)),
        nest.pack_sequence_as(distributions, list(for_gradient)),
    )


def _entropy_pair(dist: td.Distribution) -> Tuple[Tensor, Tensor]:
    try:
        entropy = dist.entropy()
    except NotImplementedError:
        return estimated_entropy(dist)
    return entropy, entropy
