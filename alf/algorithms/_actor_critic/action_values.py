"""What a policy is told by critics: pessimistic values, and their gradient with respect to the action."""

import contextlib
from typing import Iterator, List, Optional

import torch
from torch import Tensor, nn


def pessimistic_value(values: Tensor, reward_weights: Optional[Tensor] = None) -> Tensor:
    """Return the lowest of the values of replicas, https://arxiv.org/abs/1802.09477.

    Of a component that counts negatively it is the highest.

    Args:
        values: ``[B, n]``, or ``[B, n, ...]``.
        reward_weights: ``[R]`` if ``values`` is ``[B, n, R]``.
    Returns:
        ``[B, ...]``
    """
    if values.shape[1] == 1:
        return values.squeeze(1)
    if reward_weights is None:
        return values.amin(dim=1)
    return torch.where(reward_weights < 0, values.amax(dim=1), values.amin(dim=1))


@contextlib.contextmanager
def weights_fixed(critics: nn.Module) -> Iterator[None]:
    """Context in which what critics compute is no function of their weights, but of their inputs alone.

    Their values of an action of the policy are made in it: the gradients of weights, which nobody asks for there, cost
    a third of that computation.
    """
    weights = [weight for weight in critics.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def action_gradient(value: Tensor, actions: List[Tensor], clipping: Optional[float] = None) -> List[Tensor]:
    """Return the gradients of the values ``[B]`` with respect to the actions that they were computed from.

    Args:
        value: ``[B]``.
        actions: tensors ``[B, ...]`` that require gradients.
        clipping: if positive, each element is clipped to plus or minus this.
    """
    # That of the sum, since no action has a part in the value of another.
    gradients = torch.autograd.grad(value, actions, torch.ones_like(value))
    if clipping:
        gradients = [gradient.clamp(-clipping, clipping) for gradient in gradients]
    return list(gradients)


def minus_value_of_action(value: Tensor, actions: List[Tensor], gradients: List[Tensor]) -> Tensor:
    """Return ``-value`` ``[B]`` as a loss: its gradient with respect to the actions is minus ``gradients``.

    Args:
        value: ``[B]``.
        actions: tensors ``[B, ...]`` with the graph to the policy that they were sampled from.
        gradients: what :func:`action_gradient` returned.
    """
    loss = -value.detach()
    for action, gradient in zip(actions, gradients, strict=True):
        # Zero in value: the difference only carries the gradient.
        loss = loss - (gradient * (action - action.detach())).unsqueeze(-1).flatten(1).sum(-1)
    return loss


def value_of_action(values: Tensor, action: Tensor) -> Tensor:
    """Return the values ``[..., ]`` of discrete actions.

    Args:
        values: values of all actions ``[B, K]`` or ``[B, n, K]``.
        action: int64 ``[B]``.
    Returns:
        ``[B]`` or ``[B, n]``
    """
    index = action.long().view(-1, *(1, ) * (values.ndim - 1)).expand(*values.shape[:-1], 1)
    return values.gather(-1, index).squeeze(-1)


def pessimistic_quantiles(values: Tensor, by_mean: bool, reward_weights: Optional[Tensor] = None) -> Tensor:
    """Return the lowest quantiles of replicas; of a component that counts negatively the highest.

    Args:
        values: ``[B, n, m]``, or ``[B, n, R, m]`` for a vector reward.
        by_mean: take all quantiles of the replica with the lowest mean; else the lowest of each quantile.
        reward_weights: ``[R]`` for a vector reward.
    Returns:
        ``[B, m]`` or ``[B, R, m]``
    """
    weights = None if reward_weights is None else reward_weights.unsqueeze(-1)
    if not by_mean:
        return pessimistic_value(values, weights)
    means = values.detach().mean(-1, keepdim=True)
    index = means.argmin(1, keepdim=True)
    if weights is not None:
        index = torch.where(weights < 0, means.argmax(1, keepdim=True), index)
    return values.gather(1, index.expand(-1, -1, *values.shape[2:])).squeeze(1)
