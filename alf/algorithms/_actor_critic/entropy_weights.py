"""The weight of the entropy of each part of an action, adjusted so that the entropy stays near its target."""

from typing import Any, Callable, List, Optional, Union

from torch import Tensor

from alf.nest import flatten
from alf.tensor_specs import BoundedTensorSpec
from alf.utils import dist_utils


def target_entropies(specs: List[BoundedTensorSpec], given: Union[None, float, Callable, list, tuple],
                     discrete_place: Optional[int], name: str) -> List[float]:
    """Return the target entropy, in nats, of each action.

    Args:
        specs: specs of the actions.
        given: a number for each action; or a function of the spec of an action; or a nest of these as the action; or,
            for one discrete action and others, the pair of those for the discrete one and for each of the others. None:
            ``dist_utils.calc_default_target_entropy``.
        discrete_place: which of the actions is discrete, if there are others; else None.
        name: of the algorithm, for messages.
    Raises:
        ValueError: if there is not one for each action.
    """
    each = flatten(given) if isinstance(given, (list, tuple, dict)) else [given] * len(specs)
    if isinstance(given, (list, tuple)) and discrete_place is not None and len(given) == 2:
        each = [given[0] if i == discrete_place else given[1] for i in range(len(specs))]
    if len(each) != len(specs):
        raise ValueError(f"{name}.target_entropy: expected one for each of {len(specs)} actions, got {given!r}.")
    return [_target_entropy(spec, target) for spec, target in zip(specs, each, strict=True)]


def _target_entropy(spec: BoundedTensorSpec, given: Any) -> float:
    if given is None:
        given = dist_utils.calc_default_target_entropy
    return float(given(spec)) if callable(given) else float(given)


def alpha_loss(log_alpha: Tensor, log_pi: Tensor, target_entropy: float) -> Tensor:
    """Return the loss of the weight of an entropy, Eq. (18) of https://arxiv.org/abs/1812.05905.

    As in the authors' code ``log(alpha)`` stands in place of alpha, so that steps are relative to it: it rises while
    the entropy ``-log_pi`` is below its target and falls while it is above.

    Args:
        log_alpha: ``[]``, trained.
        log_pi: ``[...]``: log probabilities of sampled actions, or minus entropies.
        target_entropy: in nats.
    Returns:
        ``[...]``
    """
    return log_alpha * (-log_pi - target_entropy).detach()
