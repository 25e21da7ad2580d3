"""Returns of the next few rewards and the value after them, along sequences that may cross the ends of episodes."""

import torch
from torch import Tensor


def n_step_returns(rewards: Tensor, discounts: Tensor, step_types: Tensor, values: Tensor, n: int) -> Tensor:
    """Return the n-step returns ``[T, B]`` of sequences.

    ``G^(0)_t = v_t`` and ``G^(m)_t = r_{t+1} + gamma_{t+1} G^(m-1)_{t+1}``, but ``G^(m)_t = v_t`` where an episode or
    the sequence ends. So a return never reaches into the next episode: a termination (``gamma_{t+1} = 0``) counts
    nothing after it, a time limit bootstraps from the value of the true last observation. Near the end of the sequence
    a return has fewer rewards: it bootstraps from the last row. Section 3.1 of https://arxiv.org/abs/1803.00933, where
    a sequence is a single episode.

    Args:
        rewards: ``r_t`` ``[T, B]``; that of row ``t + 1`` belongs to the action at row ``t``.
        discounts: ``gamma_t`` ``[T, B]``: the discount factor times ``TimeStep.discount``.
        step_types: ``[T, B]``.
        values: ``v_t`` ``[T, B]``: what is bootstrapped from.
        n: number of rewards, at least 1.
    Returns:
        ``G^(n)_t``; in the last row and where an episode ends it is ``v_t``, which no action led away from.
    Raises:
        ValueError: if ``n`` or a shape is wrong.
    """
    if n < 1:
        raise ValueError(f"n_step_returns.n: expected at least 1, got {n}.")
    shapes = {name: tuple(x.shape) for name, x in
              dict(rewards=rewards, discounts=discounts, step_types=step_types, values=values).items()}
    if len(set(shapes.values())) != 1 or values.ndim != 2:
        raise ValueError(f"n_step_returns: expected all to be [T, B], got {shapes}.")
    # 2 is StepType.LAST; a row that ends keeps its value in all iterations.
    ends = step_types[:-1] == 2
    returns = values
    for _ in range(n):
        longer = rewards[1:] + discounts[1:] * returns[1:]
        returns = torch.cat([torch.where(ends, values[:-1], longer), values[-1:]])
    return returns
