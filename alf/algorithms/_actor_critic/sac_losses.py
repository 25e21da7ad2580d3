"""The losses of soft actor-critic algorithms over sequences."""

from typing import Any, Callable, List

import torch

from alf import summary
from alf.algorithms._actor_critic.entropy_weights import EntropyWeights
from alf.data_structures import StepType
from alf.nest import map_structure
from alf.utils import common, summary_utils

_LAST = int(StepType.LAST)


def sum_of_critic_losses(info: Any, losses: List[Callable], with_entropy: bool) -> torch.Tensor:
    """Return the sum of the losses of the replicas ``[T, B]``; its last row is 0.

    Args:
        info: SacInfo ``[T, B, ...]``.
        losses: temporal difference losses, one for each replica.
        with_entropy: whether future entropy counts as a reward.
    """
    if with_entropy:
        # Standing in the row of the observation it is of, the entropy counts from the step before on.
        reward = common.expand_dims_as(info.entropy_reward * info.discount, info.reward) * losses[0].gamma
        info = info._replace(reward=info.reward + reward)
    replicas = info.critic.critics.unbind(2)
    each = [loss(info, value, info.critic.target_critic).loss for loss, value in zip(losses, replicas, strict=True)]
    return sum(each[1:], each[0])


def cut_to_policy_rows(info: Any, rows: slice) -> Any:
    """Return ``info`` with what concerns the policy at the rows ``[T - 1, B]`` that its loss is made of.

    Args:
        info: SacInfo ``[T, B, ...]``; its parts that concern the policy may have been cut already.
        rows: which rows.
    """
    if info.log_pi[0].shape[0] < info.step_type.shape[0]:
        return info
    actor_loss, log_pi = map_structure(lambda leaf: leaf[rows], (info.actor_loss, info.log_pi))
    return info._replace(actor_loss=actor_loss, log_pi=log_pi)


def critic_priority(step_type: torch.Tensor, critic_loss: torch.Tensor, num_replicas: int) -> torch.Tensor:
    """Return the root of the mean critic loss of each sequence ``[B]``.

    Args:
        step_type: ``[T, B]``; at ``LAST`` there is no loss.
        critic_loss: ``[T, B]``: sum over the replicas; the last row does not count.
        num_replicas: how many they are.
    """
    valid = (step_type[:-1] != _LAST).to(critic_loss.dtype)
    mean = (critic_loss.detach()[:-1] * valid).sum(0) / valid.sum(0).clamp(min=1)
    return (mean / num_replicas).sqrt()


def summarize_entropy(info: Any, weights: EntropyWeights, with_reward: bool) -> None:
    """Write the entropies of the parts of an action and their weights.

    Args:
        info: SacInfo, its policy cut to the rows of its loss.
        weights: of the entropies.
        with_reward: also write what future entropy is worth.
    """
    for i, (alpha, log_pi) in enumerate(zip(weights.alphas(), info.log_pi, strict=True)):
        suffix = "" if len(info.log_pi) == 1 else f"/{i}"
        summary.scalar(f"alpha{suffix}", alpha)
        summary_utils.add_mean_hist_summary(f"log_pi{suffix}", log_pi.detach())
    if with_reward:
        summary_utils.add_mean_hist_summary("entropy_reward", info.entropy_reward[1:])
