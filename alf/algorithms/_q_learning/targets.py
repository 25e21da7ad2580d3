"""What one-step Q-learning regresses on: the value of the best next action, by one network or by two.

With several replicas of a Q network the value of an action is the smallest of theirs, as in Eq. (10) of
https://arxiv.org/abs/1802.09477.
"""

from typing import Optional

from torch import Tensor


def smallest_of_replicas(q_values: Tensor) -> Tensor:
    """Return the values of the actions ``[..., K]``: of each one the smallest of the replicas' values.

    Args:
        q_values: ``[..., n, K]``.
    """
    return q_values.squeeze(-2) if q_values.shape[-2] == 1 else q_values.amin(dim=-2)


def values_of_actions(q_values: Tensor, action: Tensor) -> Tensor:
    """Return the values ``[..., n]`` that the replicas give to actions.

    Args:
        q_values: ``[..., n, K]``.
        action: int64 ``[...]``.
    """
    index = action[..., None, None].expand(*q_values.shape[:-1], 1)
    return q_values.gather(-1, index).squeeze(-1)


def target_value(target_q: Tensor, selecting_q: Optional[Tensor] = None) -> Tensor:
    """Return the value of the best action ``[...]``.

    By default ``max_a Q'(s, a)`` (https://www.nature.com/articles/nature14236); with ``selecting_q`` that of double
    Q-learning, ``Q'(s, argmax_a Q(s, a))``, Eq. (4) of https://arxiv.org/abs/1509.06461.

    Args:
        target_q: values by the target network ``[..., n, K]``.
        selecting_q: values by the network that selects the action ``[..., n, K]``; None: the target network.
    """
    q_values = smallest_of_replicas(target_q)
    if selecting_q is None:
        return q_values.amax(dim=-1)
    action = smallest_of_replicas(selecting_q).argmax(dim=-1, keepdim=True)
    return q_values.gather(-1, action).squeeze(-1)


def distributions_of_actions(values: Tensor, action: Tensor) -> Tensor:
    """Return the value distributions ``[..., n, N]`` that the replicas give to actions.

    Args:
        values: logits of atoms, or quantiles ``[..., n, K, N]``.
        action: int64 ``[...]``.
    """
    index = action[..., None, None, None].expand(*values.shape[:-2], 1, values.shape[-1])
    return values.gather(-2, index).squeeze(-2)


def target_distribution(values: Tensor, target_q: Tensor, selecting_q: Optional[Tensor] = None) -> Tensor:
    """Return the value distribution ``[..., N]`` of the best action, by the replica with the smallest mean.

    Args:
        values: logits of atoms, or quantiles, by the target network ``[..., n, K, N]``.
        target_q: their means ``[..., n, K]``.
        selecting_q: means by the network that selects the action ``[..., n, K]``; None: the target network.
    """
    action = smallest_of_replicas(target_q if selecting_q is None else selecting_q).argmax(dim=-1)
    chosen = distributions_of_actions(values, action)
    if chosen.shape[-2] == 1:
        return chosen.squeeze(-2)
    replica = values_of_actions(target_q, action).argmin(dim=-1)
    index = replica[..., None, None].expand(*replica.shape, 1, chosen.shape[-1])
    return chosen.gather(-2, index).squeeze(-2)
