"""The weight of the entropy of each part of an action, adjusted so that the entropy stays near its target."""

from typing import Any, Callable, List, Optional, Union

import torch
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
        discrete_place: which of the actions is discrete; None: none.
        name: of the algorithm, for messages.
    Raises:
        ValueError: if there is not one for each action.
    """
    each = flatten(given) if isinstance(given, (list, tuple, dict)) else [given] * len(specs)
    if type(given) in (list, tuple) and len(given) == 2 and discrete_place is not None and len(specs) > 1:
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


class EntropyWeights:
    """The weights alpha of the entropies of the parts of an action: what an entropy is worth, and what trains them.

    Wherever ``log_pi`` is asked for, it is a list of log probabilities ``[...]`` of the parts, or of minus entropies,
    each minus that of a prior if there is one.

    Args:
        log_alphas: returns the logarithms of the weights ``[]``, parameters of the algorithm, which may have given them
            other tensors since; in the order of the flat action spec.
        targets: target entropy of each part, in nats.
        max_log_alpha: largest logarithm; None: no limit.
        normalizer: called with ``[N, num_parts]``, gives :meth:`reward` the ``log_pi`` that it counts; None: as it is.
    """

    def __init__(self, log_alphas: Callable[[], List[Tensor]], targets: List[float],
                 max_log_alpha: Optional[float] = None, normalizer: Optional[Callable] = None):
        self._log_alphas = log_alphas
        self.targets = targets
        self._max_log_alpha = max_log_alpha
        self._normalizer = normalizer

    def alphas(self) -> List[Tensor]:
        """Return the weights ``[]``, without gradient."""
        return [log_alpha.detach().exp() for log_alpha in self._log_alphas()]

    def inverse_alpha(self, place: int) -> Tensor:
        """Return one over the weight ``[]`` of a part, without gradient.

        Args:
            place: which part.
        """
        return (-self._log_alphas()[place].detach()).exp()

    @torch.no_grad()
    def reward(self, log_pi: List[Tensor]) -> Tensor:
        """Return the value ``[N]`` of the entropy of actions.

        Args:
            log_pi: ``[N]`` each.
        """
        if self._normalizer is not None:
            log_pi = self._normalizer(torch.stack(log_pi, dim=-1)).unbind(-1)
        values = [part * -log_alpha.exp() for part, log_alpha in zip(log_pi, self._log_alphas(), strict=True)]
        return sum(values[1:], values[0])

    def loss(self, log_pi: List[Tensor]) -> Tensor:
        """Return what trains the weights ``[...]``: the sum of :func:`alpha_loss` over the parts."""
        losses = [alpha_loss(*each) for each in zip(self._log_alphas(), log_pi, self.targets, strict=True)]
        return sum(losses[1:], losses[0])

    def add_costs(self, loss: Tensor, log_pi: List[Tensor]) -> Tensor:
        """Return ``loss`` ``[...]`` of an actor with what its lack of entropy costs, for the actor to be trained on."""
        return sum((alpha * part for alpha, part in zip(self.alphas(), log_pi, strict=True)), loss)

    @torch.no_grad()
    def limit(self) -> None:
        """Take weights that are above the limit back to it."""
        if self._max_log_alpha is not None:
            for log_alpha in self._log_alphas():
                log_alpha.clamp_(max=self._max_log_alpha)
