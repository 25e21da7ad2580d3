"""Epsilon-greedy actions, and how much each environment explores."""

from typing import Optional, Union

import torch
from torch import Tensor

from alf.algorithms.config import TrainerConfig
from alf.data_structures import TimeStep


def per_environment_epsilons(epsilon: float, alpha: float, num_envs: int,
                             device: Optional[torch.device] = None) -> Tensor:
    """Return ``epsilon ** (1 + alpha * i / (N - 1))`` for environments i = 0, ..., N - 1; ``[N]``.

    A single environment has epsilon itself. Section 4.1 of https://arxiv.org/abs/1803.00933.

    Args:
        epsilon: probability of random actions in the first environment.
        alpha: the larger, the fewer of them in the last one; 0: the same everywhere.
        num_envs: N.
        device: where the result is; None: the default device.
    """
    return epsilon**(1.0 + alpha * torch.linspace(0.0, 1.0, num_envs, device=device))


def rollout_epsilons(epsilon: float, alpha: float, time_step: TimeStep, config: Optional[TrainerConfig]) -> Tensor:
    """Return :func:`per_environment_epsilons` of the environments of a time step, ``[B]``.

    Args:
        epsilon: probability of random actions in the first environment.
        alpha: the larger, the fewer of them in the last one.
        time_step: ``[B, ...]``, of all environments or, with ``TrainerConfig.unroll_halves``, of one half of them.
        config: the settings of the run; None: the time step is that of all environments.
    """
    num_rows, device = time_step.step_type.shape[0], time_step.step_type.device
    if config is None or not config.unroll_halves:
        return per_environment_epsilons(epsilon, alpha, num_rows, device)
    return per_environment_epsilons(epsilon, alpha, 2 * num_rows, device)[time_step.env_id.long()]


def epsilon_greedy_actions(q_values: Tensor, epsilon: Union[float, Tensor]) -> Tensor:
    """Return the actions with the largest values, or with probability epsilon any action; int64 ``[B]``.

    Args:
        q_values: ``[B, K]``.
        epsilon: a number, or ``[B]``.
    """
    greedy = q_values.argmax(dim=-1)
    if isinstance(epsilon, float) and epsilon == 0.0:
        return greedy
    explores = torch.rand(greedy.shape, device=greedy.device) < epsilon
    if greedy.is_cpu and not explores.any():
        return greedy  # the usual case of few environments; a GPU would be waited for
    return torch.where(explores, torch.randint_like(greedy, q_values.shape[-1]), greedy)
