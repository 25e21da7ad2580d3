"""Sequences of n + 1 steps as pairs: n-step returns for algorithms that learn from one transition."""

from typing import Any, Tuple

import torch
from torch import Tensor

import alf.nest as nest
from alf.algorithms.data_transformer._base import DataTransformer
from alf.algorithms.td_loss import TDLoss
from alf.config_util import configurable
from alf.data_structures import Experience, StepType, TimeStep


def n_step_transition(
    rewards: Tensor, discounts: Tensor, step_types: Tensor, gamma: float
) -> Tuple[Tensor, Tensor, Tensor]:
    """Return reward and discount of the transition from row 0 to row n', and n'.

    ``n' = min(n, steps from row 0 to the first LAST after it)``,
    ``R = sum_{k=1..n'} gamma^(k-1) (d_1 ... d_(k-1)) r_k`` and
    ``D = gamma^(n'-1) d_1 ... d_n'``, so that ``R + gamma D v`` with the value ``v`` of row n' is the n-step
    return (Section 7.1 of http://incompleteideas.net/book/the-book-2nd.html). A termination (``d = 0``) counts
    nothing after it, a time limit bootstraps from the true last observation.

    Args:
        rewards: ``r_0, ..., r_n``, ``[B, n + 1]`` or ``[B, n + 1, R]``; ``r_k`` belongs to the action at row k - 1.
        discounts: ``d_0, ..., d_n``, ``[B, n + 1]``: ``TimeStep.discount``, without gamma.
        step_types: ``[B, n + 1]``.
        gamma: the discount factor.
    Returns:
        - R ``[B]`` or ``[B, R]``
        - D ``[B]``
        - n' int64 ``[B]``; 1 where row 0 is a LAST, after which there is no transition
    """
    is_last = step_types == int(StepType.LAST)
    total = rewards[:, 1]
    discount = discounts[:, 1]
    steps = torch.ones_like(step_types[:, 0], dtype=torch.int64)
    goes_on = ~(is_last[:, 0] | is_last[:, 1])
    for k in range(2, rewards.shape[1]):
        weight = torch.where(goes_on, gamma * discount, 0.0)
        total = total + weight.view((-1,) + (1,) * (rewards.ndim - 2)) * rewards[:, k]
        discount = torch.where(goes_on, gamma * discount * discounts[:, k], discount)
        steps = torch.where(goes_on, k, steps)
        goes_on = goes_on & ~is_last[:, k]
    return total, discount, steps


@configurable
class NStepReturn(DataTransformer):
    """Turns sampled sequences of ``n_step + 1`` steps into pairs, from which one-step TD learns n-step returns.

    Of each sequence it keeps row 0 and row n', which is ``n_step`` later or at the end of the episode. Reward and
    discount of the latter are those of the whole way, see :func:`n_step_transition`; all else (observation, step type,
    action, rollout info) is what these two rows have. Where row 0 is a LAST, rows 0 and 1 are kept as they are: the
    loss there does not count.

    It is for algorithms without recurrent state, which read the action at row 0 from ``rollout_info``:
    ``time_step.prev_action`` of the second row is the last action on the way. Returns are uncorrected for actions of an
    older policy, as is usual with few steps (https://arxiv.org/abs/1710.02298). The rewards must be final when they
    are summed: it comes last in ``data_transformer_ctor``.
    """

    comes_last = True
    needs_samples = True

    def __init__(self, observation_spec, n_step: int = 3, gamma: float = 0.99):
        """
        Args:
            observation_spec: nest of specs of the observation, which stays as it is.
            n_step: number of rewards in a return; ``TrainerConfig.mini_batch_length`` must be one more.
            gamma: the discount factor, the same as that of the loss.
        """
        if n_step < 1:
            raise ValueError(f"NStepReturn.n_step: expected at least 1, got {n_step}.")
        if not 0 <= gamma <= 1:
            raise ValueError(f"NStepReturn.gamma: expected 0 <= gamma <= 1, got {gamma}.")
        super().__init__(observation_spec, state_spec=())
        self._n_step = n_step
        self._gamma = gamma

    def check_training(self, algorithm, config) -> None:
        """Raise also for recurrent networks, and for a loss with another ``gamma``."""
        super().check_training(algorithm, config)
        if nest.flatten(algorithm.train_state_spec):
            raise ValueError(
                f"NStepReturn leaves out the rows between the first and the last of a sequence, but {algorithm.name} "
                "has recurrent networks, which need all of them. Take NStepReturn out of "
                "TrainerConfig.data_transformer_ctor and learn from longer sequences with TDLoss.td_lambda=1 (loss "
                "TDLoss), or use R2d2Algorithm, which has an n_step of its own."
            )
        if self._n_step == 1:
            return  # its gamma is not used
        for loss in algorithm.modules():
            if not isinstance(loss, TDLoss):
                continue
            gamma = torch.as_tensor(loss.gamma)  # of a vector reward [R], in float32
            if bool((gamma != gamma.new_tensor(self._gamma)).any()):
                name = type(loss).__name__
                raise ValueError(
                    f"NStepReturn.gamma: expected that of the loss, {name}.gamma={loss.gamma}, got {self._gamma}. "
                    f"Set both to one number: alf.config('NStepReturn', gamma=...), alf.config('{name}', gamma=...)."
                )

    def transform_timestep(self, timestep: TimeStep, state) -> Tuple[TimeStep, Any]:
        return timestep, state

    def transform_experience(self, experience: Experience) -> Experience:
        """Return the pairs, leaves ``[B, 2, ...]``.

        Raises:
            ValueError: the sequences do not have ``n_step + 1`` steps.
        """
        step_types = experience.step_type
        B, T = step_types.shape
        if T != self._n_step + 1:
            raise ValueError(
                f"TrainerConfig.mini_batch_length: NStepReturn with n_step={self._n_step} needs sequences of "
                f"{self._n_step + 1} steps, got {T}. Set alf.config('TrainerConfig', "
                f"mini_batch_length={self._n_step + 1}) or alf.config('NStepReturn', n_step={max(T - 1, 1)})."
            )
        reward, discount, steps = n_step_transition(
            experience.reward, experience.discount, step_types, self._gamma
        )
        firsts = torch.arange(0, B * T, T, device=steps.device)
        rows = torch.stack([firsts, firsts + steps], dim=1).flatten()

        def pick(leaf: Tensor) -> Tensor:
            # A state may be stored for the first row only.
            return leaf if leaf.shape[1] == 1 else leaf.flatten(0, 1).index_select(0, rows).unflatten(0, (B, 2))

        pairs = {
            field: nest.map_structure(pick, getattr(experience, field))
            for field in ("time_step", "action", "rollout_info", "state")
        }
        time_step = pairs["time_step"]
        pairs["time_step"] = time_step._replace(
            reward=torch.stack([time_step.reward[:, 0], reward], dim=1),
            discount=torch.stack([time_step.discount[:, 0], discount], dim=1),
        )
        batch_info = experience.batch_info
        if batch_info != () and nest.flatten(batch_info.discounted_return):
            batch_info = batch_info._replace(discounted_return=pick(batch_info.discounted_return))
        return experience._replace(batch_info=batch_info, **pairs)
